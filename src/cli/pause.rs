//! `kelp pause` and `kelp unpause`: containers are frozen, and go on.

use kelp_engine::{Engine, Status};

use super::selection::{Selection, report};

/// Freeze all processes of containers
#[derive(clap::Args)]
pub struct Args {
    /// Pause every running container
    #[arg(short, long)]
    all: bool,
    /// Those that fit, as in ps: KEY=VALUE
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
    #[command(flatten)]
    selection: Selection,
}

/// Runs it; the exit code.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    set(engine, &args.filter, args.all, &args.selection, true)
}

/// Freezes or thaws; what `--all` means are those that can be.
pub fn set(
    engine: &Engine,
    filters: &[String],
    all: bool,
    selection: &Selection,
    pause: bool,
) -> anyhow::Result<i32> {
    let from = if pause {
        Status::Running
    } else {
        Status::Paused
    };
    let can_be = |id: &_| engine.status(id).is_ok_and(|status| status == from);
    let chosen = selection.find_filtered(engine, filters, all, false, can_be)?;
    let errors = chosen.each(|id| engine.pause_container(id, pause))?;
    Ok(report(engine, errors))
}
