//! The rest of runc's command line, and features.md.

use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::case::Case;
use crate::outcome::{Outcome, Stop, fails, has, holds, not_applicable, same};
use crate::stage::Stage;

const RUNTIME: &str = "runtime.md: Operations";

pub(crate) const CASES: &[Case] = &[
    Case::new("version", RUNTIME, version),
    Case::new("help", RUNTIME, help),
    Case::new("unknown_command", RUNTIME, unknown),
    Case::new("list", RUNTIME, list),
    Case::new("list_of_none", RUNTIME, list_none),
    Case::new("list_quiet", RUNTIME, list_quiet),
    Case::new("ps", RUNTIME, ps),
    Case::new("ps_as_json", RUNTIME, ps_json),
    Case::new("spec_is_one_that_runs", "config.md: Configuration", spec),
    Case::new(
        "spec_overwrites_nothing",
        "config.md: Configuration",
        spec_twice,
    ),
    Case::new(
        "features_versions",
        "features.md: Specification version",
        features,
    ),
    Case::new(
        "features_hooks_and_namespaces",
        "features.md: Hooks",
        features_lists,
    ),
    Case::new("log_file", "runtime.md: Errors", log),
    Case::new("log_file_as_json", "runtime.md: Errors", log_json),
    Case::new(
        "pause_of_a_stopped_container",
        "runtime.md: State",
        pause_stopped,
    ),
    Case::new("kill_all", "runtime.md: Kill", kill_all),
];

fn version(stage: &Stage<'_>) -> Outcome {
    let out = stage.call(&["--version"])?.succeeds()?;
    holds(out.contains("1.") || out.contains("0."), format!("{out:?}"))?;
    has("version", &out, "version").or_else(|_| has("version", &out, "runtime"))
}

fn help(stage: &Stage<'_>) -> Outcome {
    let out = stage.call(&["--help"])?.succeeds()?;
    for verb in ["create", "start", "state", "kill", "delete"] {
        has("help", &out, verb)?;
    }
    Ok(())
}

fn unknown(stage: &Stage<'_>) -> Outcome {
    let done = stage.call(&["nosuch"])?;
    holds(done.code != 0, "it was taken")?;
    let done = stage.call(&["state", "--nosuch", "a"])?;
    holds(done.code != 0, "the flag was taken")
}

fn listed(stage: &Stage<'_>) -> Outcome<Vec<Value>> {
    let out = stage.call(&["list", "--format", "json"])?.succeeds()?;
    match serde_json::from_str(&out)? {
        Value::Array(list) => Ok(list),
        Value::Null => Ok(Vec::new()),
        other => fails(format!("no list: {other}")),
    }
}

fn list(stage: &Stage<'_>) -> Outcome {
    let container = stage.running(&mut stage.spec())?;
    let list = listed(stage)?;
    same("containers", list.len(), 1)?;
    same("id", list[0]["id"].as_str(), Some(container.id()))?;
    same("pid", list[0]["pid"].as_i64(), Some(container.pid().into()))?;
    same("status", list[0]["status"].as_str(), Some("running"))?;
    same(
        "bundle",
        list[0]["bundle"].as_str(),
        stage.bundle().to_str(),
    )?;
    has("table", &stage.call(&["list"])?.succeeds()?, container.id())?;
    container.end()
}

fn list_none(stage: &Stage<'_>) -> Outcome {
    same("containers", listed(stage)?.len(), 0)
}

fn list_quiet(stage: &Stage<'_>) -> Outcome {
    let container = stage.running(&mut stage.spec())?;
    let out = stage.call(&["list", "--quiet"])?.succeeds()?;
    same("ids", out.trim_end(), container.id())?;
    container.end()
}

fn ps(stage: &Stage<'_>) -> Outcome {
    if !Path::new("/usr/bin/ps").exists() {
        return not_applicable("no ps on this machine");
    }
    let container = stage.running(&mut stage.spec())?;
    let out = stage.call(&["ps", container.id()])?.succeeds()?;
    has("processes", &out, &container.pid().to_string())?;
    container.end()
}

fn ps_json(stage: &Stage<'_>) -> Outcome {
    let container = stage.running(&mut stage.spec())?;
    let out = stage
        .call(&["ps", "--format", "json", container.id()])?
        .succeeds()?;
    let pids: Vec<i32> = serde_json::from_str(&out)?;
    same("processes", pids, [container.pid()])?;
    container.end()
}

