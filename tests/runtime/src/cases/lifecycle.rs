//! runtime.md: operations, their order and their errors.

use std::fs;

use serde_json::json;

use crate::case::Case;
use crate::outcome::{Outcome, holds, same};
use crate::stage::Stage;

pub(crate) const CASES: &[Case] = &[
    Case::new("a_life", "runtime.md: Lifecycle", life),
    Case::new(
        "create_does_not_run_the_program",
        "runtime.md: Create",
        create_waits,
    ),
    Case::new("create_needs_a_new_id", "runtime.md: Create", new_id),
    Case::new(
        "create_refuses_invalid_ids",
        "runtime.md: Create",
        invalid_ids,
    ),
    Case::new(
        "create_needs_an_id_and_a_bundle",
        "runtime.md: Create",
        no_id,
    ),
    Case::new(
        "changed_config_has_no_effect",
        "runtime.md: Lifecycle",
        changed_config,
    ),
    Case::new(
        "start_needs_a_created_container",
        "runtime.md: Start",
        start_twice,
    ),
    Case::new("start_needs_a_process", "runtime.md: Start", no_process),
    Case::new("start_of_none", "runtime.md: Start", |stage| {
        of_none(stage, "start")
    }),
    Case::new("state_of_none", "runtime.md: Query State", |stage| {
        of_none(stage, "state")
    }),
    Case::new("kill_of_none", "runtime.md: Kill", |stage| {
        of_none(stage, "kill")
    }),
    Case::new("delete_of_none", "runtime.md: Delete", |stage| {
        of_none(stage, "delete")
    }),
    Case::new(
        "start_failing_after_create",
        "runtime.md: Errors",
        start_of_nothing,
    ),
    Case::new(
        "kill_of_a_created_container",
        "runtime.md: Kill",
        kill_created,
    ),
    Case::new("kill_sends_the_signal", "runtime.md: Kill", kill_sends),
    Case::new(
        "kill_knows_names_and_numbers",
        "runtime.md: Kill",
        signal_names,
    ),
    Case::new(
        "kill_refuses_an_unknown_signal",
        "runtime.md: Kill",
        unknown_signal,
    ),
    Case::new(
        "kill_of_a_stopped_container",
        "runtime.md: Kill",
        kill_stopped,
    ),
    Case::new(
        "delete_of_a_running_container",
        "runtime.md: Delete",
        delete_running,
    ),
    Case::new(
        "delete_of_a_created_container",
        "runtime.md: Delete",
        delete_created,
    ),
    Case::new(
        "start_of_one_that_is_killed_on_the_way",
        "runtime.md: Start",
        killed_on_the_way,
    ),
    Case::new("delete_forced_kills", "runtime.md: Delete", delete_forced),
    Case::new(
        "delete_removes_what_was_created",
        "runtime.md: Delete",
        delete_removes,
    ),
    Case::new("an_id_can_be_used_again", "runtime.md: Delete", again),
    Case::new("state_has_its_fields", "runtime.md: State", state_fields),
    Case::new("state_has_annotations", "runtime.md: State", annotations),
    Case::new("two_containers_at_once", "runtime.md: State", two),
    Case::new(
        "root_separates_containers",
        "runtime.md: Create",
        separate_roots,
    ),
];

fn life(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec.script("echo begins; read x; exit 7");
    let container = stage.create(&spec)?;
    container.is("created")?;
    container.start()?;
    container.reads("begins\n")?;
    same("exit code", container.wait()?, 7)?;
    container.is("stopped")?;
    container.delete()?;
    stage.refuses_call(&["state", container.id()])?;
    stage.left_nothing()
}

fn create_waits(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec.script("touch /tmp/ran");
    let container = stage.create(&spec)?;
    container.is("created")?;
    holds(
        !stage.rootfs("tmp/ran").exists(),
        "the program ran before start",
    )?;
    container.start()?;
    same("exit code", container.wait()?, 0)?;
    holds(stage.rootfs("tmp/ran").exists(), "the program did not run")?;
    container.delete()
}

fn new_id(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    let container = stage.running(&mut spec)?;
    let said = stage.call(&["create", container.id()])?.refused()?;
    stage.says_why(&said)?;
    container.is("running")?;
    container.end()?;
    stage.left_nothing()
}

fn invalid_ids(stage: &Stage<'_>) -> Outcome {
    stage.write(&stage.spec())?;
    for id in ["", "..", ".", "a/b", "../a", "a b"] {
        let done = stage.call(&["create", id])?;
        holds(done.code != 0, format!("{id:?} was taken for an id"))?;
        stage.says_why(&done.err)?;
    }
    stage.left_nothing()
}

