//! Filters: what they do to a program, and what is kept of them.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use serde_json::json;

use crate::env::Env;
use crate::kelp::{traced, wait};
use crate::oci::Bundle;
use crate::skip::no_strace;

/// The filters that are kept, by name.
fn kept(directory: &PathBuf) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// Whoever can't write to the user's runtime directory has no say in what is filtered, and a damaged
/// file is none.
#[test]
fn a_kept_filter_is_used_only_whole() {
    let Some(env) = Env::new() else { return };
    let script =
        "grep Seccomp: /proc/self/status; swapoff /nothing 2>&1; chroot / true && echo fine";
    let refused = "Seccomp:\t2\nswapoff: /nothing: Operation not permitted\nfine\n";
    assert_eq!(env.shell(&["--network", "none"], script), refused);
    let directory = env.runtime().join("kelp/seccomp");
    let files = kept(&directory);
    let [file] = files.as_slice() else {
        panic!("{files:?}");
    };
    let mode = |path: &PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&directory), mode(file)), (0o700, 0o600));
    let whole = fs::read(file).unwrap();
    // A program that allows everything, with the magic and the length that it has to have.
    let mut open = whole[..12].to_vec();
    open.extend([6, 0, 0, 0, 0, 0, 0xff, 0x7f]);
    let digest = &whole[whole.len() - 16..];
    let wrongs = [
        Vec::new(),
        whole[..whole.len() / 2].to_vec(),
        [&open[..], digest].concat(),
        open,
        vec![0xff; 40_000],
    ];
    for wrong in wrongs {
        fs::write(file, &wrong).unwrap();
        assert_eq!(env.shell(&["--network", "none"], script), refused);
        assert!(fs::read(file).unwrap() == whole, "it is written again");
    }
    // Nor one in a directory that others may enter.
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(file, "").unwrap();
    assert_eq!(env.shell(&["--network", "none"], script), refused);
    assert!(fs::read(file).unwrap().is_empty());
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
    // exec reads the same one; other capabilities are another.
    env.waiting("box", &["--network", "none"]);
    let exec = ["exec", "box", "sh", "-c", script];
    assert_eq!(env.kelp(&exec).succeeds(), refused);
    assert_eq!(kept(&directory), files);
    env.kelp(&["rm", "-f", "-t", "0", "box"]).succeeds();
    let chroot = ["--network", "none", "--cap-drop", "sys_chroot"];
    let script = "chroot / true 2>&1";
    let image = env.busybox();
    let (_, text) = super::run(&env, &chroot, &image, script);
    assert_eq!(
        text,
        "chroot: can't change root directory to '/': Operation not permitted\n"
    );
    assert_eq!(kept(&directory).len(), 2);
}

#[test]
fn actions_do_what_they_say_to_a_program() {
    let Some(env) = Env::new() else { return };
    let profile = env.path("h/profile.json");
    let option = format!("--security-opt=seccomp={}", profile.display());
    // The shell calls umask(2) itself, does not look at what comes of it, and shows it in octal.
    let script = "trap 'echo trapped' SYS; umask 077; umask; echo after";
    // A call that is trapped returns its number (asm/unistd.h).
    let number = if cfg!(target_arch = "x86_64") {
        95
    } else {
        166
    };
    let trapped = format!("trapped\n{number:04o}\ntrapped\nafter\n");
    let image = env.busybox();
    for (action, more, code, said) in [
        ("SCMP_ACT_ALLOW", "", 0, "0077\nafter\n"),
        ("SCMP_ACT_LOG", "", 0, "0077\nafter\n"),
        (
            "SCMP_ACT_ERRNO",
            ",\"errnoRet\": 13",
            0,
            "37777777763\nafter\n",
        ),
        ("SCMP_ACT_TRAP", "", 0, trapped.as_str()),
        ("SCMP_ACT_KILL_PROCESS", "", 159, ""),
        ("SCMP_ACT_KILL_THREAD", "", 159, ""),
        ("SCMP_ACT_KILL", "", 159, ""),
    ] {
        let text = format!(
            r#"{{"defaultAction": "SCMP_ACT_ALLOW",
                 "syscalls": [{{"names": ["umask"], "action": "{action}" {more} }}]}}"#
        );
        fs::write(&profile, text).unwrap();
        // Not as process 1, which signals are kept from.
        let inner = format!("sh -c \"{script}\"; code=$?; echo $code");
        let (_, text) = super::run(&env, &["--network", "none", &option], &image, &inner);
        let wanted = format!("{said}{code}\n");
        let found = text.replace("Bad system call (core dumped)\n", "");
        assert_eq!(found, wanted, "{action}");
    }
}

