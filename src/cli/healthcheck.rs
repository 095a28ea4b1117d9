//! `kelp healthcheck`: whether a container works.

use kelp_engine::{Engine, Health};

use super::output;

/// Manage health checks on containers
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(clap::Subcommand)]
enum Command {
    /// Check a container's health now: 0 if the check was passed, 1 if not
    Run {
        /// Go on when the check was not passed: the exit code is 0
        #[arg(long)]
        ignore_result: bool,
        /// The name or id of a container
        #[arg(value_name = "CONTAINER")]
        container: String,
    },
}

/// Runs it; the exit code.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let Command::Run {
        ignore_result,
        container,
    } = &args.command;
    let id = engine.find_container(container)?;
    let (passed, health) = engine.check_health(&id)?;
    if !passed && health != Health::Healthy {
        output::line(health)?;
    }
    Ok(i32::from(!passed && !ignore_result))
}
