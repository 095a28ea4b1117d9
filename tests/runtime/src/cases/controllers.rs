//! config-linux.md, "Control groups": limits, which need cgroup v2 controllers.

use std::fs;

use serde_json::json;

use crate::case::{Case, Needs};
use crate::outcome::{Outcome, same};
use crate::stage::Stage;

const UNIFIED: &str = "config-linux.md: Unified";

pub(crate) const CASES: &[Case] = &[
    Case::new("memory_limit", "config-linux.md: Memory", |stage| {
        let memory = json!({"limit": 67_108_864, "reservation": 33_554_432, "swap": 100_663_296});
        let files = [
            ("memory.max", "67108864"),
            ("memory.low", "33554432"),
            ("memory.swap.max", "33554432"),
        ];
        resources(stage, json!({"memory": memory}), &files)
    })
    .needs(Needs::Controller("memory")),
    Case::new("memory_unlimited", "config-linux.md: Memory", |stage| {
        resources(
            stage,
            json!({"memory": {"limit": -1}}),
            &[("memory.max", "max")],
        )
    })
    .needs(Needs::Controller("memory")),
    Case::new(
        "cpu_quota_period_and_burst",
        "config-linux.md: CPU",
        |stage| {
            let cpu = json!({"quota": 50_000, "period": 200_000, "burst": 10_000});
            let files = [("cpu.max", "50000 200000"), ("cpu.max.burst", "10000")];
            resources(stage, json!({"cpu": cpu}), &files)
        },
    )
    .needs(Needs::Controller("cpu")),
    Case::new("cpu_idle", "config-linux.md: CPU", |stage| {
        resources(stage, json!({"cpu": {"idle": 1}}), &[("cpu.idle", "1")])
    })
    .needs(Needs::Controller("cpu")),
    Case::new("cpuset", "config-linux.md: CPU", |stage| {
        let files = [("cpuset.cpus", "0"), ("cpuset.mems", "0")];
        resources(stage, json!({"cpu": {"cpus": "0", "mems": "0"}}), &files)
    })
    .needs(Needs::Controller("cpuset")),
    Case::new("pids_limit", "config-linux.md: PIDs", |stage| {
        resources(stage, json!({"pids": {"limit": 77}}), &[("pids.max", "77")])
    })
    .needs(Needs::Controller("pids")),
    Case::new("pids_unlimited", "config-linux.md: PIDs", |stage| {
        resources(
            stage,
            json!({"pids": {"limit": -1}}),
            &[("pids.max", "max")],
        )
    })
    .needs(Needs::Controller("pids")),
    Case::new("block_io_weight", "config-linux.md: Block IO", |stage| {
        resources(
            stage,
            json!({"blockIO": {"weight": 500}}),
            &[("io.weight", "default 4950")],
        )
    })
    .needs(Needs::Controller("io")),
    Case::new("unified_of_a_controller", UNIFIED, |stage| {
        resources(
            stage,
            json!({"unified": {"pids.max": "55"}}),
            &[("pids.max", "55")],
        )
    })
    .needs(Needs::Controller("pids")),
    Case::new("update", "runtime.md: Operations", update).needs(Needs::Controller("pids")),
];

fn resources(stage: &Stage<'_>, resources: serde_json::Value, files: &[(&str, &str)]) -> Outcome {
    let mut spec = stage.spec();
    spec["linux"]["resources"] = resources;
    let container = stage.running(&mut spec)?;
    let directory = stage.cgroup_directory(container.id());
    for (name, expected) in files {
        same(
            name,
            fs::read_to_string(directory.join(name))?.trim_end(),
            *expected,
        )?;
    }
    container.end()
}

fn update(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec["linux"]["resources"] = json!({"pids": {"limit": 50}});
    let container = stage.running(&mut spec)?;
    let file = stage.cgroup_directory(container.id()).join("pids.max");
    stage
        .call(&["update", "--pids-limit", "60", container.id()])?
        .succeeds()?;
    same("pids.max", fs::read_to_string(&file)?.trim_end(), "60")?;
    let path = stage.path("resources").display().to_string();
    fs::write(&path, json!({"pids": {"limit": 70}}).to_string())?;
    stage
        .call(&["update", "--resources", &path, container.id()])?
        .succeeds()?;
    same("pids.max", fs::read_to_string(&file)?.trim_end(), "70")?;
    container.end()
}
