//! config-linux.md, "Seccomp" and "The Container Process State": the listener.

use std::os::fd::AsRawFd;

use serde_json::{Value, json};

use crate::case::Case;
use crate::command::Done;
use crate::container::Container;
use crate::outcome::{Outcome, fails, has, holds, same};
use crate::socket::Listener;
use crate::spec::Spec;
use crate::stage::Stage;

const SECTION: &str = "config-linux.md: The Container Process State";

pub(crate) const CASES: &[Case] = &[
    Case::new("state_and_descriptor", SECTION, received),
    Case::new(
        "call_waits_for_the_listener",
        "config-linux.md: Seccomp",
        waits,
    ),
    Case::new("of_exec_is_another_connection", SECTION, of_exec),
    Case::new(
        "about_calls_before_the_program",
        "config-linux.md: Seccomp",
        |stage| before_program(stage, false),
    ),
    Case::new(
        "about_calls_before_the_program_with_no_new_privileges",
        "config-linux.md: Seccomp",
        |stage| before_program(stage, true),
    ),
    Case::new(
        "about_the_program_itself",
        "config-linux.md: Seccomp",
        about_execve,
    ),
    Case::new("path_is_needed", "config-linux.md: Seccomp", no_path),
    Case::new("nobody_listens", "config-linux.md: Seccomp", nobody),
    Case::new(
        "path_is_ignored_without_the_action",
        "config-linux.md: Seccomp",
        ignored,
    ),
    Case::new(
        "metadata_needs_a_path",
        "config-linux.md: Seccomp",
        metadata,
    ),
];

fn with(stage: &Stage<'_>, action: &str) -> Spec {
    let mut spec = stage.spec();
    spec["annotations"] = json!({"org.example.key": "value"});
    spec["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": stage.path("listener"),
        "listenerMetadata": "some data",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": action}],
    });
    spec
}

fn received(stage: &Stage<'_>) -> Outcome {
    let listener = Listener::new(&stage.path("listener"))?;
    let mut spec = with(stage, "SCMP_ACT_NOTIFY");
    let container = stage.running(&mut spec)?;
    let message = listener.message()?;
    let state: Value = serde_json::from_str(&message.text)?;
    holds(
        state["ociVersion"].is_string(),
        format!("no ociVersion: {}", message.text),
    )?;
    same("fds", &state["fds"], &json!(["seccompFd"]))?;
    same("pid", state["pid"].as_i64(), Some(container.pid().into()))?;
    same("metadata", state["metadata"].as_str(), Some("some data"))?;
    same(
        "state.id",
        state["state"]["id"].as_str(),
        Some(container.id()),
    )?;
    has_pid(&state, &container)?;
    same(
        "state.bundle",
        state["state"]["bundle"].as_str(),
        stage.bundle().to_str(),
    )?;
    let key = &state["state"]["annotations"]["org.example.key"];
    same("state.annotations", key.as_str(), Some("value"))?;
    let status = state["state"]["status"].as_str().unwrap_or_default();
    let known = ["creating", "created", "running"];
    holds(known.contains(&status), format!("status {status:?}"))?;
    same("descriptors", message.descriptors.len(), 1)?;
    let number = message.descriptors[0].as_raw_fd();
    let link = std::fs::read_link(format!("/proc/self/fd/{number}"))?;
    has("descriptor", &link.display().to_string(), "seccomp notify")?;
    same(
        "whether there is another connection",
        listener.has_another()?,
        false,
    )?;
    container.end()
}

/// Nobody answers, and the listener is closed: the call is one that does not exist.
fn waits(stage: &Stage<'_>) -> Outcome {
    let listener = Listener::new(&stage.path("listener"))?;
    let mut spec = with(stage, "SCMP_ACT_NOTIFY");
    spec.script("echo ready; mkdir /tmp/new 2>&1; echo $?");
    let container = stage.create(&spec)?;
    container.start()?;
    container.reads("ready\n")?;
    let message = listener.message()?;
    let Some(descriptor) = message.descriptors.first() else {
        return fails("no descriptor");
    };
    holds(
        crate::command::readable(std::os::fd::AsFd::as_fd(descriptor), crate::command::LIMIT)?,
        "no call arrives",
    )?;
    drop(message);
    has("mkdir", &container.rest()?, "Function not implemented\n1\n")?;
    container.wait()?;
    container.delete()
}

