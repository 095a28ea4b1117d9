//! config-linux.md, "Seccomp": actions, arguments, flags.

use serde_json::{Value, json};

use crate::case::Case;
use crate::outcome::{Outcome, has, same};
use crate::spec::Spec;
use crate::stage::Stage;

const SECTION: &str = "config-linux.md: Seccomp";

pub(crate) const CASES: &[Case] = &[
    Case::new("errno_is_eperm", SECTION, errno),
    Case::new("errno_ret", SECTION, errno_ret),
    Case::new("default_errno_ret", SECTION, default_errno),
    Case::new(
        "default_action_refuses_what_is_not_listed",
        SECTION,
        allow_list,
    ),
    Case::new("kill", SECTION, |stage| kills(stage, "SCMP_ACT_KILL")),
    Case::new("kill_process", SECTION, |stage| {
        kills(stage, "SCMP_ACT_KILL_PROCESS")
    }),
    Case::new("kill_thread", SECTION, |stage| {
        kills(stage, "SCMP_ACT_KILL_THREAD")
    }),
    Case::new("trap", SECTION, |stage| kills(stage, "SCMP_ACT_TRAP")),
    Case::new("trace_without_a_tracer", SECTION, trace),
    Case::new("log_allows", SECTION, log),
    Case::new("args_equal", SECTION, |stage| {
        args(stage, "SCMP_CMP_EQ", 23, None, &[23])
    }),
    Case::new("args_not_equal", SECTION, |stage| {
        args(stage, "SCMP_CMP_NE", 23, None, &[17, 18, 28])
    }),
    Case::new("args_less", SECTION, |stage| {
        args(stage, "SCMP_CMP_LT", 23, None, &[17, 18])
    }),
    Case::new("args_less_or_equal", SECTION, |stage| {
        args(stage, "SCMP_CMP_LE", 23, None, &[17, 18, 23])
    }),
    Case::new("args_greater", SECTION, |stage| {
        args(stage, "SCMP_CMP_GT", 23, None, &[28])
    }),
    Case::new("args_greater_or_equal", SECTION, |stage| {
        args(stage, "SCMP_CMP_GE", 23, None, &[23, 28])
    }),
    Case::new("args_masked", SECTION, |stage| {
        args(
            stage,
            "SCMP_CMP_MASKED_EQ",
            0b11_000,
            Some(0b10_000),
            &[17, 18, 23],
        )
    }),
    Case::new("args_of_a_rule_are_all_needed", SECTION, all_args),
    Case::new("rules_of_a_call_are_alternatives", SECTION, alternatives),
    Case::new("value_of_64_bits", SECTION, wide),
    Case::new("architectures", SECTION, architectures),
    Case::new("flags", SECTION, flags),
    Case::new("mode_is_filter", SECTION, mode),
    Case::new("none_without_seccomp", SECTION, none),
    Case::new("with_no_new_privileges", SECTION, with_nnp),
    Case::new("of_exec", SECTION, of_exec),
    Case::new(
        "errno_ret_where_the_action_has_none",
        SECTION,
        misplaced_errno,
    ),
    Case::new("names_are_needed", SECTION, no_names),
    Case::new("unknown_words_are_refused", SECTION, unknown),
];

/// Everything is allowed but for this.
#[allow(
    clippy::needless_pass_by_value,
    reason = "rules are made where they are passed"
)]
fn with(stage: &Stage<'_>, syscalls: Value) -> Spec {
    let mut spec = stage.spec();
    spec["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": syscalls});
    spec
}

/// A rule about the calls that make a directory.
fn mkdir(action: &str) -> Value {
    json!({"names": ["mkdir", "mkdirat"], "action": action})
}

/// What a directory that can't be made is said of.
fn tried(stage: &Stage<'_>, spec: &mut Spec) -> Outcome<String> {
    stage.shell(
        spec,
        "mkdir /tmp/new 2>&1; test -d /tmp/new && echo made; true",
    )
}

fn errno(stage: &Stage<'_>) -> Outcome {
    let out = tried(stage, &mut with(stage, json!([mkdir("SCMP_ACT_ERRNO")])))?;
    has("mkdir", &out, "Operation not permitted")
}

fn errno_ret(stage: &Stage<'_>) -> Outcome {
    for (number, text) in [
        (38, "Function not implemented"),
        (28, "No space left on device"),
    ] {
        let mut rule = mkdir("SCMP_ACT_ERRNO");
        rule["errnoRet"] = number.into();
        has(
            "mkdir",
            &tried(stage, &mut with(stage, json!([rule])))?,
            text,
        )?;
    }
    // Zero is an errno as well: the call does nothing and succeeds.
    let mut rule = mkdir("SCMP_ACT_ERRNO");
    rule["errnoRet"] = 0.into();
    same(
        "mkdir",
        tried(stage, &mut with(stage, json!([rule])))?.as_str(),
        "",
    )
}

