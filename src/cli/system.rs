//! `kelp system …`.

use clap::Subcommand;
use kelp_engine::Engine;

use super::runtime_flags::RuntimeFlags;
use super::{events, info, system_check, system_df, system_prune, system_reset};

/// Manage kelp itself
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Check(system_check::Args),
    Df(system_df::Args),
    Events(events::Args),
    Info(info::Args),
    Prune(system_prune::Args),
    Reset(system_reset::Args),
}

/// Runs the command of the group.
pub fn run(engine: &Engine, before: &RuntimeFlags, args: &Args) -> anyhow::Result<i32> {
    match &args.command {
        Command::Check(args) => system_check::run(engine, args),
        Command::Df(args) => system_df::run(engine, args),
        Command::Events(args) => events::run(engine, args),
        Command::Info(args) => info::run(engine, before, args),
        Command::Prune(args) => system_prune::run(engine, args),
        Command::Reset(args) => system_reset::run(engine, args),
    }
}
