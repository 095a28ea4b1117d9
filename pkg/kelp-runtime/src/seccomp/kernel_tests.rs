//! What filters do where they are loaded: each action, flag and comparison, in the kernel.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};
use std::thread;

use rustix::fs::{MemfdFlags, SeekFrom, memfd_create};
use rustix::io::Errno;
use rustix::thread::set_no_new_privs;
use serde_json::{Value, json};

use super::interpreter::{Call, run};
use super::tests::{built, profile};
use super::{Arch, compile, default_profile};
use crate::capabilities::CapSet;

/// The program that the process of [`a_program_of_32_bits_is_of_another_architecture`] becomes.
const PROGRAM: &str = "KELP_TEST_SECCOMP_PROGRAM";

/// The profile that a test program of its own process loads.
const PROFILE: &str = "KELP_TEST_SECCOMP_PROFILE";

/// The number with which that process ends if it lives on.
const LIVES: i32 = 42;

/// Everything is allowed but this.
fn only(calls: &[&str], more: &Value) -> Value {
    let mut rule = json!({ "names": calls });
    let more = more.as_object().unwrap().clone();
    rule.as_object_mut().unwrap().extend(more);
    json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] })
}

/// Runs this in a thread that has the filter.
fn filtered<T: Send>(document: Value, call: impl FnOnce() -> T + Send) -> T {
    let program = built(document).unwrap().program;
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            set_no_new_privs(true).unwrap();
            // Nobody listens: whoever notifies is told that there is no such call.
            drop(program.load().unwrap());
            call()
        });
        thread.join().unwrap()
    })
}

fn native() -> bool {
    let known = Arch::NATIVE == Some(Arch::X86_64);
    if !known {
        eprintln!("skipped: these programs are for x86_64");
    }
    known
}

/// The call of [`mkdir`], in whatever form it is made.
const MKDIR: [&str; 2] = ["mkdir", "mkdirat"];

fn mkdir() -> Result<(), Errno> {
    rustix::fs::mkdir("/no/such/directory", rustix::fs::Mode::empty())
}

#[test]
fn actions_that_return_have_their_error() {
    if !native() {
        return;
    }
    for (more, wanted) in [
        (json!({ "action": "SCMP_ACT_ALLOW" }), Errno::NOENT),
        (json!({ "action": "SCMP_ACT_LOG" }), Errno::NOENT),
        (json!({ "action": "SCMP_ACT_ERRNO" }), Errno::PERM),
        (
            json!({ "action": "SCMP_ACT_ERRNO", "errnoRet": 95 }),
            Errno::OPNOTSUPP,
        ),
        (
            json!({ "action": "SCMP_ACT_ERRNO", "errnoRet": 4095 }),
            Errno::from_raw_os_error(4095),
        ),
        // Without a tracer there is no such call.
        (json!({ "action": "SCMP_ACT_TRACE" }), Errno::NOSYS),
        (
            json!({ "action": "SCMP_ACT_TRACE", "errnoRet": 0xffff }),
            Errno::NOSYS,
        ),
    ] {
        assert_eq!(filtered(only(&MKDIR, &more), mkdir), Err(wanted), "{more}");
    }
    let mut notifies = only(&MKDIR, &json!({ "action": "SCMP_ACT_NOTIFY" }));
    notifies["listenerPath"] = "/run/agent".into();
    assert_eq!(filtered(notifies, mkdir), Err(Errno::NOSYS));
    let nothing = only(
        &MKDIR,
        &json!({ "action": "SCMP_ACT_ERRNO", "errnoRet": 0 }),
    );
    assert_eq!(filtered(nothing, mkdir), Ok(()));
}

