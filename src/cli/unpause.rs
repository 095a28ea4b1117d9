//! `kelp unpause`: the other half of `kelp pause`.

use kelp_engine::Engine;

use super::pause;
use super::selection::Selection;

/// Let paused containers go on
#[derive(clap::Args)]
pub struct Args {
    /// Unpause every paused container
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
    pause::set(engine, &args.filter, args.all, &args.selection, false)
}
