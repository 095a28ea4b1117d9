//! `exec`, as runc's command line has it: the specification leaves it to runtimes.

use std::fs;

use serde_json::json;

use crate::case::Case;
use crate::outcome::{Outcome, holds, same};
use crate::stage::Stage;

const SECTION: &str = "config.md: Process";

pub(crate) const CASES: &[Case] = &[
    Case::new("exit_code", SECTION, exit_code),
    Case::new(
        "in_the_containers_namespaces",
        "config-linux.md: Namespaces",
        namespaces,
    ),
    Case::new("env_is_the_containers_and_more", SECTION, env),
    Case::new("cwd", SECTION, cwd),
    Case::new("user", "config.md: POSIX-platform User", user),
    Case::new("cap", "config.md: Linux Process", cap),
    Case::new(
        "capabilities_of_the_container",
        "config.md: Linux Process",
        capabilities,
    ),
    Case::new("no_new_privs", "config.md: Linux Process", no_new_privs),
    Case::new("process_file", SECTION, process_file),
    Case::new(
        "process_file_with_limits",
        "config.md: POSIX process",
        process_limits,
    ),
    Case::new("detached_with_a_pid_file", "runtime.md: State", detached),
    Case::new(
        "preserve_fds",
        "runtime-linux.md: File descriptors",
        preserve_fds,
    ),
    Case::new(
        "no_other_descriptors",
        "runtime-linux.md: File descriptors",
        descriptors,
    ),
    Case::new("program_that_is_missing", "runtime.md: Errors", missing),
    Case::new("of_a_stopped_container", "runtime.md: Errors", stopped),
    Case::new("of_none", "runtime.md: Errors", of_none),
    Case::new("of_a_created_container", "runtime.md: State", created),
    Case::new("of_a_paused_container", "runtime.md: State", paused),
    Case::new("malformed_process_file", "runtime.md: Errors", malformed),
];

fn exit_code(stage: &Stage<'_>) -> Outcome {
    let container = stage.running(&mut stage.spec())?;
    for code in ["0", "7", "255"] {
        let script = format!("exit {code}");
        let done = stage.call(&["exec", container.id(), "/bin/sh", "-c", &script])?;
        done.ends_with(code.parse().unwrap_or(-1))?;
    }
    let done = stage.call(&["exec", container.id(), "/bin/sh", "-c", "kill -KILL $$"])?;
    done.ends_with(128 + 9)?;
    container.end()
}

fn namespaces(stage: &Stage<'_>) -> Outcome {
    let container = stage.running(&mut stage.spec())?;
    let script = "for n in user pid net ipc uts mnt cgroup; do \
        test $(readlink /proc/1/ns/$n) = $(readlink /proc/self/ns/$n) || echo $n; done; ls -d /bin";
    same(
        "other namespaces",
        container.exec(&[], script)?.as_str(),
        "/bin\n",
    )?;
    container.end()
}

fn env(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["process"]["env"] = json!(["PATH=/bin", "HOME=/", "A=container"]);
    let container = stage.running(&mut spec)?;
    let words = [
        "exec",
        "--env",
        "B=b c",
        "--env",
        "C=",
        container.id(),
        "/bin/env",
    ];
    let out = stage.call(&words)?.succeeds()?;
    let mut found: Vec<&str> = out.lines().collect();
    found.sort_unstable();
    same(
        "environment",
        found,
        ["A=container", "B=b c", "C=", "HOME=/", "PATH=/bin"],
    )?;
    container.end()
}

fn cwd(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["process"]["cwd"] = "/bin".into();
    let container = stage.running(&mut spec)?;
    same("cwd", container.exec(&[], "pwd")?.as_str(), "/bin\n")?;
    same(
        "cwd",
        container.exec(&["--cwd", "/etc"], "pwd")?.as_str(),
        "/etc\n",
    )?;
    container.end()
}

fn user(stage: &Stage<'_>) -> Outcome {
    let container = stage.running(&mut stage.wide_spec()?)?;
    let flags = ["--user", "1000:1001"];
    same(
        "ids",
        container.exec(&flags, "id -u; id -g")?.as_str(),
        "1000\n1001\n",
    )?;
    container.end()
}

const SETS: &str = "sed -n 's/^Cap\\(Eff\\|Bnd\\):\t//p' /proc/self/status";

fn cap(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec.capabilities(&["CAP_KILL"]);
    let container = stage.running(&mut spec)?;
    let out = container.exec(&["--cap", "CAP_CHOWN"], SETS)?;
    same(
        "effective and bounding",
        out.as_str(),
        "0000000000000021\n0000000000000021\n",
    )?;
    container.end()
}

fn capabilities(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec.capabilities(&["CAP_KILL"]);
    let container = stage.running(&mut spec)?;
    let out = container.exec(&[], SETS)?;
    same(
        "effective and bounding",
        out.as_str(),
        "0000000000000020\n0000000000000020\n",
    )?;
    container.end()
}

fn no_new_privs(stage: &Stage<'_>) -> Outcome {
    let container = stage.running(&mut stage.spec())?;
    let script = "sed -n 's/^NoNewPrivs:\t//p' /proc/self/status";
    same("without", container.exec(&[], script)?.as_str(), "0\n")?;
    same(
        "with",
        container.exec(&["--no-new-privs"], script)?.as_str(),
        "1\n",
    )?;
    container.end()
}