const LISTED: &[&str] = &[
    "access",
    "fchdir",
    "fchown",
    "fstatat64",
    "getpgrp",
    "getsid",
    "kill",
    "ppoll",
    "pread64",
    "sendto",
    "setpgid",
    "setresgid",
    "setresuid",
    "tkill",
    "umask",
    "arch_prctl",
    "brk",
    "capget",
    "capset",
    "chdir",
    "clone",
    "clone3",
    "close",
    "close_range",
    "dup",
    "dup2",
    "dup3",
    "epoll_ctl",
    "epoll_pwait",
    "execve",
    "execveat",
    "exit",
    "exit_group",
    "faccessat2",
    "fcntl",
    "fstat",
    "fstatfs",
    "futex",
    "getcwd",
    "getdents64",
    "getegid",
    "geteuid",
    "getgid",
    "getpgid",
    "getpid",
    "getppid",
    "getrandom",
    "gettid",
    "getuid",
    "ioctl",
    "lseek",
    "madvise",
    "mmap",
    "mprotect",
    "munmap",
    "nanosleep",
    "newfstatat",
    "open",
    "openat",
    "openat2",
    "pipe",
    "pipe2",
    "poll",
    "prctl",
    "prlimit64",
    "read",
    "readlink",
    "readlinkat",
    "recvmsg",
    "rseq",
    "rt_sigaction",
    "rt_sigprocmask",
    "rt_sigreturn",
    "sched_yield",
    "sendmsg",
    "set_robust_list",
    "set_tid_address",
    "setgid",
    "setgroups",
    "setsid",
    "setuid",
    "sigaltstack",
    "stat",
    "statx",
    "tgkill",
    "uname",
    "wait4",
    "waitid",
    "write",
    "writev",
];

fn allow_list(stage: &Stage<'_>) -> Outcome {
    let mut spec = with(
        stage,
        json!([{"names": LISTED, "action": "SCMP_ACT_ALLOW"}]),
    );
    spec["linux"]["seccomp"]["defaultAction"] = "SCMP_ACT_ERRNO".into();
    // With it the filter can be the last thing before the program.
    spec["process"]["noNewPrivileges"] = true.into();
    has(
        "mkdir",
        &tried(stage, &mut spec)?,
        "Operation not permitted",
    )
}

fn default_errno(stage: &Stage<'_>) -> Outcome {
    let mut spec = with(
        stage,
        json!([{"names": LISTED, "action": "SCMP_ACT_ALLOW"}]),
    );
    spec["linux"]["seccomp"]["defaultAction"] = "SCMP_ACT_ERRNO".into();
    // With it the filter can be the last thing before the program.
    spec["process"]["noNewPrivileges"] = true.into();
    spec["linux"]["seccomp"]["defaultErrnoRet"] = 38.into();
    has(
        "mkdir",
        &tried(stage, &mut spec)?,
        "Function not implemented",
    )
}

fn kills(stage: &Stage<'_>, action: &str) -> Outcome {
    let mut spec = with(stage, json!([mkdir(action)]));
    // A child of the shell's: process 1 of a namespace is not ended by its own signals.
    stage.prints(&mut spec, "mkdir /tmp/new 2>/dev/null; echo $?", "159\n")
}

fn trace(stage: &Stage<'_>) -> Outcome {
    let mut rule = mkdir("SCMP_ACT_TRACE");
    rule["errnoRet"] = 7.into();
    let out = tried(stage, &mut with(stage, json!([rule])))?;
    has("mkdir", &out, "Function not implemented")
}

fn log(stage: &Stage<'_>) -> Outcome {
    same(
        "mkdir",
        tried(stage, &mut with(stage, json!([mkdir("SCMP_ACT_LOG")])))?.as_str(),
        "made\n",
    )
}

/// Sends signals that do nothing by default, whose number is the second argument of kill(2), and
/// prints those that are refused.
const SIGNALS: &str = "for n in 17 18 23 28; do kill -$n $$ 2>/dev/null || echo $n; done";

fn args(stage: &Stage<'_>, op: &str, value: u64, second: Option<u64>, refused: &[u64]) -> Outcome {
    let mut arg = json!({"index": 1, "value": value, "op": op});
    if let Some(second) = second {
        arg["valueTwo"] = second.into();
    }
    let rule = json!({"names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": [arg]});
    let mut lines: Vec<String> = refused.iter().map(u64::to_string).collect();
    lines.push(String::new());
    let expected = lines.join("\n");
    stage.prints(&mut with(stage, json!([rule])), SIGNALS, &expected)
}

fn all_args(stage: &Stage<'_>) -> Outcome {
    let rule = json!({"names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": [
        {"index": 0, "value": 1, "op": "SCMP_CMP_EQ"},
        {"index": 1, "value": 23, "op": "SCMP_CMP_EQ"},
    ]});
    let script = "sleep 1000 & for p in 1 $!; do for n in 18 23; do \
        kill -$n $p 2>/dev/null || echo $p $n; done; done; kill $!";
    stage.prints(&mut with(stage, json!([rule])), script, "1 23\n")
}

