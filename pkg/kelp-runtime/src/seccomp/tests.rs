//! Tests of compiled filters.

use super::interpreter::{Call, run};
use super::oracle::Oracle;
use super::*;
use crate::capabilities::CapSet;

use serde_json::json;

const NATIVES: [Arch; 7] = [
    Arch::X86_64,
    Arch::X86,
    Arch::Aarch64,
    Arch::Arm,
    Arch::Riscv64,
    Arch::S390x,
    Arch::Ppc64le,
];

pub(super) fn profile(document: serde_json::Value) -> LinuxSeccomp {
    serde_json::from_value(document).unwrap()
}

pub(super) fn built(document: serde_json::Value) -> Result<Compiled, String> {
    compile(Some(&profile(document)), false, Arch::X86_64).map_err(|error| error.to_string())
}

/// xorshift64*: the same numbers in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() >> 33) as usize % end
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }

    /// Numbers that lie close to one another, so that comparisons go either way.
    fn argument(&mut self) -> u64 {
        let word = |random: &mut Self| {
            random.pick(&[
                0,
                1,
                2,
                9,
                16,
                0xffff,
                0x7fff_ffff,
                0x8000_0000,
                0xffff_fffe,
                0xffff_ffff,
            ])
        };
        (word(self) << (32 * self.below(2))) | (word(self) * self.below(2) as u64)
    }

    fn profile(&mut self, names: &[&str]) -> LinuxSeccomp {
        let actions = [
            "SCMP_ACT_ALLOW",
            "SCMP_ACT_ERRNO",
            "SCMP_ACT_KILL",
            "SCMP_ACT_KILL_PROCESS",
            "SCMP_ACT_KILL_THREAD",
            "SCMP_ACT_TRAP",
            "SCMP_ACT_TRACE",
            "SCMP_ACT_LOG",
            "SCMP_ACT_NOTIFY",
        ];
        let operators = [
            "SCMP_CMP_NE",
            "SCMP_CMP_LT",
            "SCMP_CMP_LE",
            "SCMP_CMP_EQ",
            "SCMP_CMP_GE",
            "SCMP_CMP_GT",
            "SCMP_CMP_MASKED_EQ",
        ];
        let errno = |random: &mut Self, action: &str| {
            let takes = matches!(action, "SCMP_ACT_ERRNO" | "SCMP_ACT_TRACE");
            (takes && random.below(2) == 0).then(|| random.below(4096))
        };
        let default = self.pick(&actions[..8]);
        let mut syscalls = Vec::new();
        for _ in 0..self.below(40) {
            let action = self.pick(&actions);
            let args: Vec<_> = (0..self.below(4).saturating_sub(1) * (1 + self.below(2)))
                .map(|_| {
                    json!({
                        "index": self.below(6),
                        "op": self.pick(&operators),
                        "value": self.argument(),
                        "valueTwo": self.argument(),
                    })
                })
                .collect();
            let count = 1 + self.below(30);
            syscalls.push(json!({
                "names": (0..count).map(|_| self.pick(names)).collect::<Vec<_>>(),
                "action": action,
                "errnoRet": errno(self, action),
                "args": args,
            }));
        }
        profile(json!({
            "defaultAction": default,
            "defaultErrnoRet": errno(self, default),
            "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_ARM"],
            "listenerPath": "/run/agent",
            "syscalls": syscalls,
        }))
    }
}

#[test]
fn programs_do_what_profiles_say() {
    let mut random = Random(0x6b65_6c70_6b65_6c70);
    for round in 0..210 {
        let native = NATIVES[round % NATIVES.len()];
        let mut names: Vec<&str> = native.calls().into_iter().map(|(_, name)| name).collect();
        names.extend(["socket", "ipc", "semop", "no_such_call"]);
        let profile = random.profile(&names);
        let archs: Vec<Arch> = native
            .family()
            .iter()
            .copied()
            .filter(|arch| *arch == native || matches!(arch, Arch::X86 | Arch::Arm))
            .collect();
        let program = compile(Some(&profile), false, native).unwrap().program;
        let oracle = Oracle::new(&profile, &archs);
        let mut calls = Vec::new();
        for &arch in native.family() {
            let all = arch.calls();
            for _ in 0..150 {
                calls.push((arch.audit(), random.pick(&all).0));
            }
            let last = all.iter().map(|(number, _)| *number).max().unwrap();
            for number in [0, last, last + 1, 470, 0x4000_0000, u32::MAX - 1, u32::MAX] {
                calls.push((arch.audit(), number));
            }
        }
        calls.push((0x1234_5678, 1));
        for (arch, number) in calls {
            let call = Call {
                arch,
                number,
                args: std::array::from_fn(|_| random.argument()),
            };
            let want = oracle.evaluate(&call);
            let (got, _) = run(program.instructions(), &call, native.big_endian());
            assert_eq!(got, want, "round {round}, {call:x?}, {profile:?}");
        }
    }
}