/// With another program and without a terminal.
fn spec(stage: &Stage<'_>) -> Outcome {
    let flags: &[&str] = if stage.rootless() {
        &["--rootless"]
    } else {
        &[]
    };
    stage.call(&[&["spec"], flags].concat())?.succeeds()?;
    let text = fs::read(stage.bundle().join("config.json"))?;
    let mut spec = crate::spec::Spec(serde_json::from_slice(&text)?);
    let version = spec["ociVersion"].as_str().unwrap_or_default();
    holds(version.starts_with("1."), format!("ociVersion {version:?}"))?;
    spec["process"]["terminal"] = false.into();
    stage.prints(&mut spec, "echo runs", "runs\n")
}

fn spec_twice(stage: &Stage<'_>) -> Outcome {
    fs::write(stage.bundle().join("config.json"), "own")?;
    stage.call(&["spec"])?.refused()?;
    let text = fs::read_to_string(stage.bundle().join("config.json"))?;
    same("config.json", text.as_str(), "own")
}

fn document(stage: &Stage<'_>) -> Outcome<Value> {
    if !stage.runtime().knows("features") {
        return not_applicable("no such command");
    }
    Ok(serde_json::from_str(
        &stage.call(&["features"])?.succeeds()?,
    )?)
}

/// Both versions MUST be taken in a config.json.
fn features(stage: &Stage<'_>) -> Outcome {
    let document = document(stage)?;
    for name in ["ociVersionMin", "ociVersionMax"] {
        let version = document[name].as_str();
        let version = version.ok_or_else(|| Stop::Fails(format!("no {name}")))?;
        let mut spec = stage.spec();
        spec["ociVersion"] = version.into();
        stage.prints(&mut spec, "echo runs", "runs\n")?;
    }
    Ok(())
}

/// What it says it knows, it MUST take.
fn features_lists(stage: &Stage<'_>) -> Outcome {
    let document = document(stage)?;
    let names = |pointer: &str| {
        let list = document.pointer(pointer).and_then(Value::as_array).cloned();
        let list = list.unwrap_or_default().into_iter();
        list.filter_map(|name| name.as_str().map(str::to_owned))
            .collect::<Vec<_>>()
    };
    let mut spec = stage.spec();
    for hook in names("/hooks") {
        spec.hook(&hook, "/bin/sh", "cat >/dev/null");
    }
    for namespace in names("/linux/namespaces") {
        if namespace != "user" {
            spec.namespace(&namespace, None);
        }
    }
    stage.prints(&mut spec, "echo runs", "runs\n")?;
    let options = names("/mountOptions");
    holds(!options.is_empty(), "no mountOptions")
}

fn logged(stage: &Stage<'_>, flags: &[&str]) -> Outcome<String> {
    let log = stage.path("log");
    let path = log.display().to_string();
    let id = stage.id();
    let words = [&["--log", &path], flags, &["start", &id]].concat();
    let done = stage.call(&words)?;
    holds(done.code != 0, "no error")?;
    Ok(fs::read_to_string(log)?)
}

fn log(stage: &Stage<'_>) -> Outcome {
    let text = logged(stage, &[])?;
    holds(
        text.contains(&stage.id()) || text.contains("exist"),
        format!("log: {text:?}"),
    )
}

fn log_json(stage: &Stage<'_>) -> Outcome {
    let text = logged(stage, &["--log-format", "json"])?;
    let last = text.lines().last().unwrap_or_default();
    let line: Value = serde_json::from_str(last)?;
    same("level", line["level"].as_str(), Some("error"))?;
    holds(
        line["msg"].is_string() && line["time"].is_string(),
        format!("{line}"),
    )
}

fn pause_stopped(stage: &Stage<'_>) -> Outcome {
    let container = stage.create(&stage.spec())?;
    container.start()?;
    container.wait()?;
    for verb in ["pause", "resume"] {
        let said = stage.call(&[verb, container.id()])?.refused()?;
        stage.says_why(&said)?;
    }
    container.delete()
}

fn kill_all(stage: &Stage<'_>) -> Outcome {
    let mut spec = stage.spec();
    spec.without_namespace("pid");
    spec.bind_instead("/proc", stage.rootless());
    spec.script("sleep 1000 & echo ready; wait");
    let container = stage.create(&spec)?;
    container.start()?;
    container.reads("ready\n")?;
    stage
        .call(&["kill", "--all", container.id(), "KILL"])?
        .succeeds()?;
    container.wait()?;
    let left = crate::left::processes();
    same("processes", left, Vec::<String>::new())?;
    container.delete()
}
