//! Capabilities: names and bits, the sets of a container, and how a process takes them on.
//!
//! A container's inheritable set is empty (CVE-2022-27649): a program that starts others as root
//! would otherwise hand them capabilities through file capabilities that nobody asked for. The one
//! exception is what the ambient set needs, for the kernel keeps ambient within inheritable
//! (capabilities(7)); and a specification from elsewhere that asks for more is followed.
//!
//! A thread takes them on in an order that the kernel's rules set, each step needing what a later
//! one gives up:
//! 1. [`drop_bounding`], which takes `CAP_SETPCAP`, and [`keep_over_setuid`];
//! 2. setgroups, setresgid, setresuid, which take `CAP_SETGID` and `CAP_SETUID`;
//! 3. a seccomp filter without no_new_privs, which takes an effective `CAP_SYS_ADMIN`, so
//!    [`regain_effective`] before it;
//! 4. [`apply`]: permitted, effective and inheritable by one capset(2), then ambient.
//!
//! rustix has these calls. None of them allocates.

use std::fmt;
use std::fs;
use std::io;

use oci_spec::runtime::{Capability, LinuxCapabilities};
use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::error::Error;

/// Names without `CAP_`, at the place of their bit (linux/capability.h).
const NAMES: [(&str, Capability); 41] = [
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
pub struct Cap(u8);

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

/// A set of capabilities.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize,
)]
#[serde(transparent)]
pub struct CapSet(u64);

impl CapSet {
    /// No capability.
    pub const EMPTY: Self = Self(0);

    /// What a container has unless more or less is asked for: enough to be root over its own files
    /// and ids, and nothing that reaches the kernel's configuration.
    pub const DEFAULT: Self = Self::of(&[
        Cap::CHOWN,
        Cap::DAC_OVERRIDE,
        Cap::FOWNER,
        Cap::FSETID,
        Cap::KILL,
        Cap::NET_BIND_SERVICE,
        Cap::SETFCAP,
        Cap::SETGID,
        Cap::SETPCAP,
        Cap::SETUID,
        Cap::SYS_CHROOT,
    ]);

    /// Every capability that has a name here.
    pub const NAMED: Self = Self((1 << NAMES.len()) - 1);

    /// The set of these.
    pub const fn of(caps: &[Cap]) -> Self {
        let mut bits = 0;
        let mut i = 0;
        while i < caps.len() {
            bits |= 1 << caps[i].0;
            i += 1;
        }
        Self(bits)
    }

    /// The set with these bits.
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The bits.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Capabilities 0 to `last`, the content of `/proc/sys/kernel/cap_last_cap`.
    pub const fn up_to(last: u8) -> Self {
        if last >= 63 {
            return Self(u64::MAX);
        }
        Self((1 << (last + 1)) - 1)
    }

    /// What the running kernel and this table both know. Reads /proc.
    pub fn known() -> io::Result<Self> {
        let text = fs::read_to_string("/proc/sys/kernel/cap_last_cap")?;
        let last = text.trim().parse::<u8>().map_err(io::Error::other)?;
        Ok(Self::up_to(last).intersection(Self::NAMED))
    }

    /// Whether it has no member.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Whether `cap` is a member.
    pub const fn contains(self, cap: Cap) -> bool {
        self.0 & (1 << cap.0) != 0
    }

    /// This and `cap`.
    #[must_use]
    pub const fn with(self, cap: Cap) -> Self {
        Self(self.0 | 1 << cap.0)
    }

    /// This without `cap`.
    #[must_use]
    pub const fn without(self, cap: Cap) -> Self {
        Self(self.0 & !(1 << cap.0))
    }

    /// The members of either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The members of both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The members that `other` lacks.
    #[must_use]
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// The members, lowest bit first.
    pub fn iter(self) -> impl Iterator<Item = Cap> {
        (0..64)
            .map(Cap)
            .filter(move |cap| self.0 & (1 << cap.0) != 0)
    }

    /// The members' names, sorted, as `inspect` and OCI documents show them.
    pub fn names(self) -> Vec<String> {
        let mut names: Vec<String> = self.iter().map(|cap| cap.to_string()).collect();
        names.sort();
        names
    }

    /// The members as OCI has them; those it has no name for are left out.
    pub fn to_oci(self) -> oci_spec::runtime::Capabilities {
        NAMES
            .iter()
            .enumerate()
            .filter(|(bit, _)| self.contains(Cap(*bit as u8)))
            .map(|(_, (_, oci))| *oci)
            .collect()
    }

    /// The set that an OCI list names.
    pub fn from_oci(list: Option<&oci_spec::runtime::Capabilities>) -> Self {
        let mut bits = 0;
        for oci in list.into_iter().flatten() {
            if let Some(bit) = NAMES.iter().position(|(_, known)| known == oci) {
                bits |= 1 << bit;
            }
        }
        Self(bits)
    }

    fn kernel(self) -> CapabilitySet {
        CapabilitySet::from_bits_retain(self.0)
    }
}

