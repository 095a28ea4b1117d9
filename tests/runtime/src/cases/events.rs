//! `events`: no part of the specification, but of the command line that engines know from runc.

use std::io::{BufRead, BufReader};
use std::os::fd::AsFd;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::case::{Case, Needs};
use crate::command::{self, LIMIT, readable};
use crate::outcome::{Outcome, fails, holds, not_applicable, same};
use crate::stage::Stage;

const SECTION: &str = "runc-events(8)";

pub(crate) const CASES: &[Case] = &[
    Case::new("stats_are_one_line", SECTION, stats),
    Case::new("they_come_until_the_container_ends", SECTION, until_the_end),
    Case::new("a_container_that_has_ended_has_none", SECTION, of_ended),
    Case::new("a_kill_for_memory_is_told", SECTION, out_of_memory)
        .needs(Needs::Controller("memory")),
];

fn is_known(stage: &Stage<'_>) -> Outcome {
    if stage.runtime().knows("events") {
        return Ok(());
    }
    not_applicable("the runtime has no events")
}

fn stats(stage: &Stage<'_>) -> Outcome {
    is_known(stage)?;
    let container = stage.running(&mut stage.spec())?;
    let said = stage.call(&["events", "--stats", container.id()])?;
    let event: Value = serde_json::from_str(&said.succeeds()?)?;
    same("type", event["type"].as_str(), Some("stats"))?;
    same("id", event["id"].as_str(), Some(container.id()))?;
    let data = &event["data"];
    let time = data["cpu"]["usage"]["total"].as_u64();
    holds(time.is_some_and(|time| time > 0), format!("time {time:?}"))?;
    for part in ["memory", "pids", "blkio", "hugetlb"] {
        holds(data[part].is_object(), format!("no {part} in {data}"))?;
    }
    container.end()
}

fn until_the_end(stage: &Stage<'_>) -> Outcome {
    is_known(stage)?;
    let container = stage.running(&mut stage.spec())?;
    let mut command = stage.command(&["events", "--interval", "50ms", container.id()]);
    let mut events = command::spawn(command.stdout(Stdio::piped()))?;
    let out = events.stdout.take().expect("it has a pipe");
    if !readable(out.as_fd(), LIMIT)? {
        events.kill()?;
        return fails("no event");
    }
    let mut lines = BufReader::new(out).lines();
    for _ in 0..3 {
        let line = lines.next().transpose()?.unwrap_or_default();
        let event: Value = serde_json::from_str(&line)?;
        same("type", event["type"].as_str(), Some("stats"))?;
    }
    container.kill("KILL")?;
    let status = command::ended(events)?;
    holds(status.success(), format!("it ends with {status}"))?;
    container.wait()?;
    container.delete()
}

fn of_ended(stage: &Stage<'_>) -> Outcome {
    is_known(stage)?;
    let container = stage.running(&mut stage.spec())?;
    container.kill("KILL")?;
    container.wait()?;
    let said = stage.call(&["events", container.id()])?.refused()?;
    stage.says_why(&said)?;
    container.delete()
}

/// A process that takes too much is killed.
pub(super) fn out_of_memory(stage: &Stage<'_>) -> Outcome {
    is_known(stage)?;
    let mut spec = stage.spec();
    spec["linux"]["resources"]["memory"] = json!({"limit": 16 << 20, "swap": 16 << 20});
    let container = stage.running(&mut spec)?;
    let mut command = stage.command(&["events", "--interval", "1h", container.id()]);
    let mut events = command::spawn(command.stdout(Stdio::piped()))?;
    let out = events.stdout.take().expect("it has a pipe");
    // It holds all of what it reads, as there is no end of the line. A kill before somebody watches is not
    // told, but the next one is.
    let greedy = "until tail /dev/zero; do exit 0; done";
    let mut tries = 0;
    while !readable(out.as_fd(), Duration::ZERO)? {
        tries += 1;
        if tries > 50 {
            events.kill()?;
            return fails("kills for memory were not told");
        }
        container.exec(&[], greedy)?;
    }
    let line = BufReader::new(out).lines().next().transpose()?;
    let event: Value = serde_json::from_str(&line.unwrap_or_default())?;
    same(
        "event",
        &event,
        &json!({"type": "oom", "id": container.id()}),
    )?;
    container.kill("KILL")?;
    command::ended(events)?;
    container.wait()?;
    container.delete()
}
