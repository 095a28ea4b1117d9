//! `kelp volume ls`, and the filters that it shares with prune.

use std::time::SystemTime;

use kelp_engine::Engine;
use kelp_engine::volumes::Volume;
use kelp_format::filter::{Field, Filters, Key, Match};
use kelp_format::render::json;
use kelp_format::{Format, render, units};

use super::output;
use super::volume_inspect;

/// List volumes
#[derive(clap::Args)]
pub struct Args {
    /// Show volumes that fit: name, label, driver, scope, dangling, until or anonymous, as KEY=VALUE
    #[arg(short, long)]
    filter: Vec<String>,
    /// json, table, or a Go template
    #[arg(long)]
    format: Option<String>,
    /// Leave the heading out
    #[arg(short, long)]
    noheading: bool,
    /// Show names alone
    #[arg(short, long)]
    quiet: bool,
}

const KEYS: &[Key] = &[
    ("name", Match::Regex),
    ("label", Match::Label),
    ("driver", Match::Exact),
    ("scope", Match::Exact),
    ("dangling", Match::Own),
    ("until", Match::Own),
    ("anonymous", Match::Own),
];

const HEADERS: &[(&str, &str)] = &[("Name", "VOLUME NAME")];

/// Prints the list.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let volumes = chosen(engine, &args.filter)?;
    if args.quiet {
        for volume in &volumes {
            output::line(&volume.name)?;
        }
        return Ok(0);
    }
    let rows: Vec<_> = volumes.iter().map(volume_inspect::describe).collect();
    let columns = "{{.Driver}}\t{{.Name}}";
    let format = Format::parse(args.format.as_deref().unwrap_or_default(), columns);
    if format == Format::Json {
        output::line(json(&rows)?)?;
        return Ok(0);
    }
    // Where there is none, podman prints no heading either.
    let heading = !args.noheading && !rows.is_empty();
    output::text(render(&rows, &format, HEADERS, heading)?)?;
    Ok(0)
}

/// The volumes that fit.
pub fn chosen(engine: &Engine, filters: &[String]) -> anyhow::Result<Vec<Volume>> {
    let filters = Filters::parse(filters, KEYS)?;
    let mut volumes = engine.volumes();
    if filters.is_empty() {
        return Ok(volumes);
    }
    let now = SystemTime::now();
    for text in filters.values("until") {
        units::parse_time(text, now).map_err(anyhow::Error::msg)?;
    }
    let users = engine.volume_users();
    volumes.retain(|volume| {
        filters.matches(|key, value| match key {
            "name" => Field::Text(&volume.name),
            "label" => Field::Map(&volume.record.labels),
            "driver" | "scope" => Field::Text("local"),
            "dangling" => Field::Answer(users.contains_key(&volume.name) != is_true(value)),
            "anonymous" => Field::Answer(volume.record.anonymous == is_true(value)),
            _ => {
                let limit = units::parse_time(value, now);
                Field::Answer(limit.is_ok_and(|limit| volume.created < limit))
            }
        })
    });
    Ok(volumes)
}

fn is_true(text: &str) -> bool {
    matches!(text, "true" | "1" | "t" | "True" | "TRUE")
}
