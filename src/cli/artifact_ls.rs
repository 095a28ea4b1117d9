//! `kelp artifact ls`: the artifacts that are here.

use std::time::SystemTime;

use kelp_engine::Engine;
use kelp_engine::artifact::ArtifactSummary;
use kelp_format::{Format, render, units};
use serde::Serialize;

use super::images::split;
use super::output;

/// List artifacts
#[derive(clap::Args)]
pub struct Args {
    /// json, table, or a Go template
    #[arg(long)]
    format: Option<String>,
    /// Leave the heading out
    #[arg(short, long)]
    noheading: bool,
    /// Show whole digests
    #[arg(long)]
    no_trunc: bool,
    /// Show digests alone
    #[arg(short, long)]
    quiet: bool,
}

/// A line of the list: an artifact under one of its names.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    repository: String,
    tag: String,
    digest: String,
    created: String,
    created_at: String,
    size: String,
    virtual_size: String,
}

const COLUMNS: &str = "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.Created}}\t{{.Size}}";

const HEADERS: &[(&str, &str)] = &[
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("Created", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("VirtualSize", "VIRTUAL SIZE"),
];

/// Prints the list.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let now = SystemTime::now();
    let mut rows = Vec::new();
    for artifact in engine.artifacts()? {
        for name in &artifact.names {
            rows.push(row(&artifact, name, args.no_trunc, now));
        }
    }
    rows.sort_by(|one, other| (&one.repository, &one.tag).cmp(&(&other.repository, &other.tag)));
    if args.quiet {
        rows.dedup_by(|one, other| one.digest == other.digest);
        for row in rows {
            output::line(row.digest)?;
        }
        return Ok(0);
    }
    let format = Format::parse(args.format.as_deref().unwrap_or_default(), COLUMNS);
    output::text(render(&rows, &format, HEADERS, !args.noheading)?)?;
    Ok(0)
}

fn row(artifact: &ArtifactSummary, name: &str, whole: bool, now: SystemTime) -> Row {
    let (repository, tag) = split(name);
    let end = if whole { artifact.digest.len() } else { 12 };
    let created = artifact.created;
    Row {
        repository,
        tag,
        digest: artifact.digest[..end].to_owned(),
        created: created.map_or_else(String::new, |created| units::ago(created, now)),
        created_at: created.map_or_else(String::new, units::go_time),
        size: units::docker_size(artifact.size),
        virtual_size: artifact.size.to_string(),
    }
}
