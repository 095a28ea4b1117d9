//! One capability: its bit and its names.

use std::fmt;

use oci_spec::runtime::Capability;

use crate::error::Error;

/// Names without `CAP_`, at the place of their bit (linux/capability.h).
pub(super) const NAMES: [(&str, Capability); 41] = [
    ("CHOWN", Capability::Chown),
    ("DAC_OVERRIDE", Capability::DacOverride),
    ("DAC_READ_SEARCH", Capability::DacReadSearch),
    ("FOWNER", Capability::Fowner),
    ("FSETID", Capability::Fsetid),
    ("KILL", Capability::Kill),
    ("SETGID", Capability::Setgid),
    ("SETUID", Capability::Setuid),
    ("SETPCAP", Capability::Setpcap),
    ("LINUX_IMMUTABLE", Capability::LinuxImmutable),
    ("NET_BIND_SERVICE", Capability::NetBindService),
    ("NET_BROADCAST", Capability::NetBroadcast),
    ("NET_ADMIN", Capability::NetAdmin),
    ("NET_RAW", Capability::NetRaw),
    ("IPC_LOCK", Capability::IpcLock),
    ("IPC_OWNER", Capability::IpcOwner),
    ("SYS_MODULE", Capability::SysModule),
    ("SYS_RAWIO", Capability::SysRawio),
    ("SYS_CHROOT", Capability::SysChroot),
    ("SYS_PTRACE", Capability::SysPtrace),
    ("SYS_PACCT", Capability::SysPacct),
    ("SYS_ADMIN", Capability::SysAdmin),
    ("SYS_BOOT", Capability::SysBoot),
    ("SYS_NICE", Capability::SysNice),
    ("SYS_RESOURCE", Capability::SysResource),
    ("SYS_TIME", Capability::SysTime),
    ("SYS_TTY_CONFIG", Capability::SysTtyConfig),
    ("MKNOD", Capability::Mknod),
    ("LEASE", Capability::Lease),
    ("AUDIT_WRITE", Capability::AuditWrite),
    ("AUDIT_CONTROL", Capability::AuditControl),
    ("SETFCAP", Capability::Setfcap),
    ("MAC_OVERRIDE", Capability::MacOverride),
    ("MAC_ADMIN", Capability::MacAdmin),
    ("SYSLOG", Capability::Syslog),
    ("WAKE_ALARM", Capability::WakeAlarm),
    ("BLOCK_SUSPEND", Capability::BlockSuspend),
    ("AUDIT_READ", Capability::AuditRead),
    ("PERFMON", Capability::Perfmon),
    ("BPF", Capability::Bpf),
    ("CHECKPOINT_RESTORE", Capability::CheckpointRestore),
];

/// One capability, by its bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Cap(pub(super) u8);

impl Cap {
    /// `CAP_CHOWN`
    pub const CHOWN: Self = Self(0);
    /// `CAP_DAC_OVERRIDE`
    pub const DAC_OVERRIDE: Self = Self(1);
    /// `CAP_DAC_READ_SEARCH`
    pub const DAC_READ_SEARCH: Self = Self(2);
    /// `CAP_FOWNER`
    pub const FOWNER: Self = Self(3);
    /// `CAP_FSETID`
    pub const FSETID: Self = Self(4);
    /// `CAP_KILL`
    pub const KILL: Self = Self(5);
    /// `CAP_SETGID`
    pub const SETGID: Self = Self(6);
    /// `CAP_SETUID`
    pub const SETUID: Self = Self(7);
    /// `CAP_SETPCAP`
    pub const SETPCAP: Self = Self(8);
    /// `CAP_NET_BIND_SERVICE`
    pub const NET_BIND_SERVICE: Self = Self(10);
    /// `CAP_NET_ADMIN`
    pub const NET_ADMIN: Self = Self(12);
    /// `CAP_NET_RAW`
    pub const NET_RAW: Self = Self(13);
    /// `CAP_SYS_MODULE`
    pub const SYS_MODULE: Self = Self(16);
    /// `CAP_SYS_RAWIO`
    pub const SYS_RAWIO: Self = Self(17);
    /// `CAP_SYS_CHROOT`
    pub const SYS_CHROOT: Self = Self(18);
    /// `CAP_SYS_PTRACE`
    pub const SYS_PTRACE: Self = Self(19);
    /// `CAP_SYS_PACCT`
    pub const SYS_PACCT: Self = Self(20);
    /// `CAP_SYS_ADMIN`
    pub const SYS_ADMIN: Self = Self(21);
    /// `CAP_SYS_BOOT`
    pub const SYS_BOOT: Self = Self(22);
    /// `CAP_SYS_NICE`
    pub const SYS_NICE: Self = Self(23);
    /// `CAP_SYS_TIME`
    pub const SYS_TIME: Self = Self(25);
    /// `CAP_SYS_TTY_CONFIG`
    pub const SYS_TTY_CONFIG: Self = Self(26);
    /// `CAP_AUDIT_WRITE`
    pub const AUDIT_WRITE: Self = Self(29);
    /// `CAP_SETFCAP`
    pub const SETFCAP: Self = Self(31);
    /// `CAP_SYSLOG`
    pub const SYSLOG: Self = Self(34);
    /// `CAP_PERFMON`
    pub const PERFMON: Self = Self(38);
    /// `CAP_BPF`
    pub const BPF: Self = Self(39);

    /// Reads a name, in any case, with or without `CAP_`.
    ///
    /// # Errors
    /// An unknown name, with the nearest known one.
    pub fn parse(name: &str) -> Result<Self, Error> {
        let upper = name.to_ascii_uppercase();
        let plain = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if let Some(bit) = NAMES.iter().position(|(known, _)| *known == plain) {
            return Ok(Self(bit as u8));
        }
        let hint = match nearest(plain) {
            Some(known) => format!(": did you mean {known}?"),
            None => String::new(),
        };
        Err(Error::Spec(format!("unknown capability \"{name}\"{hint}")))
    }

    /// The bit's number.
    pub const fn bit(self) -> u8 {
        self.0
    }
}

/// `CAP_…`, as specifications and people write it.
impl fmt::Display for Cap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.get(usize::from(self.0)) {
            Some((name, _)) => write!(f, "CAP_{name}"),
            None => write!(f, "capability {}", self.0),
        }
    }
}

/// The known name that is the fewest edits away, if that is few.
fn nearest(name: &str) -> Option<&'static str> {
    if name.len() > 32 {
        return None;
    }
    NAMES
        .iter()
        .map(|(known, _)| (distance(name.as_bytes(), known.as_bytes()), *known))
        .min()
        .filter(|&(edits, known)| edits <= known.len().div_ceil(3))
        .map(|(_, known)| known)
}

/// Levenshtein's distance, one row at a time.
fn distance(a: &[u8], b: &[u8]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, &x) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &y) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(x != y);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
