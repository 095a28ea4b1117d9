//! `kelp kill`: a signal to containers.

use kelp_engine::Engine;

use super::selection::{Selection, report};
use super::signal_argument;

/// Send a signal to running containers
#[derive(clap::Args)]
pub struct Args {
    /// Signal every running container
    #[arg(short, long)]
    all: bool,
    /// The signal, by name or number
    #[arg(short, long, default_value = "KILL", value_parser = signal_argument::parse)]
    signal: i32,
    #[command(flatten)]
    selection: Selection,
}

/// Runs it; the exit code.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let can_kill = |id: &_| engine.status(id).is_ok_and(kelp_engine::Status::can_kill);
    let chosen = args.selection.find(engine, args.all, false, can_kill)?;
    let errors = chosen.each(|id| engine.kill_container(id, args.signal));
    Ok(report(errors))
}
