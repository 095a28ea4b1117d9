//! config-linux.md, "Network Devices". The runtime runs in a network namespace of its own, whose
//! devices are dummies: the machine's are left alone.

use serde_json::json;

use crate::case::{Case, Needs};
use crate::command::Done;
use crate::outcome::{Outcome, has, same};
use crate::spec::Spec;
use crate::stage::Stage;

const SECTION: &str = "config-linux.md: Network Devices";

pub(crate) const CASES: &[Case] = &[
    Case::new("moved", SECTION, moved).needs(Needs::Root),
    Case::new("moved_and_renamed", SECTION, renamed).needs(Needs::Root),
    Case::new("name_by_a_template", SECTION, template).needs(Needs::Root),
    Case::new("addresses_stay_and_it_is_up", SECTION, addresses).needs(Needs::Root),
    Case::new("name_that_is_taken", SECTION, taken).needs(Needs::Root),
    Case::new("that_is_missing", SECTION, missing).needs(Needs::Root),
];

/// Runs a container where there are the devices d0, with an address, and d1.
fn run(stage: &Stage<'_>, spec: &Spec) -> Outcome<Done> {
    stage.write(spec)?;
    let id = stage.id();
    stage.remember(&id);
    let runtime = stage.command(&["run", &id]);
    let mut command = std::process::Command::new("unshare");
    stage.furnish(&mut command);
    let script = "ip link add d0 type dummy && ip link add d1 type dummy && \
        ip addr add 10.11.12.13/24 dev d0 && ip -6 addr add fd00::5/64 dev d0 && exec \"$0\" \"$@\"";
    command
        .args(["--net", "--", "/bin/sh", "-c", script])
        .arg(runtime.get_program())
        .args(runtime.get_args());
    stage.finish(command)
}

fn with(stage: &Stage<'_>, devices: serde_json::Value, script: &str) -> Spec {
    let mut spec = stage.spec();
    spec["linux"]["netDevices"] = devices;
    spec.script(script);
    spec
}

const NAMES: &str = "ls /sys/class/net";

fn names(stage: &Stage<'_>, devices: serde_json::Value) -> Outcome<Vec<String>> {
    let out = run(stage, &with(stage, devices, NAMES))?.succeeds()?;
    Ok(out.split_whitespace().map(str::to_owned).collect())
}

fn moved(stage: &Stage<'_>) -> Outcome {
    same("devices", names(stage, json!({"d0": {}}))?, ["d0", "lo"])
}

fn renamed(stage: &Stage<'_>) -> Outcome {
    let devices = json!({"d0": {"name": "inner0"}, "d1": {"name": "inner1"}});
    same(
        "devices",
        names(stage, devices)?,
        ["inner0", "inner1", "lo"],
    )
}

fn template(stage: &Stage<'_>) -> Outcome {
    let devices = json!({"d0": {"name": "eth%d"}, "d1": {"name": "eth%d"}});
    same("devices", names(stage, devices)?, ["eth0", "eth1", "lo"])
}

fn addresses(stage: &Stage<'_>) -> Outcome {
    let spec = with(
        stage,
        json!({"d0": {"name": "inner0"}}),
        "ip addr show dev inner0",
    );
    let out = run(stage, &spec)?.succeeds()?;
    has("inner0", &out, "inet 10.11.12.13/24")?;
    has("inner0", &out, "inet6 fd00::5/64")?;
    has("inner0", &out, "UP")
}

fn taken(stage: &Stage<'_>) -> Outcome {
    let spec = with(stage, json!({"d0": {"name": "lo"}}), "true");
    let said = run(stage, &spec)?.refused()?;
    stage.says_why(&said)?;
    let spec = with(
        stage,
        json!({"d0": {"name": "same"}, "d1": {"name": "same"}}),
        "true",
    );
    let said = run(stage, &spec)?.refused()?;
    stage.says_why(&said)?;
    stage.left_nothing()
}

fn missing(stage: &Stage<'_>) -> Outcome {
    let said = run(stage, &with(stage, json!({"nosuch": {}}), "true"))?.refused()?;
    stage.says_why(&said)?;
    stage.left_nothing()
}