fn process(stage: &Stage<'_>, process: &serde_json::Value) -> Outcome<String> {
    let path = stage.path("process.json");
    fs::write(&path, process.to_string())?;
    Ok(path.display().to_string())
}

fn process_file(stage: &Stage<'_>) -> Outcome {
    let container = stage.running(&mut stage.spec())?;
    let path = process(
        stage,
        &json!({
            "user": {"uid": 0, "gid": 0, "umask": 0o27},
            "args": ["/bin/sh", "-c", "pwd; echo $A; umask; exit 9"],
            "env": ["PATH=/bin", "A=of the file"],
            "cwd": "/etc",
        }),
    )?;
    let done = stage.call(&["exec", "--process", &path, container.id()])?;
    done.ends_with(9)?;
    same("output", done.out.as_str(), "/etc\nof the file\n0027\n")?;
    container.end()
}

fn process_limits(stage: &Stage<'_>) -> Outcome {
    let container = stage.running(&mut stage.spec())?;
    let path = process(
        stage,
        &json!({
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/sh", "-c", "ulimit -n; cat /proc/self/oom_score_adj"],
            "env": ["PATH=/bin"],
            "cwd": "/",
            "rlimits": [{"type": "RLIMIT_NOFILE", "soft": 77, "hard": 88}],
            "oomScoreAdj": 321,
        }),
    )?;
    let out = stage
        .call(&["exec", "--process", &path, container.id()])?
        .succeeds()?;
    same("output", out.as_str(), "77\n321\n")?;
    container.end()
}

fn detached(stage: &Stage<'_>) -> Outcome {
    let container = stage.running(&mut stage.spec())?;
    let file = stage.path("exec.pid");
    let path = file.display().to_string();
    let words = [
        "exec",
        "--detach",
        "--pid-file",
        &path,
        container.id(),
        "/bin/sleep",
        "1000",
    ];
    stage.call(&words)?.succeeds()?;
    let pid = fs::read_to_string(&file)?;
    let command = fs::read_to_string(format!("/proc/{}/cmdline", pid.trim()))?;
    same(
        "what runs",
        command.replace('\0', " ").as_str(),
        "/bin/sleep 1000 ",
    )?;
    container.end()
}

fn preserve_fds(stage: &Stage<'_>) -> Outcome {
    let container = stage.running(&mut stage.spec())?;
    stage.source("one")?;
    let first = format!("exec 3<{}", stage.path("one/file").display());
    let words = [
        "exec",
        "--preserve-fds",
        "1",
        container.id(),
        "/bin/sh",
        "-c",
        "cat <&3",
    ];
    same(
        "output",
        stage.call_after(&first, &words)?.succeeds()?.as_str(),
        "of one\n",
    )?;
    container.end()
}

fn descriptors(stage: &Stage<'_>) -> Outcome {
    let container = stage.running(&mut stage.spec())?;
    let words = ["exec", container.id(), "/bin/ls", "/proc/self/fd"];
    let out = stage
        .call_after("exec 5</etc/passwd 7</", &words)?
        .succeeds()?;
    same("descriptors", out.as_str(), "0\n1\n2\n3\n")?;
    container.end()
}

fn missing(stage: &Stage<'_>) -> Outcome {
    let container = stage.running(&mut stage.spec())?;
    for program in ["nosuch", "/bin/nosuch", "/etc/passwd"] {
        let said = stage.call(&["exec", container.id(), program])?.refused()?;
        stage.says_why(&said)?;
    }
    container.is("running")?;
    container.end()
}

fn stopped(stage: &Stage<'_>) -> Outcome {
    let container = stage.create(&stage.spec())?;
    container.start()?;
    container.wait()?;
    let said = stage
        .call(&["exec", container.id(), "/bin/true"])?
        .refused()?;
    stage.says_why(&said)?;
    container.delete()
}

fn of_none(stage: &Stage<'_>) -> Outcome {
    let said = stage.call(&["exec", &stage.id(), "/bin/true"])?.refused()?;
    stage.says_why(&said)
}

/// The environment is there; the program need not run.
fn created(stage: &Stage<'_>) -> Outcome {
    let container = stage.create(&stage.spec())?;
    same(
        "output",
        container.exec(&[], "echo here")?.as_str(),
        "here\n",
    )?;
    container.is("created")?;
    container.start()?;
    container.wait()?;
    container.delete()
}

fn paused(stage: &Stage<'_>) -> Outcome {
    let container = stage.running(&mut stage.spec())?;
    stage.call(&["pause", container.id()])?.succeeds()?;
    let done = stage.call(&["exec", container.id(), "/bin/true"]);
    stage.call(&["resume", container.id()])?.succeeds()?;
    let done = done?;
    holds(done.code != 0, "it ran")?;
    stage.says_why(&done.err)?;
    container.end()
}

fn malformed(stage: &Stage<'_>) -> Outcome {
    let container = stage.running(&mut stage.spec())?;
    let path = stage.path("process.json").display().to_string();
    for text in ["", "{", "[]", "{\"args\": 1}"] {
        fs::write(&path, text)?;
        let said = stage
            .call(&["exec", "--process", &path, container.id()])?
            .refused()?;
        stage.says_why(&said)?;
    }
    container.end()
}
