//! `--systemd-cgroup`: no part of the specification, but of the command line that engines know from runc.
//! `cgroupsPath` is `SLICE:PREFIX:NAME` then, and the cgroup is in a scope that systemd makes.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;

use super::cgroups::directory_of;
use super::{cgroups, events};
use crate::case::{Case, Needs};
use crate::container::Container;
use crate::outcome::{Outcome, fails, holds, same};
use crate::stage::Stage;

const SECTION: &str = "runc: docs/systemd.md";

pub(crate) const CASES: &[Case] = &[
    case("the_scope_is_prefix_and_name", named),
    case("the_first_part_is_the_slice", in_slice),
    case("limits_are_in_force", limits),
    case("update", update),
    case("exec_is_in_it", cgroups::exec),
    case("pause_and_resume", cgroups::pause),
    case("delete_takes_the_scope_along", delete),
    case("of_a_container_that_is_not_made", not_made),
    case("path_of_another_form", another_form),
    case("a_kill_for_memory_is_told", events::out_of_memory),
];

const fn case(name: &'static str, play: fn(&Stage<'_>) -> Outcome) -> Case {
    Case::new(name, SECTION, play).needs(Needs::Systemd)
}

/// The directory of the scope that a container is in.
fn scope(stage: &Stage<'_>, container: &Container<'_>) -> Outcome<PathBuf> {
    let directory = directory_of(container.pid())?;
    let name = format!("rs-{}.scope", container.id());
    match directory.ancestors().find(|above| above.ends_with(&name)) {
        Some(scope) => Ok(scope.to_owned()),
        None => fails(format!(
            "cgroup {}, expected {}",
            directory.display(),
            stage.scope()
        )),
    }
}

/// The smallest number that a file says in the container's cgroup and those above it, up to the scope.
fn least(scope: &Path, container: &Container<'_>, file: &str) -> Outcome<Option<u64>> {
    let own = directory_of(container.pid())?;
    let places = own.ancestors().take_while(|path| path.starts_with(scope));
    let numbers = places.filter_map(|path| {
        let text = fs::read_to_string(path.join(file)).ok()?;
        text.trim_end().parse().ok()
    });
    Ok(numbers.min())
}

fn named(stage: &Stage<'_>) -> Outcome {
    let container = stage.running(&mut stage.spec())?;
    scope(stage, &container)?;
    container.end()
}

fn in_slice(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["linux"]["cgroupsPath"] = format!("kelpsuite.slice:rs:{}", stage.id()).into();
    let container = stage.running(&mut spec)?;
    let scope = scope(stage, &container)?;
    container.end()?;
    let parent = scope.parent().and_then(Path::file_name).unwrap_or_default();
    same("above the scope", parent.to_str(), Some("kelpsuite.slice"))
}

fn limits(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["linux"]["resources"] = json!({
        "memory": {"limit": 67_108_864}, "pids": {"limit": 77},
    });
    let container = stage.running(&mut spec)?;
    let scope = scope(stage, &container)?;
    let memory = least(&scope, &container, "memory.max")?;
    let pids = least(&scope, &container, "pids.max")?;
    container.end()?;
    same(
        "memory and processes",
        (memory, pids),
        (Some(67_108_864), Some(77)),
    )
}

fn update(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["linux"]["resources"] = json!({"pids": {"limit": 77}});
    let container = stage.running(&mut spec)?;
    let scope = scope(stage, &container)?;
    let words = ["update", "--pids-limit", "60", container.id()];
    stage.call(&words)?.succeeds()?;
    same(
        "processes",
        least(&scope, &container, "pids.max")?,
        Some(60),
    )?;
    container.end()
}

fn delete(stage: &Stage<'_>) -> Outcome {
    for force in [false, true] {
        let container = stage.running(&mut stage.spec())?;
        let scope = scope(stage, &container)?;
        if force {
            let words = ["delete", "--force", container.id()];
            stage.call(&words)?.succeeds()?;
            container.wait()?;
        } else {
            container.end()?;
        }
        holds(!scope.exists(), "the scope's cgroup is there still")?;
    }
    Ok(())
}

/// The name is free again.
fn not_made(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["process"]["args"] = json!(["/nosuch"]);
    stage.refuses_late(&spec)?;
    let container = stage.running(&mut stage.spec())?;
    container.end()
}

fn another_form(stage: &Stage<'_>) -> Outcome {
    for path in ["/a/b", "a", "a:b"] {
        let mut spec = stage.spec();
        spec["linux"]["cgroupsPath"] = path.into();
        stage.refuses(&spec)?;
    }
    Ok(())
}