/// In a process of its own, since it may be the last thing that one does.
#[test]
fn a_process_that_is_filtered() {
    let Some(document) = std::env::var_os(PROFILE) else {
        return;
    };
    let document = serde_json::from_str(document.to_str().unwrap()).unwrap();
    let program = built(document).unwrap().program;
    let (sender, receiver) = std::sync::mpsc::channel();
    // Not joined: one that is killed tells nobody.
    thread::spawn(move || {
        set_no_new_privs(true).unwrap();
        program.load().unwrap();
        sender.send(rustix::thread::gettid()).unwrap();
        let _ = mkdir();
        std::process::exit(1);
    });
    let number = receiver.recv().unwrap().as_raw_nonzero();
    let task = format!("/proc/self/task/{number}");
    while std::fs::exists(&task).unwrap() {
        thread::yield_now();
    }
    std::process::exit(LIVES);
}

#[test]
fn actions_that_kill_do() {
    if !native() {
        return;
    }
    let sigsys = Some(rustix::process::Signal::SYS.as_raw());
    for (action, code, signal) in [
        ("SCMP_ACT_ALLOW", Some(1), None),
        ("SCMP_ACT_ERRNO", Some(1), None),
        // The thread, and not the process.
        ("SCMP_ACT_KILL", Some(LIVES), None),
        ("SCMP_ACT_KILL_THREAD", Some(LIVES), None),
        ("SCMP_ACT_KILL_PROCESS", None, sigsys),
        // A signal that nobody has a handler for.
        ("SCMP_ACT_TRAP", None, sigsys),
    ] {
        let document = only(&MKDIR, &json!({ "action": action }));
        let status = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "seccomp::kernel_tests::a_process_that_is_filtered",
            ])
            .env(PROFILE, document.to_string())
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert_eq!((status.code(), status.signal()), (code, signal), "{action}");
    }
}

#[test]
fn flags_are_taken() {
    if !native() {
        return;
    }
    let with = |flags: &[&str]| {
        let mut document = only(
            &MKDIR,
            &json!({ "action": "SCMP_ACT_ERRNO", "errnoRet": 95 }),
        );
        document["flags"] = json!(flags);
        document
    };
    let log = with(&["SECCOMP_FILTER_FLAG_LOG"]);
    assert_eq!(filtered(log, mkdir), Err(Errno::OPNOTSUPP));
    let speculation = |document| {
        filtered(document, || {
            let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
            let mut lines = status.lines();
            let line = lines.find(|line| line.starts_with("Speculation_Store_Bypass:"));
            line.map(str::to_owned)
        })
    };
    // Where flags are not given, they are as runc has them.
    let mut usual = with(&[]);
    usual["flags"] = Value::Null;
    assert_eq!(
        speculation(usual),
        speculation(with(&["SECCOMP_FILTER_FLAG_SPEC_ALLOW"]))
    );
    let mut notifies = with(&["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]);
    notifies["listenerPath"] = "/run/agent".into();
    notifies["syscalls"][0] = json!({ "names": MKDIR, "action": "SCMP_ACT_NOTIFY" });
    assert_eq!(filtered(notifies, mkdir), Err(Errno::NOSYS));
}

/// Set in the process of [`tsync_is_for_every_thread`].
const SELF: &str = "KELP_TEST_SECCOMP_TSYNC";

/// All threads of a process get it, so that it must be one of its own.
#[test]
fn tsync_is_for_every_thread() {
    if !native() {
        return;
    }

    if std::env::var_os(SELF).is_none() {
        let status = Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "seccomp::kernel_tests::tsync_is_for_every_thread",
            ])
            .env(SELF, "1")
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert_eq!(status.code(), Some(LIVES));
        return;
    }
    let mut document = only(
        &MKDIR,
        &json!({ "action": "SCMP_ACT_ERRNO", "errnoRet": 95 }),
    );
    document["flags"] = json!(["SECCOMP_FILTER_FLAG_TSYNC"]);
    assert_eq!(mkdir(), Err(Errno::NOENT));
    filtered(document, || ());
    assert_eq!(mkdir(), Err(Errno::OPNOTSUPP));
    std::process::exit(LIVES);
}

