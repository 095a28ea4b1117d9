//! `kelp auto-update`: containers of systemd's units get new images.

use std::path::PathBuf;

use kelp_engine::Engine;
use kelp_engine::auto_update::{Update, UpdateRequest};
use kelp_engine::image::registry::AccessRequest;
use kelp_format::render::json;
use kelp_format::{Format, render};
use serde_json::{Value, json};

use super::output;
use super::selection::report;

/// Update containers whose label io.containers.autoupdate asks for it
///
/// The label is `registry` for the newest image of a registry, or `local` for the one that has the name here. The
/// units of systemd's that the containers run in are restarted; where one does not work afterwards, it gets its old
/// image back.
#[derive(clap::Args)]
pub struct Args {
    /// The file with credentials; the label io.containers.autoupdate.authfile goes over it
    #[arg(long, env = "REGISTRY_AUTH_FILE", value_name = "FILE")]
    authfile: Option<PathBuf>,
    /// Say what there is to update, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// json, or a Go template
    #[arg(long)]
    format: Option<String>,
    /// Go back to the old image where a unit does not work with the new one
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", value_name = "BOOL", action = clap::ArgAction::Set)]
    rollback: bool,
    /// Require HTTPS and verify certificates
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    tls_verify: Option<bool>,
}

const HEADERS: &[(&str, &str)] = &[
    ("Unit", "UNIT"),
    ("Container", "CONTAINER"),
    ("ContainerID", "CONTAINER ID"),
    ("ContainerName", "CONTAINER NAME"),
    ("Image", "IMAGE"),
    ("Policy", "POLICY"),
    ("Updated", "UPDATED"),
];

/// Updates, and prints what came of it; what went wrong is told at the end.
pub fn run(engine: &Engine, args: Args) -> anyhow::Result<i32> {
    let columns = "{{.Unit}}\t{{.Container}}\t{{.Image}}\t{{.Policy}}\t{{.Updated}}";
    let format = Format::parse(args.format.as_deref().unwrap_or_default(), columns);
    let request = UpdateRequest {
        dry_run: args.dry_run,
        rollback: args.rollback,
        access: AccessRequest {
            tls_verify: args.tls_verify,
            authfile: args.authfile,
            ..AccessRequest::default()
        },
    };
    let updates = engine.auto_update(&request)?;
    let rows: Vec<Value> = updates.containers.iter().map(row).collect();
    if format == Format::Json {
        output::line(json(&rows)?)?;
    } else if !rows.is_empty() {
        output::text(render(&rows, &format, HEADERS, true)?)?;
    }
    for line in updates.told {
        output::note(line);
    }
    Ok(report(engine, updates.errors))
}

fn row(update: &Update) -> Value {
    json!({
        "Unit": update.unit,
        "Container": format!("{} ({})", update.id.short(), update.name),
        "ContainerName": update.name,
        "ContainerID": update.id.as_str(),
        "Image": update.image,
        "Policy": update.policy.to_string(),
        "Updated": update.updated.to_string(),
    })
}
