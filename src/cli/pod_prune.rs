//! `kelp pod prune`: pods whose containers have ended are removed.

use kelp_engine::Engine;

use super::container_prune::confirm;
use super::output;
use super::selection::report;

/// Remove all pods that have ended, and their containers
#[derive(clap::Args)]
pub struct Args {
    /// Don't ask
    #[arg(short, long)]
    force: bool,
}

/// Runs it; the exit code.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    if !args.force && !confirm("WARNING! This will remove all stopped/exited pods..")? {
        return Ok(0);
    }
    let pruned = engine.prune_pods();
    for id in pruned.removed {
        output::line(id)?;
    }
    Ok(report(engine, pruned.errors))
}
