//! `kelp restart`: containers are stopped, if they run, and started.

use kelp_engine::container::signal::StopRequest;
use kelp_engine::{Engine, Status};

use super::selection::{Selection, report};
use super::stop::{self, FastFlag, timeout};

/// Restart containers
#[derive(clap::Args)]
pub struct Args {
    /// Restart every container
    #[arg(short, long)]
    all: bool,
    /// Restart every container that runs
    #[arg(long, conflicts_with = "all")]
    running: bool,
    /// Seconds until a container that was asked to stop is killed; -1 for never
    #[arg(short, long, visible_alias = "timeout", allow_negative_numbers = true)]
    time: Option<i64>,
    /// Those that fit, as in ps: KEY=VALUE
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
    #[command(flatten)]
    fast: FastFlag,
    #[command(flatten)]
    selection: Selection,
}

/// Runs it; the exit code.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let is_meant = |id: &_| {
        args.all
            || !args.running
            || engine
                .status(id)
                .is_ok_and(|status| status == Status::Running)
    };
    let every = args.all || args.running;
    let chosen = args
        .selection
        .find_filtered(engine, &args.filter, every, false, is_meant)?;
    let request = StopRequest {
        timeout: args.time.map(timeout),
        fast: args.fast.stop_fast,
    };
    let errors = chosen.each(|id| {
        engine.restart_container(id, request, |stopped| stop::tell(engine, id, stopped))
    })?;
    Ok(report(engine, errors))
}
