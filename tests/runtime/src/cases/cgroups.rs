//! config-linux.md, "Control groups": where the container is, and what core files can do.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use crate::case::Case;
use crate::container::Container;
use crate::outcome::{Outcome, has, holds, not_applicable, same};
use crate::stage::Stage;

const PATH: &str = "config-linux.md: Cgroups Path";
const UNIFIED: &str = "config-linux.md: Unified";

pub(crate) const CASES: &[Case] = &[
    Case::new("absolute_path", PATH, absolute),
    Case::new("path_is_made_and_removed", PATH, made),
    Case::new("nested_path", PATH, nested),
    Case::new("relative_path_is_consistent", PATH, relative),
    Case::new("no_path", PATH, no_path),
    Case::new("exec_is_in_it", PATH, exec),
    Case::new("what_was_there_stays", "runtime.md: Delete", stays),
    Case::new(
        "frozen_at_create",
        "config-linux.md: Control groups",
        frozen,
    ),
    Case::new("pause_and_resume", "runtime.md: State", pause),
    Case::new("paused_can_be_killed", "runtime.md: Kill", kill_paused),
    Case::new("path_that_leads_upward", PATH, upward),
    Case::new("one_that_is_there_and_empty", PATH, prepared),
    Case::new("unified_core_files", UNIFIED, unified),
    Case::new("unified_file_that_is_missing", UNIFIED, unified_missing),
    Case::new("unified_without_the_controller", UNIFIED, no_controller),
    Case::new("unified_stays_in_the_cgroup", UNIFIED, unified_outside),
    Case::new(
        "limit_without_the_controller",
        "runtime.md: Create",
        limit_without,
    ),
];

/// The path of a process's cgroup.
fn cgroup_of(pid: i32) -> Outcome<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup"))?;
    let own = text.lines().find_map(|line| line.strip_prefix("0::"));
    Ok(own.unwrap_or_default().to_owned())
}

/// The directory of a process's cgroup.
pub(super) fn directory_of(pid: i32) -> Outcome<PathBuf> {
    Ok(PathBuf::from(format!("/sys/fs/cgroup{}", cgroup_of(pid)?)))
}

/// Asserts that a container is where `cgroupsPath` says.
fn is_in_place(stage: &Stage<'_>, container: &Container<'_>) -> Outcome {
    let expected = stage.cgroup(container.id());
    same("cgroup", cgroup_of(container.pid())?, expected)
}

fn absolute(stage: &Stage<'_>) -> Outcome {
    let container = stage.running(&mut stage.spec())?;
    is_in_place(stage, &container)?;
    container.end()
}

fn made(stage: &Stage<'_>) -> Outcome {
    let directory = stage.cgroup_directory(&stage.id());
    let container = stage.running(&mut stage.spec())?;
    holds(directory.is_dir(), "it was not made")?;
    container.kill("KILL")?;
    container.wait()?;
    container.delete()?;
    holds(!directory.exists(), "it was not removed")
}

/// What its owner has set stays.
fn prepared(stage: &Stage<'_>) -> Outcome {
    let directory = stage.cgroup_directory(&stage.id());
    fs::create_dir(&directory)?;
    let limit = directory.join("cgroup.max.descendants");
    fs::write(&limit, "7")?;
    let container = stage.running(&mut stage.spec())?;
    is_in_place(stage, &container)?;
    same("limit", fs::read_to_string(&limit)?.trim(), "7")?;
    container.end()
}

fn nested(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    let path = format!("{}/one/two", stage.cgroup(&stage.id()));
    spec["linux"]["cgroupsPath"] = path.clone().into();
    let container = stage.running(&mut spec)?;
    let found = cgroup_of(container.pid())?;
    container.end()?;
    let deepest = stage.cgroup_directory(&stage.id()).join("one/two");
    holds(!deepest.exists(), "it was not removed")?;
    // Those on the way were made by this container too; whether they stay is the runtime's to say.
    crate::left::remove_cgroups(stage.runtime().own_cgroup(), &stage.id());
    same("cgroup", found, path)
}

fn relative(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["linux"]["cgroupsPath"] = stage.id().into();
    let mut found = Vec::new();
    for _ in 0..2 {
        let container = match stage.running(&mut spec) {
            Err(_) if stage.rootless() => return not_applicable("that place is not the user's"),
            container => container?,
        };
        found.push(cgroup_of(container.pid())?);
        container.end()?;
    }
    same("the second time", &found[1], &found[0])?;
    holds(
        found[0].contains(&stage.id()),
        format!("cgroup {}", found[0]),
    )
}

fn no_path(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    if let Some(linux) = spec["linux"].as_object_mut() {
        linux.remove("cgroupsPath");
    }
    let container = stage.running(&mut spec)?;
    container.is("running")?;
    container.end()
}

