//! Tests of the default profile.

use super::*;

use serde_json::Value;

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
        ("quotactl_fd", enosys, enosys),
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

#[test]
fn no_name_is_there_twice_and_each_is_a_call_of_some_architecture() {
    let mut names: Vec<&str> = [ALLOWED, ALLOWED_SINCE]
        .concat()
        .into_iter()
        .flat_map(str::split_whitespace)
        .chain(REFUSED.split_whitespace())
        .chain(WITH.iter().flat_map(|(_, names)| names.split_whitespace()))
        .collect();
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

/// The engines' file, for these capabilities on x86_64, as a profile of the specification.
fn flattened(file: &Value, caps: CapSet) -> LinuxSeccomp {
    let list = |value: &Value, key: &str| -> Vec<String> {
        let names = value[key].as_array().into_iter().flatten();
        names
            .map(|name| name.as_str().unwrap().to_owned())
            .collect()
    };
    let has = |name: &String| caps.contains(Cap::parse(name).unwrap());
    let mut syscalls = Vec::new();
    for entry in file["syscalls"].as_array().unwrap() {
        let (includes, excludes) = (&entry["includes"], &entry["excludes"]);
        let arches = list(includes, "arches");
        if !list(includes, "caps").iter().all(has)
            || list(excludes, "caps").iter().any(has)
            || !(arches.is_empty() || arches.contains(&"amd64".to_owned()))
        {
            continue;
        }
        let mut entry = entry.clone();
        let object = entry.as_object_mut().unwrap();
        object.retain(|key, value| {
            ["names", "action", "args", "errnoRet"].contains(&key.as_str()) && !value.is_null()
        });
        syscalls.push(serde_json::from_value(entry).unwrap());
    }
    let mut profile = LinuxSeccomp::default();
    profile
        .set_default_action(serde_json::from_value(file["defaultAction"].clone()).unwrap())
        .set_default_errno_ret(file["defaultErrnoRet"].as_u64().map(|number| number as u32))
        .set_architectures(Some(
            Arch::X86_64
                .family()
                .iter()
                .map(|arch| arch.to_oci())
                .collect(),
        ))
        .set_syscalls(Some(syscalls));
    profile
}

#[test]
fn the_profile_is_the_one_that_engines_install() {
    let path = "/usr/share/containers/seccomp.json";
    let Ok(text) = std::fs::read_to_string(path) else {
        eprintln!("skipped: {path} of golang-github-containers-common is not installed");
        return;
    };
    let file: Value = serde_json::from_str(&text).unwrap();
    let since: Vec<&str> = ALLOWED_SINCE
        .iter()
        .flat_map(|names| names.split_whitespace())
        .collect();
    let one = |cap| CapSet::DEFAULT.with(cap);
    for caps in [
        CapSet::EMPTY,
        CapSet::DEFAULT,
        CapSet::NAMED,
        one(Cap::SYS_ADMIN),
        one(Cap::AUDIT_WRITE),
        one(Cap::SYS_PTRACE),
        one(Cap::SYS_TIME),
        one(Cap::SYS_MODULE),
    ] {
        let theirs = compiled(&flattened(&file, caps));
        let ours = compiled(&profile_for(Some(Arch::X86_64), caps));
        for arch in [Arch::X86_64, Arch::X86, Arch::X32] {
            for (_, name) in arch.calls() {
                for args in ARGUMENTS {
                    let ours = ask(&ours, arch, name, args);
                    let theirs = ask(&theirs, arch, name, args);
                    if since.contains(&name) {
                        assert_eq!(ours, ALLOW, "{name}");
                    } else {
                        assert_eq!(ours, theirs, "{name} {arch:?} {args:?} {caps:?}");
                    }
                }
            }
        }
    }
}