fn alternatives(stage: &Stage<'_>) -> Outcome {
    let rule = |value: u64| {
        json!({"names": ["kill"], "action": "SCMP_ACT_ERRNO",
            "args": [{"index": 1, "value": value, "op": "SCMP_CMP_EQ"}]})
    };
    stage.prints(
        &mut with(stage, json!([rule(17), rule(28)])),
        SIGNALS,
        "17\n28\n",
    )
}

/// The upper half counts: -1 is not 2^32 - 1.
fn wide(stage: &Stage<'_>) -> Outcome {
    let rule = |value: u64| {
        json!({"names": ["lseek"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28,
            "args": [{"index": 1, "value": value, "op": "SCMP_CMP_EQ"}]})
    };
    let script = "for n in 5 4294967301; do \
        dd if=/dev/zero of=/tmp/f bs=1 seek=$n count=1 2>&1 | grep -o 'No space.*' | sed s/^/$n:/; done";
    let expected = "4294967301:No space left on device\n";
    stage.prints(
        &mut with(stage, json!([rule((1 << 32) + 5)])),
        script,
        expected,
    )
}

fn architectures(stage: &Stage<'_>) -> Outcome {
    let mut spec = with(stage, json!([mkdir("SCMP_ACT_ERRNO")]));
    let names = match std::env::consts::ARCH {
        "aarch64" => json!(["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"]),
        _ => json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]),
    };
    spec["linux"]["seccomp"]["architectures"] = names;
    has(
        "mkdir",
        &tried(stage, &mut spec)?,
        "Operation not permitted",
    )
}

fn flags(stage: &Stage<'_>) -> Outcome {
    for flag in [
        "SECCOMP_FILTER_FLAG_LOG",
        "SECCOMP_FILTER_FLAG_SPEC_ALLOW",
        "SECCOMP_FILTER_FLAG_TSYNC",
    ] {
        let mut spec = with(stage, json!([mkdir("SCMP_ACT_ERRNO")]));
        spec["linux"]["seccomp"]["flags"] = json!([flag]);
        has(flag, &tried(stage, &mut spec)?, "Operation not permitted")?;
    }
    Ok(())
}

const MODE: &str = "sed -n 's/^Seccomp:\t//p' /proc/self/status";

fn mode(stage: &Stage<'_>) -> Outcome {
    stage.prints(
        &mut with(stage, json!([mkdir("SCMP_ACT_ERRNO")])),
        MODE,
        "2\n",
    )
}

fn none(stage: &Stage<'_>) -> Outcome {
    stage.prints(&mut stage.spec(), MODE, "0\n")
}

fn with_nnp(stage: &Stage<'_>) -> Outcome {
    let mut spec = with(stage, json!([mkdir("SCMP_ACT_ERRNO")]));
    spec["process"]["noNewPrivileges"] = true.into();
    spec["process"]["capabilities"] = json!({});
    let script = "grep -E '^(Seccomp|NoNewPrivs|CapEff):' /proc/self/status | cut -f 2";
    stage.prints(&mut spec, script, "0000000000000000\n1\n2\n")
}

fn of_exec(stage: &Stage<'_>) -> Outcome {
    let container = stage.running(&mut with(stage, json!([mkdir("SCMP_ACT_ERRNO")])))?;
    let out = container.exec(&[], "mkdir /tmp/new 2>&1; true")?;
    has("mkdir", &out, "Operation not permitted")?;
    container.end()
}

fn misplaced_errno(stage: &Stage<'_>) -> Outcome {
    let mut rule = mkdir("SCMP_ACT_KILL");
    rule["errnoRet"] = 1.into();
    stage.refuses_late(&with(stage, json!([rule])))?;
    let mut spec = with(stage, json!([]));
    spec["linux"]["seccomp"]["defaultErrnoRet"] = 1.into();
    stage.refuses_late(&spec)?;
    stage.left_nothing()
}

fn no_names(stage: &Stage<'_>) -> Outcome {
    stage.refuses_late(&with(
        stage,
        json!([{"names": [], "action": "SCMP_ACT_ERRNO"}]),
    ))?;
    stage.left_nothing()
}

fn unknown(stage: &Stage<'_>) -> Outcome {
    let arg = json!([{"index": 0, "value": 1, "op": "SCMP_CMP_NOSUCH"}]);
    let mut op = mkdir("SCMP_ACT_ERRNO");
    op["args"] = arg;
    let mut index = mkdir("SCMP_ACT_ERRNO");
    index["args"] = json!([{"index": 6, "value": 1, "op": "SCMP_CMP_EQ"}]);
    for rule in [mkdir("SCMP_ACT_NOSUCH"), op, index] {
        stage.refuses_late(&with(stage, json!([rule])))?;
    }
    for (property, value) in [
        ("defaultAction", json!("SCMP_ACT_NOSUCH")),
        ("architectures", json!(["SCMP_ARCH_NOSUCH"])),
        ("flags", json!(["SECCOMP_FILTER_FLAG_NOSUCH"])),
    ] {
        let mut spec = with(stage, json!([mkdir("SCMP_ACT_ERRNO")]));
        spec["linux"]["seccomp"][property] = value;
        stage.refuses_late(&spec)?;
    }
    stage.left_nothing()
}
