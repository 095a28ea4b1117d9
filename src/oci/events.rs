//! `events`: a line for each thing that happens, as runc has it.

use std::time::Duration;

use kelp_format::units;
use kelp_oci::{Event, Root};
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
    // parse_span passes over a sign.
    units::parse_span(text)
        .filter(|span| !span.is_zero() && !text.starts_with('-'))
        .ok_or_else(|| format!("{text:?} is no duration: write it like 500ms, 5s or 1m30s"))
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