fn of_exec(stage: &Stage<'_>) -> Outcome {
    let listener = Listener::new(&stage.path("listener"))?;
    let mut spec = with(stage, "SCMP_ACT_NOTIFY");
    let container = stage.running(&mut spec)?;
    let first = listener.message()?;
    container.exec(&[], "true")?;
    let second = listener.message()?;
    let state: Value = serde_json::from_str(&second.text)?;
    let pid = state["pid"].as_i64();
    holds(
        pid.is_some_and(|pid| pid != i64::from(container.pid())),
        format!("pid {pid:?}"),
    )?;
    has_pid(&state, &container)?;
    drop((first, second));
    container.end()
}

/// A runtime may call these itself under the filter. Then it refuses, for nobody answers here; it does not wait.
fn before_program(stage: &Stage<'_>, no_new_privileges: bool) -> Outcome {
    let listener = Listener::new(&stage.path("listener"))?;
    for name in [
        "sendmsg",
        "recvmsg",
        "accept4",
        "close_range",
        "capset",
        "prctl",
    ] {
        let mut spec = with(stage, "SCMP_ACT_NOTIFY");
        spec["process"]["args"] = json!(["/bin/sleep", "1000"]);
        spec["process"]["noNewPrivileges"] = no_new_privileges.into();
        spec["linux"]["seccomp"]["syscalls"][0]["names"] = json!([name]);
        stage.write(&spec)?;
        let id = stage.id();
        let refused = |done: Done| match done.code {
            0 => Ok(false),
            _ => stage.says_why(&done.err).map(|()| true),
        };
        if refused(stage.call_on("create", &id)?)? {
            stage.left_nothing()?;
            continue;
        }
        if !refused(stage.call(&["start", &id])?)? {
            let state: Value = serde_json::from_str(&stage.call(&["state", &id])?.succeeds()?)?;
            same(name, state["status"].as_str(), Some("running"))?;
        }
        stage.call(&["delete", "--force", &id])?.succeeds()?;
        // It was open until now.
        while listener.has_another()? {
            drop(listener.message()?);
        }
    }
    Ok(())
}

/// Whoever is asked goes away: the program can't be executed.
fn about_execve(stage: &Stage<'_>) -> Outcome {
    let listener = Listener::new(&stage.path("listener"))?;
    let mut spec = with(stage, "SCMP_ACT_NOTIFY");
    spec["linux"]["seccomp"]["syscalls"][0]["names"] = json!(["execve"]);
    spec.script("echo ran");
    stage.write(&spec)?;
    let id = stage.id();
    stage.call_on("create", &id)?.succeeds()?;
    drop(listener.message()?);
    let said = stage.call(&["start", &id])?.refused()?;
    stage.says_why(&said)?;
    stage.call(&["delete", "--force", &id])?.succeeds()?;
    stage.left_nothing()
}

fn no_path(stage: &Stage<'_>) -> Outcome {
    let mut spec = with(stage, "SCMP_ACT_NOTIFY");
    if let Some(seccomp) = spec["linux"]["seccomp"].as_object_mut() {
        seccomp.remove("listenerPath");
        seccomp.remove("listenerMetadata");
    }
    stage.refuses_late(&spec)?;
    stage.left_nothing()
}

fn nobody(stage: &Stage<'_>) -> Outcome {
    stage.refuses_late(&with(stage, "SCMP_ACT_NOTIFY"))?;
    stage.left_nothing()
}

fn ignored(stage: &Stage<'_>) -> Outcome {
    stage.prints(&mut with(stage, "SCMP_ACT_ERRNO"), "echo runs", "runs\n")
}

fn metadata(stage: &Stage<'_>) -> Outcome {
    let mut spec = with(stage, "SCMP_ACT_ERRNO");
    if let Some(seccomp) = spec["linux"]["seccomp"].as_object_mut() {
        seccomp.remove("listenerPath");
    }
    stage.refuses_late(&spec)?;
    stage.left_nothing()
}

fn has_pid(state: &Value, container: &Container<'_>) -> Outcome {
    let pid = state["state"]["pid"].as_i64();
    same("state.pid", pid, Some(container.pid().into()))
}