/// `base` with what `--cap-add` and `--cap-drop` ask for.
///
/// `ALL` on one side sets the start: dropped, only what is added remains; added, everything of
/// `known` (see [`CapSet::known`]) but what is dropped. A name on both sides, or `ALL` on both, is
/// an error, as is an added capability that the kernel does not know.
pub fn adjust(
    base: CapSet,
    add: &[impl AsRef<str>],
    drop: &[impl AsRef<str>],
    known: CapSet,
) -> Result<CapSet, Error> {
    let (add_all, add) = parse_list(add)?;
    let (drop_all, drop) = parse_list(drop)?;
    if add_all && drop_all {
        return Err(Error::Spec(
            "adding all capabilities and dropping all capabilities is not allowed".to_owned(),
        ));
    }
    if let Some(cap) = add.intersection(drop).iter().next() {
        return Err(Error::Spec(format!(
            "capability {cap} can't be both added and dropped"
        )));
    }
    if let Some(cap) = add.difference(known).iter().next() {
        return Err(Error::Spec(format!(
            "capability {cap} can't be added: this kernel does not have it"
        )));
    }
    let start = match (add_all, drop_all) {
        (true, _) => known,
        (_, true) => CapSet::EMPTY,
        _ => base.intersection(known),
    };
    Ok(start.union(add).difference(drop))
}

fn parse_list(list: &[impl AsRef<str>]) -> Result<(bool, CapSet), Error> {
    let mut all = false;
    let mut set = CapSet::EMPTY;
    for name in list {
        let name = name.as_ref();
        if name.eq_ignore_ascii_case("ALL") || name.eq_ignore_ascii_case("CAP_ALL") {
            all = true;
        } else {
            set = set.with(Cap::parse(name)?);
        }
    }
    Ok((all, set))
}

/// The five sets of a process (capabilities(7)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CapSets {
    /// What no exec can go past.
    pub bounding: CapSet,
    /// What is checked.
    pub effective: CapSet,
    /// What an exec of a file with inheritable capabilities keeps.
    pub inheritable: CapSet,
    /// What can be made effective.
    pub permitted: CapSet,
    /// What an exec of an ordinary file keeps.
    pub ambient: CapSet,
}

impl CapSets {
    /// The sets of a container that may have `set`.
    ///
    /// Root has them from the start. Another user starts without and gets at them only through
    /// set-user-ID files, except those of `added`, which were asked for by name and so would be of
    /// no use otherwise: they are ambient.
    pub fn for_user(root: bool, set: CapSet, added: CapSet) -> Self {
        if root {
            return Self {
                bounding: set,
                effective: set,
                permitted: set,
                ..Self::default()
            };
        }
        let own = added.intersection(set);
        Self {
            bounding: set,
            effective: own,
            inheritable: own,
            permitted: own,
            ambient: own,
        }
    }

    /// The sets of an OCI specification. Without any, a process has none, as with runc.
    ///
    /// The ambient set is made to fit in the permitted and inheritable ones (capabilities(7)), and
    /// these two to hold it: a specification that gives ambient alone means it.
    pub fn from_oci(capabilities: Option<&LinuxCapabilities>) -> Self {
        let Some(given) = capabilities else {
            return Self::default();
        };
        let ambient = CapSet::from_oci(given.ambient().as_ref());
        Self {
            bounding: CapSet::from_oci(given.bounding().as_ref()),
            effective: CapSet::from_oci(given.effective().as_ref()),
            inheritable: CapSet::from_oci(given.inheritable().as_ref()).union(ambient),
            permitted: CapSet::from_oci(given.permitted().as_ref()).union(ambient),
            ambient,
        }
    }

    /// The sets as OCI has them; an empty one is left out.
    pub fn to_oci(&self) -> LinuxCapabilities {
        let list = |set: CapSet| (!set.is_empty()).then(|| set.to_oci());
        let mut oci = LinuxCapabilities::default();
        oci.set_bounding(list(self.bounding))
            .set_effective(list(self.effective))
            .set_inheritable(list(self.inheritable))
            .set_permitted(list(self.permitted))
            .set_ambient(list(self.ambient));
        oci
    }
}

/// Lets the permitted set outlive a change to another user id; without it the kernel clears all
/// sets when the last user id 0 goes (capabilities(7)). [`apply`] ends it.
pub fn keep_over_setuid() -> io::Result<()> {
    Ok(rustix::thread::set_keep_capabilities(true)?)
}

/// Lowers the bounding set to that of `sets`. Takes `CAP_SETPCAP`.
///
/// Goes up to the first number that the kernel refuses, so that one that came after this table is
/// dropped too.
pub fn drop_bounding(sets: &CapSets) -> io::Result<()> {
    for cap in (0..64).map(Cap) {
        let bit = CapSet::of(&[cap]).kernel();
        match rustix::thread::capability_is_in_bounding_set(bit) {
            Ok(true) if !sets.bounding.contains(cap) => {
                rustix::thread::remove_capability_from_bounding_set(bit)?;
            }
            Ok(_) => {}
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Makes everything permitted effective again, after a change of user id that emptied the effective
/// set: a seccomp filter without no_new_privs takes an effective `CAP_SYS_ADMIN`.
pub fn regain_effective() -> io::Result<()> {
    let mut sets = rustix::thread::capabilities(None)?;
    sets.effective = sets.permitted;
    Ok(rustix::thread::set_capabilities(None, sets)?)
}

/// Gives the calling thread, whose ids are final, the four sets beside the bounding one.
pub fn apply(sets: &CapSets) -> io::Result<()> {
    rustix::thread::set_capabilities(
        None,
        CapabilitySets {
            effective: sets.effective.kernel(),
            permitted: sets.permitted.kernel(),
            inheritable: sets.inheritable.kernel(),
        },
    )?;
    // Setting other ids has cleared the ambient set, a change from root to root has not.
    rustix::thread::clear_ambient_capability_set()?;
    for cap in sets.ambient.iter() {
        let bit = CapSet::of(&[cap]).kernel();
        rustix::thread::configure_capability_in_ambient_set(bit, true)?;
    }
    Ok(rustix::thread::set_keep_capabilities(false)?)
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

#[cfg(test)]
#[path = "capabilities/tests.rs"]
mod tests;
