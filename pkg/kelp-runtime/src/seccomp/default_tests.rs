//! Tests of the default profile.

use super::*;

use sha2::{Digest, Sha256};

use crate::seccomp::interpreter::{Call, run};
use crate::seccomp::rules::{ALLOW, ERRNO};
use crate::seccomp::{Program, compile};

const ARGUMENTS: [[u64; 6]; 5] = [
    [0; 6],
    [8, 0, 0, 0, 0, 0],
    [16, 0, 9, 0, 0, 0],
    [16, 3, 8, 0, 0, 0],
    [u64::MAX; 6],
];

fn compiled(profile: &LinuxSeccomp) -> Program {
    compile(Some(profile), false, Arch::X86_64).unwrap().program
}

fn ask(program: &Program, arch: Arch, name: &str, args: [u64; 6]) -> u32 {
    let number = number(arch, name).unwrap_or_else(|| panic!("{name}"));
    let call = Call {
        arch: arch.audit(),
        number,
        args,
    };
    run(program.instructions(), &call, false).0
}

fn number(arch: Arch, name: &str) -> Option<u32> {
    let calls = arch.calls();
    let found = calls.into_iter().find(|(_, known)| *known == name);
    found.map(|(number, _)| number)
}

#[test]
fn what_a_container_may_call() {
    let plain = compiled(&profile_for(Some(Arch::X86_64), CapSet::DEFAULT));
    let all = compiled(&profile_for(Some(Arch::X86_64), CapSet::NAMED));
    let (eperm, enosys) = (ERRNO | EPERM, ERRNO | ENOSYS);
    for (name, without, with) in [
        ("read", ALLOW, ALLOW),
        ("clone3", ALLOW, ALLOW),
        ("unshare", ALLOW, ALLOW),
        ("fanotify_init", ALLOW, ALLOW),
        ("cachestat", eperm, eperm),
        ("mseal", enosys, enosys),
        ("mount", ALLOW, ALLOW),
        ("setns", ALLOW, ALLOW),
        ("ptrace", ALLOW, ALLOW),
        ("chroot", ALLOW, ALLOW),
        ("futex_waitv", ALLOW, ALLOW),
        ("fchmodat2", ALLOW, ALLOW),
        ("bpf", eperm, ALLOW),
        ("perf_event_open", eperm, ALLOW),
        ("open_by_handle_at", eperm, ALLOW),
        ("init_module", eperm, ALLOW),
        ("sethostname", eperm, ALLOW),
        ("settimeofday", eperm, ALLOW),
        ("iopl", eperm, ALLOW),
        ("kcmp", eperm, ALLOW),
        ("acct", eperm, ALLOW),
        ("kexec_load", eperm, eperm),
        ("userfaultfd", eperm, eperm),
        ("swapon", eperm, eperm),
        ("io_uring_setup", enosys, enosys),
        ("io_uring_enter", enosys, enosys),
        ("add_key", enosys, enosys),
        ("quotactl_fd", eperm, ALLOW),
    ] {
        for arch in [Arch::X86_64, Arch::X86, Arch::X32] {
            assert_eq!(ask(&plain, arch, name, [0; 6]), without, "{name} {arch:?}");
            assert_eq!(ask(&all, arch, name, [0; 6]), with, "{name} {arch:?}");
        }
    }
    for (args, without) in [
        ([2, 1, 0, 0, 0, 0], ALLOW),
        ([2, 1, 9, 0, 0, 0], ALLOW),
        ([16, 3, 0, 0, 0, 0], ALLOW),
        ([16, 3, 9, 0, 0, 0], ERRNO | EINVAL),
    ] {
        assert_eq!(ask(&plain, Arch::X86_64, "socket", args), without);
        assert_eq!(ask(&all, Arch::X86_64, "socket", args), ALLOW);
    }
    assert_eq!(
        ask(&plain, Arch::X86_64, "personality", [0x8, 0, 0, 0, 0, 0]),
        ALLOW
    );
    assert_eq!(
        ask(
            &plain,
            Arch::X86_64,
            "personality",
            [0x40_0000, 0, 0, 0, 0, 0]
        ),
        enosys
    );

    let some = |cap| compiled(&profile_for(Some(Arch::X86_64), CapSet::of(&[cap])));
    assert_eq!(ask(&some(Cap::BPF), Arch::X86_64, "bpf", [0; 6]), ALLOW);
    assert_eq!(ask(&some(Cap::PERFMON), Arch::X86_64, "bpf", [0; 6]), eperm);
    assert_eq!(
        ask(&some(Cap::PERFMON), Arch::X86_64, "perf_event_open", [0; 6]),
        ALLOW
    );
}