/// The low-level runtime keeps them in its state root.
#[test]
fn a_bundles_filter_is_kept_in_the_state_root() {
    let Some(env) = Env::new() else { return };
    let script = "cd /tmp; mkdir d 2>/dev/null || echo refused";
    let bundle = Bundle::new(&env, &["sh", "-c", script]);
    let profile = |names: &[&str]| {
        bundle.change(|spec| {
            spec["root"]["readonly"] = false.into();
            spec["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64", "SCMP_ARCH_X86"],
                "syscalls": [{"names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": 95}],
            });
        });
    };
    let directory = env.runtime().join("kelp-runtime/:seccomp");
    profile(&["mkdir", "mkdirat", "no_such_call"]);
    for _ in 0..2 {
        assert_eq!(bundle.runtime(&["run", "one"]).succeeds(), "refused\n");
        assert_eq!(kept(&directory).len(), 1);
    }
    for file in kept(&directory) {
        fs::write(file, "damaged").unwrap();
    }
    assert_eq!(bundle.runtime(&["run", "one"]).succeeds(), "refused\n");
    profile(&["rmdir"]);
    assert_eq!(bundle.runtime(&["run", "one"]).succeeds(), "");
    assert_eq!(kept(&directory).len(), 2);
}

/// The calls that a process makes from the loading of its filter to its program, by what strace(1) saw.
fn under_the_filter(trace: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut init = None;
    for line in trace.lines() {
        let (pid, call) = line.split_once(' ').unwrap();
        let call = call.trim_start();
        // The second part of one that another process came in between of; that may be the loading itself.
        if call.starts_with("<... ") {
            continue;
        }
        let name: String = call
            .chars()
            .take_while(|c| c.is_ascii_alphanumeric() || *c == '_')
            .collect();
        match init {
            None if call.starts_with("seccomp(SECCOMP_SET_MODE_FILTER") => init = Some(pid),
            Some(init) if init == pid && name == "execve" => break,
            Some(init) if init == pid && !name.is_empty() => {
                found.insert(name);
            }
            _ => {}
        }
    }
    found
}

/// What the runtime calls itself under a filter may not wait for somebody's answer, with hooks or without.
#[test]
fn nobody_is_asked_about_a_call_of_the_runtimes_own() {
    let Some(env) = Env::new() else { return };
    if no_strace() {
        return;
    }
    let bundle = Bundle::new(&env, &["true"]);
    let trace = env.path("h/trace");
    for hooks in [
        json!({}),
        json!({"startContainer": [{"path": "/bin/true", "timeout": 60}]}),
    ] {
        bundle.change(|spec| {
            spec["hooks"] = hooks.clone();
            spec["process"]["noNewPrivileges"] = false.into();
            spec["linux"]["seccomp"] = json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{"names": ["chroot"], "action": "SCMP_ACT_ERRNO"}],
            });
        });
        let create = bundle.command(&["create", "one"]);
        let mut strace = traced(&create, &trace, &["-f"]);
        // It follows the container to its end.
        let mut strace = strace.spawn().unwrap();
        bundle.reaches("one", "created");
        bundle.runtime(&["start", "one"]).succeeds();
        assert_eq!(wait(&mut strace, "create"), 0);
        bundle.runtime(&["delete", "one"]).succeeds();
        let names = under_the_filter(&fs::read_to_string(&trace).unwrap());
        assert!(
            names.contains("recvmsg") && names.contains("accept4"),
            "{names:?}"
        );
        assert_eq!(names.contains("wait4"), hooks != json!({}), "{names:?}");
        for name in names {
            bundle.change(|spec| {
                spec["linux"]["seccomp"]["listenerPath"] = "/nosuch".into();
                spec["linux"]["seccomp"]["syscalls"] =
                    json!([{"names": [name], "action": "SCMP_ACT_NOTIFY"}]);
            });
            let said = bundle.fails(&["create", "one"]);
            let expected = format!("linux.seccomp: nobody can be asked about {name}");
            assert!(said.starts_with(&expected), "{name}: {said}");
        }
    }
}
