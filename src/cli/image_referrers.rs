//! `kelp image referrers`: what refers to an image in its registry.

use std::collections::HashMap;

use kelp_engine::Engine;
use kelp_engine::image::referrers::Referrer;
use kelp_format::render::json;
use kelp_format::{Format, render, units};
use serde::Serialize;

use super::output;
use super::pull_flags::AccessFlags;

const COLUMNS: &str = "{{.Digest}}\t{{.ArtifactType}}\t{{.Size}}";

/// List what refers to an image in its registry: signatures, attestations, bills of materials
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    access: AccessFlags,
    /// Credentials for the registry: USER:PASSWORD
    #[arg(long, value_name = "USER:PASSWORD")]
    creds: Option<String>,
    /// Show those of this type
    #[arg(long, value_name = "TYPE")]
    artifact_type: Option<String>,
    /// json, or a Go template of Digest, ArtifactType, MediaType, Size, RawSize or Annotations
    #[arg(long)]
    format: Option<String>,
    /// Print digests only
    #[arg(short, long, conflicts_with = "format")]
    quiet: bool,
    /// The image, with its registry
    image: String,
}

/// A referrer to templates.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    digest: String,
    artifact_type: String,
    media_type: String,
    size: String,
    raw_size: u64,
    annotations: HashMap<String, String>,
}

/// Runs it; the exit code.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let mut request = args.access.request();
    request.credentials.clone_from(&args.creds);
    let wanted = |found: &Referrer| {
        let wanted = args.artifact_type.as_ref();
        wanted.is_none_or(|wanted| *wanted == found.artifact_type)
    };
    let found = engine.image_referrers(&args.image, &request)?;
    let rows: Vec<_> = found.into_iter().filter(wanted).map(row).collect();
    if args.quiet {
        for row in rows {
            output::line(row.digest)?;
        }
        return Ok(0);
    }
    let format = Format::parse(args.format.as_deref().unwrap_or_default(), COLUMNS);
    if format == Format::Json {
        output::line(json(&rows)?)?;
    } else {
        output::text(render(&rows, &format, &[], true)?)?;
    }
    Ok(0)
}

fn row(found: Referrer) -> Row {
    Row {
        digest: found.digest,
        artifact_type: found.artifact_type,
        media_type: found.media_type,
        size: units::docker_size(found.size),
        raw_size: found.size,
        annotations: found.annotations,
    }
}
