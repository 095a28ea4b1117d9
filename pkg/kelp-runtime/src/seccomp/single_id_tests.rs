//! Tests of the filter for one mapped id.

use oci_spec::runtime::LinuxSeccomp;
use serde_json::json;

use crate::capabilities::CapSet;
use crate::seccomp::interpreter::{Call, run};
use crate::seccomp::{Arch, Program, compile, default_profile, plan};

#[test]
fn with_one_id_chown_and_setgroups_are_answered_where_the_profile_allows_them() {
    const ALLOW: u32 = 0x7fff_0000;
    const DONE: u32 = 0x0005_0000;
    const NONE: u64 = 0xffff_ffff;
    let standard = default_profile(CapSet::DEFAULT);
    let strict: LinuxSeccomp = serde_json::from_value(json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [
            { "names": ["lchown"], "action": "SCMP_ACT_ERRNO", "errnoRet": 13 },
            { "names": ["fchown"], "action": "SCMP_ACT_LOG",
              "args": [{ "index": 0, "value": 7, "op": "SCMP_CMP_EQ" }] },
            { "names": ["setgroups", "setgroups32"], "action": "SCMP_ACT_ERRNO",
              "args": [{ "index": 0, "value": 3, "op": "SCMP_CMP_GT" }] },
        ],
    }))
    .unwrap();
    let programs = [None, Some(&standard), Some(&strict)]
        .map(|profile| compile(profile, true, Arch::X86_64).unwrap().program);
    let ask = |program: &Program, arch: Arch, name, args: [u64; 6]| {
        let calls = arch.calls();
        let call = Call {
            arch: arch.audit(),
            number: calls.iter().find(|(_, known)| *known == name).unwrap().0,
            args,
        };
        run(program.instructions(), &call, false).0
    };
    let (wide, own) = ([Arch::X86_64, Arch::X32], [Arch::X86]);
    for (archs, name, args, want) in [
        (&wide[..], "chown", [9, 0, 0, 0, 0, 0], ALLOW),
        (&wide, "chown", [9, 0, NONE, 0, 0, 0], ALLOW),
        (&wide, "chown", [9, NONE, u64::MAX, 0, 0, 0], ALLOW),
        (&wide, "chown", [9, 1, 0, 0, 0, 0], DONE),
        (&wide, "chown", [9, 0, 33, 0, 0, 0], DONE),
        (&wide, "chown", [9, 0xffff, 0, 0, 0, 0], DONE),
        // The kernel looks at 32 bits.
        (&wide, "chown", [9, 1 << 32, 0, 0, 0, 0], ALLOW),
        (&wide, "fchownat", [9, 9, 0, 0, 1, 0], ALLOW),
        (&wide, "fchownat", [9, 9, 0, 8, 1, 0], DONE),
        (&wide, "fchown", [9, 8, 8, 0, 0, 0], DONE),
        (&wide, "setgroups", [0, 0, 0, 0, 0, 0], DONE),
        (&wide, "setresuid", [5, 5, 5, 0, 0, 0], ALLOW),
        (&wide, "mknod", [9, 0o020_666, 259, 0, 0, 0], ALLOW),
        // Old calls have ids of 16 bits.
        (&own, "chown", [9, 0xffff, 0, 0, 0, 0], ALLOW),
        (&own, "chown", [9, 0xfffe, 0, 0, 0, 0], DONE),
        (&own, "chown32", [9, 0xffff, 0, 0, 0, 0], DONE),
        (&own, "fchownat", [9, 9, 0xffff, 0, 1, 0], DONE),
        (&own, "setgroups32", [0, 0, 0, 0, 0, 0], DONE),
    ] {
        for program in &programs {
            for &arch in archs {
                assert_eq!(ask(program, arch, name, args), want, "{name} {args:?}");
            }
        }
    }
    let strict = &programs[2];
    for (name, args, want) in [
        ("lchown", [9, 5, 5, 0, 0, 0], 0x0005_000d),
        ("fchown", [7, 5, 5, 0, 0, 0], 0x7ffc_0000),
        ("fchown", [8, 5, 5, 0, 0, 0], DONE),
        ("setgroups", [4, 0, 0, 0, 0, 0], 0x0005_0001),
        ("setgroups", [3, 0, 0, 0, 0, 0], DONE),
    ] {
        assert_eq!(
            ask(strict, Arch::X86_64, name, args),
            want,
            "{name} {args:?}"
        );
    }
    // Without a profile nothing else changes, whatever the architecture.
    let foreign = Call {
        arch: 0x1234_5678,
        number: 1,
        args: [0; 6],
    };
    assert_eq!(run(programs[0].instructions(), &foreign, false).0, ALLOW);
    assert!(plan(None, false).unwrap().is_none());
}