#[test]
fn every_number_of_the_default_profile_is_searched_right() {
    for native in NATIVES {
        let mut profile = default_profile(CapSet::DEFAULT);
        let family = native.family().iter();
        profile.set_architectures(Some(family.map(|arch| arch.to_oci()).collect()));
        let program = compile(Some(&profile), false, native).unwrap().program;
        assert!(program.instructions().len() < 700);
        let oracle = Oracle::new(&profile, native.family());
        for &arch in native.family() {
            let base = if arch == Arch::X32 { 0x4000_0000 } else { 0 };
            for number in (base..base + 600).chain(0x000f_0000..0x000f_0008) {
                let call = Call {
                    arch: arch.audit(),
                    number,
                    args: [16, 0, 9, 0, 0, 0],
                };
                let want = oracle.evaluate(&call);
                let (got, steps) = run(program.instructions(), &call, native.big_endian());
                assert_eq!(got, want, "{arch:?} {number}");
                assert!(steps < 40, "{steps} instructions for {number}");
            }
        }
    }
}

/// Enough different outcomes that they do not fit in the reach of one jump.
#[test]
fn long_programs_jump_further_than_255_instructions() {
    let names: Vec<&str> = Arch::X86_64
        .calls()
        .into_iter()
        .map(|(_, name)| name)
        .collect();
    let syscalls: Vec<_> = names
        .iter()
        .enumerate()
        .map(|(i, name)| {
            let args = json!([{ "index": i % 6, "op": "SCMP_CMP_GT", "value": i << 30 }]);
            json!({ "names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": i, "args": args })
        })
        .collect();
    let profile = profile(json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": syscalls }));
    let program = compile(Some(&profile), false, Arch::X86_64)
        .unwrap()
        .program;
    assert!(program.instructions().len() > 1500);
    let oracle = Oracle::new(&profile, &[Arch::X86_64]);
    for number in 0..480 {
        for argument in [0, (number as u64) << 29, u64::MAX] {
            let call = Call {
                arch: Arch::X86_64.audit(),
                number,
                args: [argument; 6],
            };
            let want = oracle.evaluate(&call);
            assert_eq!(
                run(program.instructions(), &call, false).0,
                want,
                "{number}"
            );
        }
    }
}

#[test]
fn what_is_newer_than_the_profile_is_not_there() {
    let document = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{ "names": ["read", "openat2"], "action": "SCMP_ACT_ALLOW" }],
    });
    let ask = |document: &serde_json::Value, number| {
        let program = built(document.clone()).unwrap().program;
        let call = Call {
            arch: Arch::X86_64.audit(),
            number,
            args: [0; 6],
        };
        run(program.instructions(), &call, false).0
    };
    assert_eq!(ask(&document, 437), 0x7fff_0000);
    assert_eq!(ask(&document, 1), 0x0005_0001);
    assert_eq!(ask(&document, 438), 0x0005_0026);
    assert_eq!(ask(&document, 100_000), 0x0005_0026);
    let mut kills = document.clone();
    kills["defaultAction"] = json!("SCMP_ACT_KILL_PROCESS");
    assert_eq!(ask(&kills, 438), 0x8000_0000);
    assert_eq!(
        ask(&json!({ "defaultAction": "SCMP_ACT_ERRNO" }), 438),
        0x0005_0001
    );
    // x32 is not listed: none of its calls get in by way of their numbers.
    assert_eq!(ask(&document, 0x4000_0000), 0x8000_0000);
}

#[test]
fn what_a_profile_can_not_mean_is_refused() {
    let rule =
        |rule: serde_json::Value| json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] });
    for (document, want) in [
        (
            rule(json!({ "names": ["read"], "action": "SCMP_ACT_ERRNO", "errnoRet": 4096 })),
            "seccomp: 4096 is not an error number",
        ),
        (
            rule(json!({ "names": ["read"], "action": "SCMP_ACT_KILL", "errnoRet": 1 })),
            "seccomp: SCMP_ACT_KILL does not take an error number",
        ),
        (
            rule(json!({
                "names": ["read"],
                "action": "SCMP_ACT_ERRNO",
                "args": [{ "index": 6, "value": 0, "op": "SCMP_CMP_EQ" }],
            })),
            "seccomp: a system call has no argument 6",
        ),
        (
            rule(json!({ "names": ["read"], "action": "SCMP_ACT_NOTIFY" })),
            "seccomp: SCMP_ACT_NOTIFY needs a listenerPath, the socket of an agent: add it, or take \
             the action out",
        ),
        (
            json!({ "defaultAction": "SCMP_ACT_NOTIFY" }),
            "seccomp: SCMP_ACT_NOTIFY can't be the default action",
        ),
    ] {
        assert_eq!(built(document).unwrap_err(), want);
    }
}

#[test]
fn a_profile_that_notifies_has_a_listener() {
    let profile = profile(json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": "/run/agent",
        "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_NOTIFY" }],
    }));
    let program = plan(Some(&profile), false).unwrap().unwrap();
    assert!(program.notifies());
    let kept = Program::from_bytes(&program.to_bytes()).unwrap();
    assert!(kept.notifies());
}

