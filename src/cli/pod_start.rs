//! `kelp pod start` and `kelp pod restart`.

use kelp_engine::Engine;

use super::pod_selection::{PodIdFiles, PodSelection};
use super::stop;

/// Start the containers of pods
#[derive(clap::Args)]
pub struct Args {
    /// Start every pod
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    files: PodIdFiles,
    #[command(flatten)]
    selection: PodSelection,
}

/// Restart the containers of pods
#[derive(clap::Args)]
pub struct RestartArgs {
    /// Restart every pod
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    selection: PodSelection,
}

/// Runs it; the exit code.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let selection = &args.selection;
    let chosen = selection.find(engine, &args.files.files, args.all, false)?;
    chosen.each(engine, "starting", |id| engine.start_pod(id))
}

/// Runs `pod restart`; the exit code.
pub fn restart(engine: &Engine, args: &RestartArgs) -> anyhow::Result<i32> {
    let chosen = args.selection.find(engine, &[], args.all, false)?;
    chosen.each(engine, "restarting", |id| {
        engine.restart_pod(id, None, |container, stopped| {
            stop::tell(engine, container, stopped);
        })
    })
}
