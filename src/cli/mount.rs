//! `kelp mount` and `kelp unmount`: a container's files where the user can work with them.

use kelp_engine::{ContainerId, Engine};
use kelp_format::{Format, render};
use serde::Serialize;
use serde_json::json;

use super::output;
use super::selection::{Selection, report};

/// In `kelp unshare`: mount containers' root file systems and print where, or list what is mounted
#[derive(clap::Args)]
pub struct Args {
    /// Mount every container
    #[arg(short, long)]
    all: bool,
    /// json, for the list
    #[arg(long)]
    format: Option<String>,
    /// Show whole ids in the list
    #[arg(long, alias = "notruncate")]
    no_trunc: bool,
    #[command(flatten)]
    selection: Selection,
}

/// A line of a list to templates.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Row {
    /// What it is called.
    #[serde(rename = "ID")]
    pub id: String,
    /// Where it is mounted.
    pub path: String,
}

/// What a line has.
pub const COLUMNS: &str = "{{.ID}}\t{{.Path}}";

/// Runs it; the exit code.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let chosen = &args.selection;
    let is_list =
        !args.all && !chosen.latest && chosen.containers.is_empty() && chosen.cidfile.is_empty();
    if is_list {
        return list(engine, args);
    }
    let chosen = chosen.find(engine, args.all, false, |_| true)?;
    let mut errors = chosen.errors;
    for target in chosen.targets {
        match engine.mount_container(&target.id) {
            Ok(path) => output::line(path.display())?,
            Err(error) => errors.push(error),
        }
    }
    Ok(report(engine, errors))
}

/// Whether a list is to be JSON, which is all that can be asked for.
pub fn is_json(format: Option<&str>) -> anyhow::Result<bool> {
    let format = format.unwrap_or_default();
    if !format.is_empty() && Format::parse(format, COLUMNS) != Format::Json {
        anyhow::bail!("unknown --format argument: \"{format}\": it is json");
    }
    Ok(!format.is_empty())
}

fn list(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let is_json = is_json(args.format.as_deref())?;
    let mounted = engine.mounted_containers()?;
    let name = |id: &ContainerId| engine.config(id).map(|config| config.name);
    if is_json {
        let objects: Vec<_> = mounted
            .iter()
            .map(|(id, path)| {
                json!({
                    "id": id.as_str(),
                    "Names": name(id).into_iter().collect::<Vec<_>>(),
                    "mountpoint": path,
                })
            })
            .collect();
        output::line(render::json(&objects)?)?;
        return Ok(0);
    }
    let rows: Vec<_> = mounted
        .iter()
        .map(|(id, path)| Row {
            id: if args.no_trunc {
                id.to_string()
            } else {
                id.short().to_owned()
            },
            path: path.display().to_string(),
        })
        .collect();
    output::text(render(&rows, &Format::parse("", COLUMNS), &[], false)?)?;
    Ok(0)
}

/// Unmount a container's root file system
#[derive(clap::Args)]
pub struct UnmountArgs {
    /// Unmount every container that is mounted here
    #[arg(short, long)]
    all: bool,
    /// Unmount it also where it is in use, and wherever else it is mounted
    #[arg(short, long)]
    force: bool,
    #[command(flatten)]
    selection: Selection,
}

/// Runs it; the exit code.
pub fn unmount(engine: &Engine, args: &UnmountArgs) -> anyhow::Result<i32> {
    let mounted: Vec<_> = if args.all {
        let mounted = engine.mounted_containers()?;
        mounted.into_iter().map(|(id, _)| id).collect()
    } else {
        Vec::new()
    };
    let chosen = args
        .selection
        .find(engine, args.all, false, |id| mounted.contains(id))?;
    let errors = chosen.each(|id| engine.unmount_container(id, args.force).map(drop))?;
    Ok(report(engine, errors))
}