fn no_id(stage: &Stage<'_>) -> Outcome {
    stage.write(&stage.spec())?;
    stage.call(&["create"])?.refused()?;
    let nowhere = stage.path("nowhere").display().to_string();
    stage.refuses_call(&["create", "--bundle", &nowhere, &stage.id()])?;
    // A directory without config.json.
    let empty = stage.source("empty")?;
    stage.refuses_call(&["create", "--bundle", &empty, &stage.id()])?;
    Ok(())
}

fn changed_config(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec.script("echo first");
    let container = stage.create(&spec)?;
    spec.script("echo second");
    spec["hostname"] = "second".into();
    stage.write(&spec)?;
    container.start()?;
    same("output", container.rest()?.as_str(), "first\n")?;
    container.wait()?;
    container.delete()
}

fn start_twice(stage: &Stage<'_>) -> Outcome {
    let container = stage.running(&mut stage.spec())?;
    let said = stage.call(&["start", container.id()])?.refused()?;
    stage.says_why(&said)?;
    container.is("running")?;
    container.kill("KILL")?;
    container.wait()?;
    stage.call(&["start", container.id()])?.refused()?;
    container.is("stopped")?;
    container.delete()
}

fn no_process(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["process"].take();
    if let Some(object) = spec.as_object_mut() {
        object.remove("process");
    }
    stage.refuses_late(&spec)?;
    stage.left_nothing()
}

fn of_none(stage: &Stage<'_>, verb: &str) -> Outcome {
    stage.call(&[verb])?.refused()?;
    let id = stage.id();
    let said = stage.call(&[verb, &id])?.refused()?;
    stage.says_why(&said)?;
    stage.left_nothing()
}

fn start_of_nothing(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    for program in ["/bin/nosuch", "nosuch", "/etc/passwd", "/etc"] {
        spec["process"]["args"] = json!([program]);
        stage.refuses_late(&spec)?;
    }
    stage.left_nothing()
}

/// Its own filter kills it where it would become the program.
fn killed_on_the_way(stage: &Stage<'_>) -> Outcome {
    for no_new_privileges in [false, true] {
        let mut spec = stage.spec();
        spec.script("touch /tmp/ran");
        spec["process"]["noNewPrivileges"] = no_new_privileges.into();
        spec["linux"]["seccomp"] = json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "syscalls": [{"names": ["execve", "execveat"], "action": "SCMP_ACT_KILL_PROCESS"}],
        });
        let container = stage.create(&spec)?;
        let said = stage.call(&["start", container.id()])?.refused()?;
        stage.says_why(&said)?;
        container.wait()?;
        container.is("stopped")?;
        container.delete()?;
        holds(!stage.rootfs("tmp/ran").exists(), "the program ran")?;
    }
    stage.left_nothing()
}

fn kill_created(stage: &Stage<'_>) -> Outcome {
    let container = stage.create(&stage.spec())?;
    container.kill("KILL")?;
    same("exit code", container.wait()?, 128 + 9)?;
    container.is("stopped")?;
    container.delete()?;
    stage.left_nothing()
}

fn kill_sends(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec.script(
        "trap 'echo usr1' USR1; trap 'echo term; exit 3' TERM; echo ready; \
        while :; do sleep 0.02; done",
    );
    let container = stage.create(&spec)?;
    container.start()?;
    container.reads("ready\n")?;
    container.kill("USR1")?;
    container.reads("usr1\n")?;
    container.is("running")?;
    // SIGTERM is what is sent where nothing is said.
    stage.call(&["kill", container.id()])?.succeeds()?;
    container.reads("term\n")?;
    same("exit code", container.wait()?, 3)?;
    container.delete()
}

fn signal_names(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec.script(
        "for n in HUP INT USR1 USR2 WINCH; do trap \"echo $n\" $n; done; echo ready; \
        while :; do sleep 0.02; done",
    );
    let container = stage.create(&spec)?;
    container.start()?;
    container.reads("ready\n")?;
    for (word, name) in [
        ("SIGHUP", "HUP"),
        ("INT", "INT"),
        ("10", "USR1"),
        ("SIGUSR2", "USR2"),
    ] {
        container.kill(word)?;
        container.reads(&format!("{name}\n"))?;
    }
    container.end()
}