/// Every name of the profile's lists.
fn listed() -> Vec<&'static str> {
    let lists = ALLOWED
        .iter()
        .copied()
        .chain([OF_ONE_ARCHITECTURE, TRAMPOLINES, REFUSED]);
    let conditional = WITH.iter().map(|(_, names)| *names);
    let names = lists.chain(conditional).flat_map(str::split_whitespace);
    names.collect()
}

#[test]
fn no_name_is_there_twice_and_each_is_a_call_of_some_architecture() {
    let mut names = listed();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count);

    let everywhere: std::collections::HashSet<&str> = [
        Arch::X86_64,
        Arch::X86,
        Arch::Aarch64,
        Arch::Arm,
        Arch::Riscv64,
        Arch::S390x,
        Arch::Ppc64le,
    ]
    .into_iter()
    .flat_map(Arch::calls)
    .map(|(_, name)| name)
    .collect();
    names.retain(|name| !everywhere.contains(name));
    assert!(names.is_empty(), "{names:?}");
}

/// What containers-common's seccomp.json of March 2026 says: of its long lists the number of names
/// and the first half of a SHA-256 over them, sorted, a line each; the rest word by word.
mod facts {
    pub(super) const ALLOWED: (usize, &str) = (374, "75c791794f82a31235616b1e0a47dccb");
    /// With "syscall", which is a call of no machine that is left.
    pub(super) const REFUSED: (usize, &str) = (31, "26c72a24d4250e92d8216447f9fef393");
    pub(super) const OF_ONE_ARCHITECTURE: &str = "arch_prctl arm_fadvise64_64 arm_sync_file_range \
        breakpoint cacheflush modify_ldt riscv_flush_icache s390_pci_mmio_read \
        s390_pci_mmio_write s390_runtime_instr set_tls swapcontext sync_file_range2";
    /// EPERM but for those who have one of the capabilities.
    pub(super) const WITH: &[(&[&str], &str)] = &[
        (&["CAP_DAC_READ_SEARCH"], "open_by_handle_at"),
        (
            &["CAP_SYS_ADMIN"],
            "lookup_dcookie quotactl quotactl_fd setdomainname sethostname",
        ),
        (&["CAP_SYS_ADMIN", "CAP_BPF"], "bpf"),
        (&["CAP_SYS_ADMIN", "CAP_PERFMON"], "perf_event_open"),
        (&["CAP_SYS_CHROOT"], "chroot"),
        (
            &["CAP_SYS_MODULE"],
            "delete_module finit_module init_module query_module",
        ),
        (&["CAP_SYS_PACCT"], "acct"),
        (&["CAP_SYS_PTRACE"], "kcmp process_madvise"),
        (&["CAP_SYS_RAWIO"], "ioperm iopl"),
        (
            &["CAP_SYS_TIME"],
            "clock_settime clock_settime64 settimeofday stime",
        ),
        (&["CAP_SYS_TTY_CONFIG"], "vhangup"),
    ];
    /// Arguments of socket(2), and the error number without and with `CAP_AUDIT_WRITE`.
    pub(super) const SOCKETS: &[([u64; 6], u32, u32)] = &[
        ([2, 1, 0, 0, 0, 0], 0, 0),
        ([2, 1, 9, 0, 0, 0], 0, 0),
        ([16, 3, 0, 0, 0, 0], 0, 0),
        ([16, 3, 9, 0, 0, 0], 22, 0),
        ([17, 3, 9, 0, 0, 0], 0, 0),
        ([40, 1, 0, 0, 0, 0], 1, 1),
        ([40, 1, 9, 0, 0, 0], 1, 1),
        ([41, 1, 0, 0, 0, 0], 0, 0),
    ];
    pub(super) const PERSONALITIES: &[u64] = &[0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];
    /// What is not listed.
    pub(super) const OTHERWISE: u32 = 38;
}

