//! Architectures: their numbers of system calls, and how a filter sees them.

use std::collections::HashMap;

use oci_spec::runtime::Arch as OciArch;
use syscalls::{aarch64, arm, powerpc64, riscv64, s390x, x86, x86_64};

/// An architecture whose system calls are known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 32-bit x86, in compatibility mode or native.
    X86,
    /// x86_64 with 32-bit pointers; the same to a filter but for a bit in the number.
    X32,
    /// 64-bit ARM.
    Aarch64,
    /// 32-bit ARM.
    Arm,
    /// 64-bit RISC-V.
    Riscv64,
    /// 64-bit IBM Z.
    S390x,
    /// Little-endian 64-bit POWER.
    Ppc64le,
}

/// `__X32_SYSCALL_BIT` (asm/unistd.h).
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// Calls whose number in x32 is not that of x86_64, from 512 on (syscall_64.tbl).
const X32_OWN: [&str; 36] = [
    "rt_sigaction",
    "rt_sigreturn",
    "ioctl",
    "readv",
    "writev",
    "recvfrom",
    "sendmsg",
    "recvmsg",
    "execve",
    "ptrace",
    "rt_sigpending",
    "rt_sigtimedwait",
    "rt_sigqueueinfo",
    "sigaltstack",
    "timer_create",
    "mq_notify",
    "kexec_load",
    "waitid",
    "set_robust_list",
    "get_robust_list",
    "vmsplice",
    "move_pages",
    "preadv",
    "pwritev",
    "rt_tgsigqueueinfo",
    "recvmmsg",
    "sendmmsg",
    "process_vm_readv",
    "process_vm_writev",
    "setsockopt",
    "getsockopt",
    "io_setup",
    "io_submit",
    "execveat",
    "preadv2",
    "pwritev2",
];

/// ARM's private calls, which begin at `__ARM_NR_BASE` (asm/unistd.h).
const ARM_PRIVATE: [(u32, &str); 6] = [
    (0x000f_0001, "breakpoint"),
    (0x000f_0002, "cacheflush"),
    (0x000f_0003, "usr26"),
    (0x000f_0004, "usr32"),
    (0x000f_0005, "set_tls"),
    (0x000f_0006, "get_tls"),
];

/// Calls that 32-bit x86, s390x and POWER also take through socketcall(2), with their number there
/// (linux/net.h).
const SOCKETCALLS: [(&str, u64); 20] = [
    ("socket", 1),
    ("bind", 2),
    ("connect", 3),
    ("listen", 4),
    ("accept", 5),
    ("getsockname", 6),
    ("getpeername", 7),
    ("socketpair", 8),
    ("send", 9),
    ("recv", 10),
    ("sendto", 11),
    ("recvfrom", 12),
    ("shutdown", 13),
    ("setsockopt", 14),
    ("getsockopt", 15),
    ("sendmsg", 16),
    ("recvmsg", 17),
    ("accept4", 18),
    ("recvmmsg", 19),
    ("sendmmsg", 20),
];

/// The same for ipc(2) (linux/ipc.h).
const IPC_CALLS: [(&str, u64); 12] = [
    ("semop", 1),
    ("semget", 2),
    ("semctl", 3),
    ("semtimedop", 4),
    ("msgsnd", 11),
    ("msgrcv", 12),
    ("msgget", 13),
    ("msgctl", 14),
    ("shmat", 21),
    ("shmdt", 22),
    ("shmget", 23),
    ("shmctl", 24),
];

impl Arch {
    /// Every one.
    pub const ALL: [Self; 8] = [
        Self::X86_64,
        Self::X86,
        Self::X32,
        Self::Aarch64,
        Self::Arm,
        Self::Riscv64,
        Self::S390x,
        Self::Ppc64le,
    ];

    /// What kelp itself was built for, if it is known here.
    pub const NATIVE: Option<Self> = if cfg!(target_arch = "x86_64") {
        Some(Self::X86_64)
    } else if cfg!(target_arch = "x86") {
        Some(Self::X86)
    } else if cfg!(target_arch = "aarch64") {
        Some(Self::Aarch64)
    } else if cfg!(target_arch = "arm") {
        Some(Self::Arm)
    } else if cfg!(target_arch = "riscv64") {
        Some(Self::Riscv64)
    } else if cfg!(target_arch = "s390x") {
        Some(Self::S390x)
    } else if cfg!(all(target_arch = "powerpc64", target_endian = "little")) {
        Some(Self::Ppc64le)
    } else {
        None
    };

