//! config.md, "Process": what the program is given.

use serde_json::json;

use crate::case::Case;
use crate::outcome::{Outcome, holds, same};
use crate::stage::Stage;

const SECTION: &str = "config.md: Process";

pub(crate) const CASES: &[Case] = &[
    Case::new("args_are_exact", SECTION, args),
    Case::new("args_name_the_program_by_path_or_by_name", SECTION, lookup),
    Case::new("args_are_needed", SECTION, no_args),
    Case::new("env_is_exact", SECTION, env),
    Case::new("env_repeats_as_listed", SECTION, env_repeated),
    Case::new("cwd", SECTION, cwd),
    Case::new("cwd_is_needed_absolute", SECTION, cwd_relative),
    Case::new("cwd_is_inside_the_root", SECTION, cwd_inside),
    Case::new(
        "streams_are_the_callers",
        "runtime-linux.md: File descriptors",
        streams,
    ),
    Case::new(
        "no_other_descriptors",
        "runtime-linux.md: File descriptors",
        descriptors,
    ),
    Case::new(
        "preserve_fds_passes_descriptors",
        "runtime-linux.md: File descriptors",
        preserved,
    ),
    Case::new(
        "listen_fds_are_passed",
        "runtime-linux.md: File descriptors",
        listen_fds,
    ),
    Case::new("run_has_the_exit_code", "runtime.md: Lifecycle", exit_code),
    Case::new("run_tells_the_signal", "runtime.md: Lifecycle", exit_signal),
    Case::new("run_detached", "runtime.md: Lifecycle", detached),
    Case::new(
        "run_deletes_at_the_end",
        "runtime.md: Lifecycle",
        run_deletes,
    ),
    Case::new("run_passes_signals_on", "runtime.md: Kill", passes_signals),
    Case::new("pid_file", "runtime.md: State", pid_file),
    Case::new(
        "program_is_process_1",
        "config-linux.md: Namespaces",
        process_one,
    ),
    Case::new("console_size_without_a_terminal", SECTION, console_size),
    Case::new("session_and_signals_are_fresh", SECTION, fresh),
];

fn args(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["process"]["args"] = json!(["/bin/printf", "<%s>", "a b", "", "c\"'$x", "\u{e9}\n"]);
    let out = stage.run(&spec)?.succeeds()?;
    same("arguments", out.as_str(), "<a b><><c\"'$x><\u{e9}\n>")
}

fn lookup(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    std::fs::create_dir(stage.rootfs("own"))?;
    std::os::unix::fs::symlink("/bin/busybox", stage.rootfs("own/echo"))?;
    spec["process"]["env"] = json!(["PATH=/nosuch:/own"]);
    spec["process"]["args"] = json!(["echo", "found"]);
    same("output", stage.run(&spec)?.succeeds()?.as_str(), "found\n")?;
    spec["process"]["cwd"] = "/own".into();
    spec["process"]["args"] = json!(["./echo", "relative"]);
    same(
        "output",
        stage.run(&spec)?.succeeds()?.as_str(),
        "relative\n",
    )
}

fn no_args(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["process"]["args"] = json!([]);
    stage.refuses_late(&spec)?;
    stage.left_nothing()
}

fn env(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["process"]["env"] = json!(["PATH=/bin", "HOME=/h", "A=b=c", "EMPTY=", "S= x "]);
    spec["process"]["args"] = json!(["/bin/env"]);
    let out = stage.run(&spec)?.succeeds()?;
    let mut found: Vec<&str> = out.lines().collect();
    found.sort_unstable();
    same(
        "environment",
        found,
        ["A=b=c", "EMPTY=", "HOME=/h", "PATH=/bin", "S= x "],
    )
}

fn env_repeated(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["process"]["env"] = json!(["PATH=/bin", "HOME=/first", "HOME=/second"]);
    spec["process"]["args"] = json!(["/bin/env"]);
    let out = stage.run(&spec)?.succeeds()?;
    holds(out.contains("HOME=/second\n"), format!("{out:?}"))
}

fn cwd(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["process"]["cwd"] = "/etc".into();
    stage.prints(&mut spec, "pwd; readlink /proc/self/cwd", "/etc\n/etc\n")
}

fn cwd_relative(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["process"]["cwd"] = "etc".into();
    stage.refuses_late(&spec)?;
    stage.left_nothing()
}

/// A working directory by a descriptor of the host's, CVE-2024-21626.
fn cwd_inside(stage: &Stage<'_>) -> Outcome {
    for number in 3..9 {
        let mut spec = stage.spec();
        spec["process"]["cwd"] = format!("/proc/self/fd/{number}").into();
        spec.script("ls ../../../../../../../../bin/busybox && readlink /proc/self/cwd");
        let done = stage.run(&spec)?;
        if done.code == 0 {
            holds(
                !done.out.contains("(unreachable)"),
                format!("outside: {}", done.out),
            )?;
        }
    }
    stage.left_nothing()
}

fn streams(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec.script("echo out; echo err >&2; read x; echo $?");
    let done = stage.run(&spec)?;
    // Standard input is /dev/null.
    same("standard output", done.out.as_str(), "out\n1\n")?;
    same("standard error", done.err.as_str(), "err\n")
}

