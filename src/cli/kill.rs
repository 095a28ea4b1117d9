//! `kelp kill`: a signal to containers.

use kelp_args::Signal;
use kelp_engine::Engine;

use super::selection::{Selection, report};

/// Send a signal to running containers
#[derive(clap::Args)]
pub struct Args {
    /// Signal every running container
    #[arg(short, long)]
    all: bool,
    /// The signal, by name or number
    #[arg(short, long, default_value = "KILL")]
    signal: Signal,
    #[command(flatten)]
    selection: Selection,
}

/// Runs it; the exit code.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let can_kill = |id: &_| engine.status(id).is_ok_and(kelp_engine::Status::can_kill);
    let chosen = args.selection.find(engine, args.all, false, can_kill)?;
    let errors = chosen.each(|id| engine.kill_container(id, args.signal.number()))?;
    Ok(report(engine, errors))
}