pub(super) fn exec(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    // So that the path can be seen from inside.
    spec.without_namespace("cgroup");
    let container = stage.running(&mut spec)?;
    let out = container.exec(&[], "sed -n s/^0:://p /proc/self/cgroup")?;
    same(
        "cgroup of exec",
        out.trim_end(),
        cgroup_of(container.pid())?.as_str(),
    )?;
    container.end()
}

/// "Resources associated with the container, but not created by this container, MUST NOT be deleted."
fn stays(stage: &Stage<'_>) -> Outcome {
    let parent = stage.cgroup_directory(&stage.id());
    fs::create_dir(&parent)?;
    let mut spec = stage.spec();
    spec["linux"]["cgroupsPath"] = format!("{}/inner", stage.cgroup(&stage.id())).into();
    let container = stage.running(&mut spec)?;
    container.end()?;
    let is_there = parent.is_dir();
    let _ = fs::remove_dir(&parent);
    holds(is_there, "the cgroup above it was removed")
}

/// A runtime may look, and then it is an error; what it must not do is hang.
fn frozen(stage: &Stage<'_>) -> Outcome {
    let directory = stage.cgroup_directory(&stage.id());
    fs::create_dir(&directory)?;
    fs::write(directory.join("cgroup.freeze"), "1")?;
    stage.write(&stage.spec())?;
    stage.remember(&stage.id());
    let done = stage.call(&["create", &stage.id()]);
    fs::write(directory.join("cgroup.freeze"), "0")?;
    let done = done?;
    if done.code == 0 {
        stage.call(&["delete", "--force", &stage.id()])?;
        let _ = fs::remove_dir(&directory);
        return not_applicable("it is not looked at");
    }
    let _ = fs::remove_dir(&directory);
    stage.says_why(&done.err)
}

pub(super) fn pause(stage: &Stage<'_>) -> Outcome {
    let container = stage.running(&mut stage.spec())?;
    let events = directory_of(container.pid())?.join("cgroup.events");
    stage.call(&["pause", container.id()])?.succeeds()?;
    container.is("paused")?;
    has("cgroup.events", &fs::read_to_string(&events)?, "frozen 1")?;
    stage.call(&["resume", container.id()])?.succeeds()?;
    container.is("running")?;
    has("cgroup.events", &fs::read_to_string(&events)?, "frozen 0")?;
    container.end()
}

fn kill_paused(stage: &Stage<'_>) -> Outcome {
    let container = stage.running(&mut stage.spec())?;
    stage.call(&["pause", container.id()])?.succeeds()?;
    container.end()
}

/// "Runtimes MAY consider certain values to be invalid": nothing is made outside of the hierarchy.
fn upward(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    let outside = stage.path("outside").display().to_string();
    spec["linux"]["cgroupsPath"] = format!("/../../../..{outside}").into();
    let done = stage.run(&spec)?;
    holds(
        !stage.path("outside").exists(),
        "a directory was made outside of the cgroups",
    )?;
    if done.code != 0 {
        return stage.says_why(&done.err);
    }
    Ok(())
}

fn unified(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["linux"]["resources"]["unified"] =
        json!({"cgroup.max.depth": "3", "cgroup.max.descendants": "17"});
    let container = stage.running(&mut spec)?;
    let directory = stage.cgroup_directory(container.id());
    let read = |name: &str| fs::read_to_string(directory.join(name));
    same("depth", read("cgroup.max.depth")?.trim_end(), "3")?;
    same(
        "descendants",
        read("cgroup.max.descendants")?.trim_end(),
        "17",
    )?;
    container.end()
}

fn unified_missing(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["linux"]["resources"]["unified"] = json!({"cgroup.nosuch": "1"});
    stage.refuses(&spec)?;
    Ok(())
}

fn no_controller(stage: &Stage<'_>) -> Outcome {
    if stage.runtime().has_controller("memory") {
        return not_applicable("the controller is there");
    }
    let mut spec = stage.spec();
    spec["linux"]["resources"]["unified"] = json!({"memory.max": "100000000"});
    stage.refuses(&spec)?;
    Ok(())
}

fn unified_outside(stage: &Stage<'_>) -> Outcome {
    for name in ["../cgroup.max.depth", "a/b", ""] {
        let mut spec = stage.spec();
        spec["linux"]["resources"]["unified"] = json!({name: "3"});
        stage.refuses(&spec)?;
    }
    Ok(())
}

fn limit_without(stage: &Stage<'_>) -> Outcome {
    if stage.runtime().has_controller("memory") || stage.runtime().has_controller("pids") {
        return not_applicable("the controllers are there");
    }
    for limit in [
        json!({"memory": {"limit": 100_000_000}}),
        json!({"pids": {"limit": 50}}),
    ] {
        let mut spec = stage.spec();
        spec["linux"]["resources"] = limit;
        stage.refuses(&spec)?;
    }
    Ok(())
}