/// A program of 32-bit x86 that ends with 7: its headers (elf(5)), and exit(2) by `int 0x80`.
fn program_of_32_bits() -> Vec<u8> {
    let half = |numbers: &[u16]| {
        numbers
            .iter()
            .flat_map(|it| it.to_le_bytes())
            .collect::<Vec<_>>()
    };
    let word = |numbers: &[u32]| {
        numbers
            .iter()
            .flat_map(|it| it.to_le_bytes())
            .collect::<Vec<_>>()
    };
    [
        b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec(),
        half(&[2, 3]),
        word(&[1, 0x0804_8054, 52, 0, 0]),
        half(&[52, 32, 1, 0, 0, 0]),
        word(&[1, 0, 0x0804_8000, 0x0804_8000, 96, 96, 5, 0x1000]),
        b"\xb8\x01\0\0\0\xbb\x07\0\0\0\xcd\x80".to_vec(),
    ]
    .concat()
}

#[test]
fn a_program_of_32_bits_is_of_another_architecture() {
    if let (Some(document), Some(program)) = (std::env::var_os(PROFILE), std::env::var_os(PROGRAM))
    {
        let document = serde_json::from_str(document.to_str().unwrap()).unwrap();
        set_no_new_privs(true).unwrap();
        built(document).unwrap().program.load().unwrap();
        panic!("{}", Command::new(program).exec());
    }
    if !native() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let program = directory.path().join("exits-with-7");
    let source = directory.path().join("source");
    std::fs::write(&source, program_of_32_bits()).unwrap();
    std::fs::set_permissions(&source, std::fs::Permissions::from_mode(0o755)).unwrap();
    // Another process writes the program: a child of another test's could have it open here, and then
    // it can't be executed.
    let copied = Command::new("cp")
        .args([&source, &program])
        .status()
        .unwrap();
    assert!(copied.success());
    match Command::new(&program).status() {
        Ok(status) => assert_eq!(status.code(), Some(7)),
        Err(error) => {
            assert_eq!(error.raw_os_error(), Some(Errno::NOEXEC.raw_os_error()));
            eprintln!("skipped: the kernel runs no programs of 32 bits");
            return;
        }
    }
    let sigsys = Some(rustix::process::Signal::SYS.as_raw());
    let allowing = json!({ "defaultAction": "SCMP_ACT_ALLOW" });
    let listing = |architectures: Value| {
        let mut document = allowing.clone();
        document["architectures"] = architectures;
        document
    };
    let standard = serde_json::to_value(default_profile(CapSet::DEFAULT)).unwrap();
    let mut refusing = listing(json!(["SCMP_ARCH_X86"]));
    // A call of another number there.
    refusing["syscalls"] = json!([{ "names": ["exit"], "action": "SCMP_ACT_KILL_PROCESS" }]);
    let mut wide = standard.clone();
    wide["architectures"] = json!(["SCMP_ARCH_X86_64"]);
    for (document, code, signal) in [
        (standard, Some(7), None),
        (listing(json!(["SCMP_ARCH_X86"])), Some(7), None),
        (refusing, None, sigsys),
        // What is not listed is killed.
        (allowing.clone(), None, sigsys),
        (
            listing(json!(["SCMP_ARCH_X32", "SCMP_ARCH_AARCH64"])),
            None,
            sigsys,
        ),
        (wide, None, sigsys),
    ] {
        let name = "seccomp::kernel_tests::a_program_of_32_bits_is_of_another_architecture";
        let status = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name])
            .env(PROFILE, document.to_string())
            .env(PROGRAM, &program)
            .stdout(Stdio::null())
            .status()
            .unwrap();
        let architectures = &document["architectures"];
        assert_eq!(
            (status.code(), status.signal()),
            (code, signal),
            "{architectures}"
        );
    }
}

const OPERATORS: [&str; 6] = [
    "SCMP_CMP_NE",
    "SCMP_CMP_LT",
    "SCMP_CMP_LE",
    "SCMP_CMP_EQ",
    "SCMP_CMP_GE",
    "SCMP_CMP_GT",
];

fn holds(operator: &str, argument: u64, value: u64) -> bool {
    match operator {
        "SCMP_CMP_NE" => argument != value,
        "SCMP_CMP_LT" => argument < value,
        "SCMP_CMP_LE" => argument <= value,
        "SCMP_CMP_EQ" => argument == value,
        "SCMP_CMP_GE" => argument >= value,
        "SCMP_CMP_GT" => argument > value,
        _ => panic!("{operator}"),
    }
}

