//! The command line: one file a command, each with its arguments and one function.

mod create_flags;
mod exec;
mod exit;
mod run;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use kelp_engine::Engine;

/// Rootless containers for one user, with no daemon.
#[derive(Parser)]
#[command(
    name = "kelp",
    version,
    disable_help_subcommand = true,
    infer_long_args = false
)]
struct Kelp {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Exec(exec::Args),
    Run(run::Args),
}

/// Parses the command line and runs the command.
pub fn main() -> ExitCode {
    let kelp = match Kelp::try_parse() {
        Ok(kelp) => kelp,
        Err(error) => return exit::usage(&error),
    };
    let result = Engine::open()
        .map_err(anyhow::Error::from)
        .and_then(|engine| match kelp.command {
            Command::Exec(args) => exec::run(&engine, args),
            Command::Run(args) => run::run(&engine, args),
        });
    exit::code(result)
}