/// The number of names, and the first half of a SHA-256 over them.
fn digest(mut names: Vec<&str>) -> (usize, String) {
    names.sort_unstable();
    let mut hash = Sha256::new();
    for name in &names {
        hash.update(name);
        hash.update("\n");
    }
    let half = &hash.finalize()[..16];
    let hex = half.iter().map(|byte| format!("{byte:02x}"));
    (names.len(), hex.collect())
}

fn words<'a>(lists: &[&'a str]) -> Vec<&'a str> {
    lists
        .iter()
        .flat_map(|list| list.split_whitespace())
        .collect()
}

#[test]
fn the_profile_is_the_one_that_engines_ship() {
    let same =
        |(count, half): (usize, &str), names| assert_eq!(digest(names), (count, half.into()));
    same(facts::ALLOWED, words(ALLOWED));
    same(facts::REFUSED, words(&[REFUSED, "syscall"]));
    assert_eq!(
        words(&[OF_ONE_ARCHITECTURE]),
        words(&[facts::OF_ONE_ARCHITECTURE])
    );

    let plain = profile_for(Some(Arch::X86_64), CapSet::EMPTY);
    let audit = profile_for(Some(Arch::X86_64), CapSet::of(&[Cap::AUDIT_WRITE]));
    let (plain, audit) = (compiled(&plain), compiled(&audit));
    let result = |errno: u32| if errno == 0 { ALLOW } else { ERRNO | errno };
    for &arch in Arch::X86_64.family() {
        for (_, name) in arch.calls() {
            let got = |args| ask(&plain, arch, name, args);
            let among = |lists: &[&str]| words(lists).contains(&name);
            let with = facts::WITH.iter().any(|(_, names)| among(&[names]));
            if name == "socket" || name == "personality" {
                continue;
            }
            let wanted = if among(ALLOWED) || among(&[OF_ONE_ARCHITECTURE, TRAMPOLINES]) {
                0
            } else if with || among(&[REFUSED]) {
                EPERM
            } else {
                facts::OTHERWISE
            };
            for args in ARGUMENTS {
                assert_eq!(got(args), result(wanted), "{name} {arch:?} {args:?}");
            }
        }
        for (args, without, with) in facts::SOCKETS {
            assert_eq!(
                ask(&plain, arch, "socket", *args),
                result(*without),
                "{args:?}"
            );
            assert_eq!(
                ask(&audit, arch, "socket", *args),
                result(*with),
                "{args:?}"
            );
        }
        for personality in facts::PERSONALITIES
            .iter()
            .copied()
            .chain([1, 0x40_0000, 1 << 32])
        {
            let known = facts::PERSONALITIES.contains(&personality)
                || (arch == Arch::X86 && personality == 1 << 32);
            let wanted = if known { 0 } else { facts::OTHERWISE };
            let got = ask(&plain, arch, "personality", [personality, 0, 0, 0, 0, 0]);
            assert_eq!(got, result(wanted), "{personality:#x} {arch:?}");
        }
    }
}

#[test]
fn a_capability_allows_its_calls_and_no_others() {
    for own in crate::capabilities::known_names() {
        let cap = Cap::parse(&own).unwrap();
        let program = compiled(&profile_for(Some(Arch::X86_64), CapSet::of(&[cap])));
        for (any, names) in facts::WITH {
            let wanted = if any.contains(&own.as_str()) {
                ALLOW
            } else {
                ERRNO | EPERM
            };
            for name in names.split_whitespace() {
                for arch in [Arch::X86_64, Arch::X86] {
                    if number(arch, name).is_some() {
                        assert_eq!(ask(&program, arch, name, [0; 6]), wanted, "{name} {own}");
                    }
                }
            }
        }
    }
}
