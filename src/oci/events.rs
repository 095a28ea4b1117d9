//! `events`: a line for each thing that happens, as runc has it.

use std::time::Duration;

use anyhow::bail;
use kelp_oci::{Event, Root, Status};
use serde_json::json;

use crate::cli::output;

#[derive(clap::Args)]
pub struct Args {
    /// Tell what it uses now, and nothing more
    #[arg(long)]
    stats: bool,
    /// How often what it uses is told, as in 500ms or 1m30s
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = duration)]
    interval: Duration,
    /// The container's id
    id: String,
}

/// Prints what happens, until the container has ended.
pub fn run(root: &Root, args: &Args) -> anyhow::Result<()> {
    let container = root.container(&args.id)?;
    if container.status() == Status::Stopped {
        bail!("container \"{}\" is not running", args.id);
    }
    let print = |event: Event| -> anyhow::Result<()> {
        let event = match event {
            Event::Usage(data) => json!({"type": "stats", "id": args.id, "data": data}),
            Event::OutOfMemory => json!({"type": "oom", "id": args.id}),
        };
        Ok(output::line(event)?)
    };
    if args.stats {
        return print(Event::Usage(container.usage()?));
    }
    container.watch(args.interval, print)
}

/// A duration as Go writes it: numbers, each with its unit.
fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("{text:?} is no duration: write it like 500ms, 5s or 1m30s");
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let unit = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, after) = rest.split_at(unit.ok_or_else(wrong)?);
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.');
        let (unit, after) = after.split_at(end.unwrap_or(after.len()));
        let factor = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        total += number.parse::<f64>().map_err(|_| wrong())? * factor;
        rest = after;
    }
    Duration::try_from_secs_f64(total)
        .ok()
        .filter(|duration| !duration.is_zero())
        .ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, millis) in [
            ("5s", 5000),
            ("500ms", 500),
            ("1m30s", 90_000),
            ("1.5h", 5_400_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
        for text in ["", "5", "0s", "-1s", "s", "5 s", "5x", "1e3s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