fn unknown_signal(stage: &Stage<'_>) -> Outcome {
    let container = stage.running(&mut stage.spec())?;
    for word in ["NOSUCH", "4711", "-1"] {
        let done = stage.call(&["kill", container.id(), word])?;
        holds(done.code != 0, format!("{word} was taken for a signal"))?;
    }
    container.is("running")?;
    container.end()
}

fn kill_stopped(stage: &Stage<'_>) -> Outcome {
    let container = stage.create(&stage.spec())?;
    container.start()?;
    container.wait()?;
    let said = stage.call(&["kill", container.id(), "KILL"])?.refused()?;
    stage.says_why(&said)?;
    container.is("stopped")?;
    container.delete()
}

fn delete_running(stage: &Stage<'_>) -> Outcome {
    let container = stage.running(&mut stage.spec())?;
    let said = stage.call(&["delete", container.id()])?.refused()?;
    stage.says_why(&said)?;
    container.is("running")?;
    container.end()
}

/// Only a stopped container can be deleted: one that was created is not stopped.
fn delete_created(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec.script("echo ran");
    let container = stage.create(&spec)?;
    stage.call(&["delete", container.id()])?.refused()?;
    container.is("created")?;
    container.start()?;
    container.reads("ran\n")?;
    container.wait()?;
    container.delete()
}

fn delete_forced(stage: &Stage<'_>) -> Outcome {
    let container = stage.running(&mut stage.spec())?;
    stage
        .call(&["delete", "--force", container.id()])?
        .succeeds()?;
    same("exit code", container.wait()?, 128 + 9)?;
    stage.left_nothing()
}

fn delete_removes(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    let own = stage.source("own")?;
    spec.mount(json!({"destination": "/m", "source": own, "options": ["bind"]}));
    let container = stage.running(&mut spec)?;
    container.end()?;
    stage.left_nothing()?;
    // What was there before stays.
    holds(
        stage.path("own/file").exists(),
        "the source of a bind is gone",
    )?;
    holds(
        stage.rootfs("bin/sh").exists(),
        "the root file system is gone",
    )
}

fn again(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    for word in ["one", "two"] {
        spec.script(&format!("echo {word}"));
        let container = stage.create(&spec)?;
        container.start()?;
        same("output", container.rest()?.as_str(), format!("{word}\n"))?;
        container.wait()?;
        container.delete()?;
    }
    Ok(())
}

fn state_fields(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec.script("echo ready; exec sleep 1000");
    let container = stage.create(&spec)?;
    let check = |status: &str, pid: Option<i32>| -> Outcome {
        let state = container.state()?;
        same("status", state["status"].as_str(), Some(status))?;
        same("id", state["id"].as_str(), Some(container.id()))?;
        same("bundle", state["bundle"].as_str(), stage.bundle().to_str())?;
        let version = state["ociVersion"].as_str().unwrap_or_default();
        holds(version.starts_with("1."), format!("ociVersion {version:?}"))?;
        match pid {
            Some(pid) => same("pid", state["pid"].as_i64(), Some(pid.into())),
            None => Ok(()),
        }
    };
    check("created", Some(container.pid()))?;
    container.start()?;
    container.reads("ready\n")?;
    check("running", Some(container.pid()))?;
    container.kill("KILL")?;
    container.wait()?;
    check("stopped", None)?;
    container.delete()
}

fn annotations(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["annotations"] = json!({"org.example.key": "a \"value\"", "org.example.empty": ""});
    let container = stage.create(&spec)?;
    let state = container.state()?;
    let found = &state["annotations"];
    same(
        "key",
        found["org.example.key"].as_str(),
        Some("a \"value\""),
    )?;
    same("empty", found["org.example.empty"].as_str(), Some(""))
}

fn two(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    let first = stage.running(&mut spec)?;
    spec["linux"]["cgroupsPath"] = stage.cgroup(&stage.other_id("b")).into();
    let second = stage.create_as(&stage.other_id("b"), &spec)?;
    second.is("created")?;
    first.is("running")?;
    first.end()?;
    second.is("created")?;
    second.end()
}

fn separate_roots(stage: &Stage<'_>) -> Outcome {
    let container = stage.running(&mut stage.spec())?;
    let other = stage.path("other-state").display().to_string();
    let mut command = std::process::Command::new(stage.runtime().path());
    stage.furnish(&mut command);
    command.args(["--root", &other, "state", container.id()]);
    stage.finish(command)?.refused()?;
    let left: Vec<_> = fs::read_dir(&other).into_iter().flatten().collect();
    same("entries of another root", left.len(), 0)?;
    container.end()
}
