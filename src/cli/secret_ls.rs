//! `kelp secret ls`.

use std::time::SystemTime;

use kelp_engine::Engine;
use kelp_format::filter::{Field, Filters, Key, Match};
use kelp_format::render::json;
use kelp_format::{Format, render, units};
use serde_json::json as value;

use super::output;

/// List secrets
#[derive(clap::Args)]
pub struct Args {
    /// Show secrets that fit: name or id, as KEY=VALUE
    #[arg(short, long)]
    filter: Vec<String>,
    /// json, table, or a Go template
    #[arg(long)]
    format: Option<String>,
    /// Leave the heading out
    #[arg(short, long)]
    noheading: bool,
    /// Show ids alone
    #[arg(short, long)]
    quiet: bool,
}

const KEYS: &[Key] = &[("name", Match::Regex), ("id", Match::Regex)];

const HEADERS: &[(&str, &str)] = &[("CreatedAt", "CREATED"), ("UpdatedAt", "UPDATED")];

/// Prints the list.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let filters = Filters::parse(&args.filter, KEYS)?;
    let mut secrets = engine.secrets()?;
    secrets.retain(|secret| {
        filters.matches(|key, _| match key {
            "name" => Field::Text(&secret.name),
            _ => Field::Text(&secret.id),
        })
    });
    if args.quiet && args.format.is_none() {
        for secret in &secrets {
            output::line(&secret.id)?;
        }
        return Ok(0);
    }
    let now = SystemTime::now();
    let rows: Vec<_> = secrets
        .iter()
        .map(|secret| {
            value!({
                "ID": secret.id,
                "Name": secret.name,
                "Driver": "file",
                "CreatedAt": units::ago(secret.created, now),
                "UpdatedAt": units::ago(secret.updated, now),
            })
        })
        .collect();
    let columns = "{{.ID}}\t{{.Name}}\t{{.Driver}}\t{{.CreatedAt}}\t{{.UpdatedAt}}";
    let format = Format::parse(args.format.as_deref().unwrap_or_default(), columns);
    if format == Format::Json {
        output::line(json(&rows)?)?;
        return Ok(0);
    }
    output::text(render(&rows, &format, HEADERS, !args.noheading)?)?;
    Ok(0)
}
