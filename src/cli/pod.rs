//! `kelp pod …`.

use clap::Subcommand;
use kelp_engine::{Engine, Kind};

use super::runtime_flags::RuntimeFlags;
use super::{
    pod_create, pod_inspect, pod_logs, pod_prune, pod_ps, pod_rm, pod_signal, pod_start, pod_stats,
    pod_top,
};

/// Manage pods: containers that share namespaces
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

/// What `kelp pod` has.
#[derive(Subcommand)]
pub enum Command {
    Create(Box<pod_create::Args>),
    /// Check whether a pod exists: 0 if so, 1 if not
    Exists {
        /// The pod
        pod: String,
    },
    Inspect(pod_inspect::Args),
    Kill(pod_signal::KillArgs),
    Logs(pod_logs::Args),
    Pause(pod_signal::PauseArgs),
    Prune(pod_prune::Args),
    #[command(visible_aliases = ["ls", "list"])]
    Ps(pod_ps::Args),
    Restart(pod_start::RestartArgs),
    Rm(pod_rm::Args),
    Start(pod_start::Args),
    Stats(pod_stats::Args),
    Stop(pod_signal::StopArgs),
    Top(pod_top::Args),
    Unpause(pod_signal::UnpauseArgs),
}

/// Runs the command of the group.
pub fn run(engine: &Engine, before: &RuntimeFlags, args: Args) -> anyhow::Result<i32> {
    match args.command {
        Command::Create(args) => pod_create::run(engine, before, &args),
        Command::Exists { pod } => exists(engine, &pod),
        Command::Inspect(args) => pod_inspect::run(engine, &args),
        Command::Kill(args) => pod_signal::kill(engine, &args),
        Command::Logs(args) => pod_logs::run(engine, &args),
        Command::Pause(args) => pod_signal::pause(engine, &args),
        Command::Prune(args) => pod_prune::run(engine, &args),
        Command::Ps(args) => pod_ps::run(engine, &args),
        Command::Restart(args) => pod_start::restart(engine, &args),
        Command::Rm(args) => pod_rm::run(engine, &args),
        Command::Start(args) => pod_start::run(engine, &args),
        Command::Stats(args) => pod_stats::run(engine, &args),
        Command::Stop(args) => pod_signal::stop(engine, &args),
        Command::Top(args) => pod_top::run(engine, &args),
        Command::Unpause(args) => pod_signal::unpause(engine, &args),
    }
}

fn exists(engine: &Engine, pod: &str) -> anyhow::Result<i32> {
    match engine.find_pod(pod) {
        Ok(_) => Ok(0),
        Err(error) if error.kind() == Kind::NotFound => Ok(1),
        Err(error) => Err(error.into()),
    }
}
