//! config-linux.md, "Offset for Time Namespace".

use serde_json::json;

use crate::case::Case;
use crate::outcome::{Outcome, holds, same};
use crate::spec::Spec;
use crate::stage::Stage;

const SECTION: &str = "config-linux.md: Offset for Time Namespace";

pub(crate) const CASES: &[Case] = &[
    Case::new("boottime", SECTION, boottime),
    Case::new("monotonic_and_nanoseconds", SECTION, monotonic),
    Case::new("backwards", SECTION, backwards),
    Case::new("unknown_clock", SECTION, unknown),
    Case::new("without_the_namespace", SECTION, without),
];

fn with(stage: &Stage<'_>, offsets: serde_json::Value) -> Spec {
    let mut spec = stage.spec();
    spec.namespace("time", None);
    spec["linux"]["timeOffsets"] = offsets;
    spec
}

fn uptime(text: &str) -> f64 {
    let first = text.split_whitespace().next();
    first.and_then(|word| word.parse().ok()).unwrap_or(-1.0)
}

fn boottime(stage: &Stage<'_>) -> Outcome {
    let mut spec = with(stage, json!({"boottime": {"secs": 7_654_321}}));
    let before = uptime(&std::fs::read_to_string("/proc/uptime")?);
    let found = uptime(&stage.shell(&mut spec, "cat /proc/uptime")?);
    let more = found - before - 7_654_321.0;
    holds((0.0..60.0).contains(&more), format!("{more} s off"))
}

fn monotonic(stage: &Stage<'_>) -> Outcome {
    let offsets = json!({
        "monotonic": {"secs": 100, "nanosecs": 5}, "boottime": {"secs": 200, "nanosecs": 6},
    });
    let out = stage.shell(&mut with(stage, offsets), "cat /proc/self/timens_offsets")?;
    let words: Vec<&str> = out.split_whitespace().collect();
    same(
        "offsets",
        words,
        ["monotonic", "100", "5", "boottime", "200", "6"],
    )
}

/// As far as to this second after the boot.
fn backwards(stage: &Stage<'_>) -> Outcome {
    let up = uptime(&std::fs::read_to_string("/proc/uptime")?) as i64;
    let mut spec = with(stage, json!({"boottime": {"secs": 1 - up}}));
    let found = uptime(&stage.shell(&mut spec, "cat /proc/uptime")?);
    holds((0.0..60.0).contains(&found), format!("up for {found} s"))
}

fn unknown(stage: &Stage<'_>) -> Outcome {
    stage.refuses(&with(stage, json!({"nosuch": {"secs": 1}})))?;
    Ok(())
}

/// It can't be applied then, which is an error.
fn without(stage: &Stage<'_>) -> Outcome {
    let mut spec = with(stage, json!({"boottime": {"secs": 1}}));
    spec.without_namespace("time");
    stage.refuses(&spec)?;
    Ok(())
}
