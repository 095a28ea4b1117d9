//! `kelp volume …`.

use clap::Subcommand;
use kelp_engine::{Engine, Kind};

use super::{volume_create, volume_inspect, volume_ls, volume_prune, volume_rm};

/// Manage volumes
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    pub command: Command,
}

/// What `kelp volume` has.
#[derive(Subcommand)]
pub enum Command {
    Create(volume_create::Args),
    /// Check whether a volume exists: 0 if so, 1 if not
    Exists {
        /// The volume
        volume: String,
    },
    Inspect(volume_inspect::Args),
    #[command(visible_alias = "list")]
    Ls(volume_ls::Args),
    Prune(volume_prune::Args),
    #[command(visible_alias = "remove")]
    Rm(volume_rm::Args),
}

/// Runs the command of the group.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    match &args.command {
        Command::Create(args) => volume_create::run(engine, args),
        Command::Exists { volume } => exists(engine, volume),
        Command::Inspect(args) => volume_inspect::run(engine, args),
        Command::Ls(args) => volume_ls::run(engine, args),
        Command::Prune(args) => volume_prune::run(engine, args),
        Command::Rm(args) => Ok(volume_rm::run(engine, args)?),
    }
}

fn exists(engine: &Engine, volume: &str) -> anyhow::Result<i32> {
    match engine.find_volume(volume) {
        Ok(found) => Ok(i32::from(found.name != volume)),
        Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Invalid) => Ok(1),
        Err(error) => Err(error.into()),
    }
}