/// A command of a shell's that becomes the runtime's `run`.
fn run_after(stage: &Stage<'_>, first: &str, flags: &[&str]) -> Outcome<String> {
    let id = stage.id();
    stage.remember(&id);
    let words = [&["run"], flags, &[&id]].concat();
    stage.call_after(first, &words)?.succeeds()
}

fn descriptors(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["process"]["args"] = json!(["/bin/ls", "/proc/self/fd"]);
    stage.write(&spec)?;
    // The last is the one that lists.
    let out = run_after(stage, "exec 5</etc/passwd 7</ 9</dev/null", &[])?;
    same("descriptors", out.as_str(), "0\n1\n2\n3\n")
}

fn preserved(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec.script("cat <&3; cat <&4; ls /proc/self/fd | tr '\\n' ' '");
    stage.write(&spec)?;
    for name in ["one", "two", "three"] {
        stage.source(name)?;
    }
    let path = |name: &str| stage.path(name).join("file").display().to_string();
    let first = format!(
        "exec 3<{} 4<{} 5<{}",
        path("one"),
        path("two"),
        path("three")
    );
    let out = run_after(stage, &first, &["--preserve-fds", "2"])?;
    same("output", out.as_str(), "of one\nof two\n0 1 2 3 4 5 ")
}

fn listen_fds(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec.script("cat <&3");
    stage.write(&spec)?;
    stage.source("one")?;
    let path = stage.path("one/file").display().to_string();
    let out = run_after(
        stage,
        &format!("export LISTEN_FDS=1 LISTEN_PID=$$; exec 3<{path}"),
        &[],
    )?;
    same("output", out.as_str(), "of one\n")
}

fn exit_code(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    for code in [0, 1, 7, 255] {
        spec.script(&format!("exit {code}"));
        stage.run(&spec)?.ends_with(code)?;
        stage.left_nothing()?;
    }
    Ok(())
}

fn exit_signal(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec.without_namespace("pid");
    spec.bind_instead("/proc", stage.rootless());
    spec.script("kill -KILL $$");
    stage.run(&spec)?.ends_with(128 + 9)
}

fn detached(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec.script("echo ready; exec sleep 1000");
    stage.write(&spec)?;
    let container = crate::container::Container::create(stage, &stage.id(), &["run", "--detach"])?;
    container.reads("ready\n")?;
    container.is("running")?;
    container.end()
}

fn run_deletes(stage: &Stage<'_>) -> Outcome {
    stage.run(&stage.spec())?.succeeds()?;
    stage.left_nothing()?;
    stage.call(&["state", &stage.id()])?.refused()?;
    Ok(())
}

fn passes_signals(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec.script(
        "trap 'echo got; exit 5' TERM; echo ready >/tmp/ready; \
        while :; do sleep 0.02; done",
    );
    stage.write(&spec)?;
    let fifo = stage.rootfs("tmp/ready");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, 0o666.into())?;
    let id = stage.id();
    stage.remember(&id);
    let mut command = stage.command(&["run", &id]);
    let (mut read, write) = std::io::pipe()?;
    command.stdout(write).stderr(std::process::Stdio::null());
    let child = crate::command::spawn(&mut command)?;
    drop(command);
    let ready = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&fifo)?;
    let limit = crate::command::LIMIT;
    let is_ready = crate::command::readable(std::os::fd::AsFd::as_fd(&ready), limit)?;
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
    let status = crate::command::ended(child)?;
    holds(is_ready, "the program did not begin")?;
    same("exit code", crate::command::code(status), 5)?;
    let mut out = String::new();
    std::io::Read::read_to_string(&mut read, &mut out)?;
    same("output", out.as_str(), "got\n")
}

fn pid_file(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec.script("exec sleep 1000");
    let container = stage.create(&spec)?;
    let pid = container.pid();
    let text = std::fs::read_to_string(stage.path(&format!("{}.pid", container.id())))?;
    same("pid file", text, pid.to_string())?;
    same(
        "pid of state",
        container.state()?["pid"].as_i64(),
        Some(pid.into()),
    )?;
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let inner = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let inner = inner.and_then(|line| line.split_whitespace().last());
    same("its pid in the container", inner, Some("1"))?;
    container.end()
}

fn process_one(stage: &Stage<'_>) -> Outcome {
    stage.prints(
        &mut stage.spec(),
        "echo $$; tr '\\0' ' ' </proc/1/cmdline | cut -c1-10",
        "1\n/bin/sh -c\n",
    )
}

fn console_size(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["process"]["consoleSize"] = json!({"height": 10, "width": 20});
    stage.prints(&mut spec, "test -t 1 || echo none", "none\n")
}

/// No signal is blocked or ignored that the configuration did not ask for.
fn fresh(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    let script = "s/^Sig\\(Blk\\|Ign\\):\t//p";
    spec["process"]["args"] = json!(["/bin/sed", "-n", script, "/proc/self/status"]);
    let out = stage.run(&spec)?.succeeds()?;
    for line in out.lines() {
        let found = u64::from_str_radix(line, 16).ok();
        same("blocked or ignored signals", found, Some(0))?;
    }
    same("lines", out.lines().count(), 2)
}