/// Numbers whose halves lie on both sides of one another's.
fn numbers(halves: &[u64]) -> Vec<u64> {
    let all = halves
        .iter()
        .flat_map(|high| halves.iter().map(move |low| high << 32 | low));
    all.collect()
}

const HALVES: [u64; 7] = [0, 1, 2, 0x7fff_ffff, 0x8000_0000, 0xffff_fffe, 0xffff_ffff];

/// A profile that refuses a call by one condition.
fn conditional(call: &str, index: usize, op: &str, value: u64, value_two: u64) -> Value {
    let args = json!([{ "index": index, "op": op, "value": value, "valueTwo": value_two }]);
    only(
        &[call],
        &json!({ "action": "SCMP_ACT_ERRNO", "errnoRet": 95, "args": args }),
    )
}

#[test]
fn every_comparison_is_of_64_bits_or_of_an_argument_as_wide_as_the_machines() {
    let refuse = 0x0005_005f;
    for native in [Arch::X86_64, Arch::X86, Arch::S390x] {
        let calls = native.calls();
        let (number, _) = *calls.iter().find(|(_, name)| *name == "fallocate").unwrap();
        let narrow = native == Arch::X86;
        let cut = |number: u64| if narrow { number & 0xffff_ffff } else { number };
        // Compares what the filter does with every argument.
        let check = |index: usize, document: Value, holds: &dyn Fn(u64) -> bool| {
            let program = compile(Some(&profile(document.clone())), false, native)
                .unwrap()
                .program;
            for argument in numbers(&HALVES) {
                let mut args = [0x5555_5555_5555_5555; 6];
                args[index] = argument;
                let call = Call {
                    arch: native.audit(),
                    number,
                    args,
                };
                let got = run(program.instructions(), &call, native.big_endian()).0 == refuse;
                assert_eq!(got, holds(argument), "{native:?} {argument:#x} {document}");
            }
        };
        for (round, value) in numbers(&[0, 1, 0x8000_0000, 0xffff_ffff])
            .into_iter()
            .enumerate()
        {
            let index = round % 6;
            for operator in OPERATORS {
                let document = conditional("fallocate", index, operator, value, 0);
                check(index, document, &|argument| {
                    holds(operator, cut(argument), cut(value))
                });
            }
            // Under a mask, which is the first value.
            for mask in [
                0,
                0xffff_ffff,
                0xffff_ffff << 32,
                u64::MAX,
                0x8000_0000_0000_0001,
            ] {
                let document = conditional("fallocate", index, "SCMP_CMP_MASKED_EQ", mask, value);
                check(index, document, &|argument| {
                    cut(argument & mask) == cut(value & mask)
                });
            }
        }
    }
}

/// The same for a call whose argument is 64 bits wide: lseek(2).
#[test]
fn the_kernel_compares_both_halves() -> io::Result<()> {
    if !native() {
        return Ok(());
    }
    let file = memfd_create("seeks", MemfdFlags::CLOEXEC)?;
    for value in [
        0,
        1,
        0xffff_ffff,
        1 << 32,
        0x1_0000_0001,
        0x7fff_ffff_0000_0000,
    ] {
        for operator in OPERATORS {
            let results = filtered(conditional("lseek", 1, operator, value, 0), || {
                let seek = |to: &u64| rustix::fs::seek(&file, SeekFrom::Start(*to));
                let arguments = numbers(&HALVES);
                arguments.iter().map(seek).collect::<Vec<_>>()
            });
            for (argument, result) in numbers(&HALVES).into_iter().zip(results) {
                let refused = result == Err(Errno::OPNOTSUPP);
                let wanted = holds(operator, argument, value);
                assert_eq!(
                    refused, wanted,
                    "{argument:#x} {operator} {value:#x}: {result:?}"
                );
            }
        }
    }
    Ok(())
}
