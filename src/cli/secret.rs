//! `kelp secret …`.

use clap::Subcommand;
use kelp_engine::{Engine, Kind};

use super::{secret_create, secret_inspect, secret_ls, secret_rm};

/// Manage secrets
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Create(secret_create::Args),
    /// Check whether a secret exists: 0 if so, 1 if not
    Exists {
        /// The secret
        secret: String,
    },
    Inspect(secret_inspect::Args),
    #[command(visible_alias = "list")]
    Ls(secret_ls::Args),
    Rm(secret_rm::Args),
}

/// Runs the command of the group.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    match &args.command {
        Command::Create(args) => secret_create::run(engine, args),
        Command::Exists { secret } => exists(engine, secret),
        Command::Inspect(args) => secret_inspect::run(engine, args),
        Command::Ls(args) => secret_ls::run(engine, args),
        Command::Rm(args) => secret_rm::run(engine, args),
    }
}

fn exists(engine: &Engine, secret: &str) -> anyhow::Result<i32> {
    match engine.find_secret(secret) {
        Ok(_) => Ok(0),
        Err(error) if matches!(error.kind(), Kind::NotFound | Kind::Invalid) => Ok(1),
        Err(error) => Err(error.into()),
    }
}