#[test]
fn notes_name_what_has_no_effect() {
    let compiled = built(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64", "SCMP_ARCH_MIPS"],
        "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", "SECCOMP_FILTER_FLAG_LOG"],
        "syscalls": [{ "names": ["read", "cacheflush", "zzz"], "action": "SCMP_ACT_ALLOW" }],
    }))
    .unwrap();
    assert_eq!(
        compiled.notes,
        [
            "seccomp: this machine does not run SCMP_ARCH_AARCH64",
            "seccomp: this machine does not run SCMP_ARCH_MIPS",
            "seccomp: \"cacheflush\" is no system call of this machine",
            "seccomp: \"zzz\" is no system call of this machine",
            "seccomp: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV is for filters that notify",
        ]
    );
    assert_eq!(compiled.program.flags, sys::FLAG_LOG);
}

#[test]
fn flags_are_the_kernels() {
    let flags = |flags: serde_json::Value, action: &str| {
        let mut document = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "listenerPath": "/run/agent",
            "syscalls": [{ "names": ["mkdir"], "action": action }],
        });
        document["flags"] = flags;
        let program = built(document).unwrap().program;
        (program.flags, program.notifies())
    };
    let tsync = json!(["SECCOMP_FILTER_FLAG_TSYNC"]);
    let killable = json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]);
    assert_eq!(flags(json!(null), "SCMP_ACT_ERRNO"), (0b100, false));
    assert_eq!(flags(json!([]), "SCMP_ACT_ERRNO"), (0, false));
    assert_eq!(flags(tsync.clone(), "SCMP_ACT_ERRNO"), (0b1, false));
    assert_eq!(flags(tsync, "SCMP_ACT_NOTIFY"), (0b1_1001, true));
    assert_eq!(flags(killable, "SCMP_ACT_NOTIFY"), (0b10_1000, true));
}

#[test]
fn stored_programs_come_back() {
    let profile = default_profile(CapSet::DEFAULT);
    let program = plan(Some(&profile), true).unwrap().unwrap();
    let bytes = program.to_bytes();
    assert_eq!(Program::from_bytes(&bytes).as_ref(), Some(&program));
    let mut random = Random(7);
    for _ in 0..2_000 {
        let mut other = bytes.clone();
        other.truncate(random.below(bytes.len()));
        if !other.is_empty() {
            let at = random.below(other.len());
            other[at] = random.next() as u8;
        }
        let _ = Program::from_bytes(&other);
    }
    for wrong in [
        &b""[..],
        &bytes[..12],
        &bytes[..bytes.len() - 1],
        &bytes[1..],
    ] {
        assert_eq!(Program::from_bytes(wrong), None);
    }
}

#[test]
fn keys_tell_profiles_apart() {
    let one = default_profile(CapSet::DEFAULT);
    let other = default_profile(CapSet::EMPTY);
    assert_ne!(
        default_key(CapSet::DEFAULT, false),
        default_key(CapSet::DEFAULT, true)
    );
    assert_ne!(
        default_key(CapSet::DEFAULT, false),
        default_key(CapSet::EMPTY, false)
    );
    let keys = [
        program_key(None, true),
        program_key(Some(&one), false),
        program_key(Some(&one), true),
        program_key(Some(&other), false),
    ]
    .map(Result::unwrap);
    for (i, key) in keys.iter().enumerate() {
        assert_eq!(key.len(), 64);
        assert!(!keys[..i].contains(key));
    }
    assert_eq!(program_key(Some(&one), true).unwrap(), keys[2]);
}

#[test]
fn the_kernel_takes_the_programs() {
    if Arch::NATIVE.is_none() {
        eprintln!("skipped: no tables for this machine's architecture");
        return;
    }
    let refused = built(json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [
            { "names": ["sysinfo"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95 },
        ],
    }));
    let caps = CapSet::DEFAULT;
    let standard = plan(Some(&default_profile(caps)), true).unwrap().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            rustix::thread::set_no_new_privs(true).unwrap();
            assert!(standard.load().unwrap().is_none());
            assert!(refused.unwrap().program.load().unwrap().is_none());
            assert!(rustix::system::uname().sysname().to_bytes() == b"Linux");
            let id = rustix::process::Uid::from_raw(12_345);
            let missing = rustix::fs::chown("/no/such/file", Some(id), None);
            assert_eq!(missing, Ok(()));
            let root = rustix::process::Uid::ROOT;
            let missing = rustix::fs::chown("/no/such/file", Some(root), None);
            assert_eq!(missing, Err(rustix::io::Errno::NOENT));
        });
    });
}

/// The figure is in the profile of tests; a release build takes about a tenth of it.
#[test]
fn compiling_takes_no_time() {
    let profile = default_profile(CapSet::DEFAULT);
    let start = std::time::Instant::now();
    for _ in 0..20 {
        plan(Some(&profile), false).unwrap();
    }
    let each = start.elapsed() / 20;
    eprintln!("{each:?} for each");
    assert!(each < std::time::Duration::from_millis(50));
}