    /// The architectures whose programs a kernel of this one can run, itself first.
    pub fn family(self) -> &'static [Self] {
        match self {
            Self::X86_64 => &[Self::X86_64, Self::X86, Self::X32],
            Self::X86 => &[Self::X86],
            Self::X32 => &[Self::X32],
            Self::Aarch64 => &[Self::Aarch64, Self::Arm],
            Self::Arm => &[Self::Arm],
            Self::Riscv64 => &[Self::Riscv64],
            Self::S390x => &[Self::S390x],
            Self::Ppc64le => &[Self::Ppc64le],
        }
    }

    pub(super) fn from_oci(arch: OciArch, native: Self) -> Option<Self> {
        Some(match arch {
            OciArch::ScmpArchNative => native,
            OciArch::ScmpArchX86 => Self::X86,
            OciArch::ScmpArchX86_64 => Self::X86_64,
            OciArch::ScmpArchX32 => Self::X32,
            OciArch::ScmpArchArm => Self::Arm,
            OciArch::ScmpArchAarch64 => Self::Aarch64,
            OciArch::ScmpArchRiscv64 => Self::Riscv64,
            OciArch::ScmpArchS390x => Self::S390x,
            OciArch::ScmpArchPpc64le => Self::Ppc64le,
            _ => return None,
        })
    }

    pub(super) fn to_oci(self) -> OciArch {
        match self {
            Self::X86_64 => OciArch::ScmpArchX86_64,
            Self::X86 => OciArch::ScmpArchX86,
            Self::X32 => OciArch::ScmpArchX32,
            Self::Aarch64 => OciArch::ScmpArchAarch64,
            Self::Arm => OciArch::ScmpArchArm,
            Self::Riscv64 => OciArch::ScmpArchRiscv64,
            Self::S390x => OciArch::ScmpArchS390x,
            Self::Ppc64le => OciArch::ScmpArchPpc64le,
        }
    }

    /// `AUDIT_ARCH_*` (linux/audit.h): what `seccomp_data.arch` is.
    pub(super) fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
            Self::Riscv64 => 0xc000_00f3,
            Self::S390x => 0x8000_0016,
            Self::Ppc64le => 0xc000_0015,
        }
    }

    /// Whether arguments are 32 bits wide: only their low half is compared, so that a condition
    /// written with a 64-bit -1 holds there too.
    pub(super) fn narrow(self) -> bool {
        matches!(self, Self::X86 | Self::Arm)
    }

    pub(super) fn big_endian(self) -> bool {
        self == Self::S390x
    }

    /// Every call, in no order.
    pub(super) fn calls(self) -> Vec<(u32, &'static str)> {
        // The tables of the crate are enums without a list; a number is a jump table's index.
        macro_rules! table {
            ($arch:ident) => {
                (0..=$arch::Sysno::last().id() as usize)
                    .filter_map(|number| {
                        $arch::Sysno::new(number).map(|call| (number as u32, call.name()))
                    })
                    .collect::<Vec<_>>()
            };
        }
        match self {
            Self::X86_64 => table!(x86_64),
            Self::X86 => table!(x86),
            Self::X32 => {
                let own: HashMap<&str, u32> = X32_OWN.into_iter().zip(512..).collect();
                let mut calls = table!(x86_64);
                for (number, name) in &mut calls {
                    *number = X32_BIT | own.get(name).copied().unwrap_or(*number);
                }
                calls
            }
            Self::Aarch64 => table!(aarch64),
            Self::Arm => {
                let mut calls = table!(arm);
                calls.extend(ARM_PRIVATE);
                calls
            }
            Self::Riscv64 => table!(riscv64),
            Self::S390x => table!(s390x),
            Self::Ppc64le => table!(powerpc64),
        }
    }

    /// Where calls begin whose numbers say nothing about how new they are.
    pub(super) fn private(self) -> u32 {
        match self {
            Self::Arm => 0x000f_0000,
            Self::X32 => X32_BIT | 512,
            _ => u32::MAX,
        }
    }

    /// Calls that can be made through another one, with its first argument for each.
    pub(super) fn multiplexed(self, through: &str) -> impl Iterator<Item = (&'static str, u64)> {
        let here = matches!(self, Self::X86 | Self::S390x | Self::Ppc64le);
        let calls: &[_] = match through {
            "socketcall" if here => &SOCKETCALLS,
            "ipc" if here => &IPC_CALLS,
            _ => &[],
        };
        calls.iter().copied()
    }
}
