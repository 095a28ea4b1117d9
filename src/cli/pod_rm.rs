//! `kelp pod rm`: pods are removed, and their containers with them.

use std::fs;

use kelp_engine::pod::remove::RemovePod;
use kelp_engine::{Engine, Kind};

use super::pod_selection::{PodIdFiles, PodSelection};
use super::stop::timeout;

/// Remove pods and their containers
#[derive(clap::Args)]
pub struct Args {
    /// Remove every pod
    #[arg(short, long)]
    all: bool,
    /// Stop the containers that run first, and don't mind missing pods
    #[arg(short, long)]
    force: bool,
    /// It is no error if a pod is missing
    #[arg(short, long)]
    ignore: bool,
    /// With --force: seconds until a container that was asked to stop is killed; -1 for never
    #[arg(
        short,
        long,
        visible_alias = "timeout",
        allow_negative_numbers = true,
        requires = "force"
    )]
    time: Option<i64>,
    #[command(flatten)]
    files: PodIdFiles,
    #[command(flatten)]
    selection: PodSelection,
}

/// The pod is not there.
const MISSING: i32 = 1;

/// Runs it; the exit code.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let ignore = args.ignore || args.force;
    let selection = &args.selection;
    let mut chosen = selection.find(engine, &args.files.files, args.all, ignore)?;
    if args.all && args.force {
        // Force is for broken records as well.
        for id in engine.pod_ids() {
            if !chosen.ids.contains(&id) && engine.find_pod(id.as_str()).is_ok() {
                chosen.ids.push(id);
            }
        }
    }
    let told = std::mem::take(&mut chosen.told);
    let options = RemovePod {
        force: args.force,
        timeout: args.time.map(timeout),
    };
    let mut is_missing = chosen
        .errors
        .iter()
        .any(|error| error.kind() == Kind::NotFound);
    let code = chosen.each(engine, "removing", |id| {
        match engine.remove_pod(id, &options) {
            Err(error) if ignore && error.kind() == Kind::NotFound => {}
            removed => removed.inspect_err(|error| is_missing |= error.kind() == Kind::NotFound)?,
        }
        for (path, _) in told.iter().filter(|(_, of)| of == id) {
            let _ = fs::remove_file(path);
        }
        Ok(Vec::new())
    })?;
    Ok(if code != 0 && is_missing {
        MISSING
    } else {
        code
    })
}
