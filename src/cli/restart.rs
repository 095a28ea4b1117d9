//! `kelp restart`: containers are stopped, if they run, and started.

use kelp_engine::container::signal::StopRequest;
use kelp_engine::{ContainerId, Engine, Status};

use super::selection::{Chosen, Selection, report};
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
    let mut chosen = args
        .selection
        .find_filtered(engine, &args.filter, every, false, is_meant)?;
    let request = StopRequest {
        timeout: args.time.map(timeout),
        fast: args.fast.stop_fast,
        ..StopRequest::default()
    };
    stop_dependents(engine, &mut chosen, request);
    let errors = chosen.each(|id| {
        engine.restart_container(id, request, |stopped| stop::tell(engine, id, stopped))
    })?;
    Ok(report(engine, errors))
}

/// Stops those that need others of them, and has these come first when all are started.
fn stop_dependents(engine: &Engine, chosen: &mut Chosen, request: StopRequest) {
    let ids = chosen.targets.iter().map(|target| target.id.clone());
    let groups = engine.dependents_first(&ids.collect::<Vec<_>>());
    if groups.len() < 2 {
        return;
    }
    let order: Vec<ContainerId> = groups.into_iter().rev().flatten().collect();
    let place = |id: &ContainerId| order.iter().position(|other| other == id);
    chosen.targets.sort_by_key(|target| place(&target.id));
    for id in order.iter().rev() {
        let needs_another = engine
            .dependencies(id)
            .iter()
            .any(|other| order.contains(other));
        if !needs_another {
            continue;
        }
        match engine.stop_to_restart(id, request) {
            Ok(stopped) => stop::tell(engine, id, &stopped),
            Err(error) => {
                chosen.errors.push(error);
                chosen.targets.retain(|target| target.id != *id);
            }
        }
    }
}
