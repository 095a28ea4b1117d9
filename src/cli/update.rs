//! `kelp update`: other limits, environment, health checks or restart policy for a container.

use anyhow::bail;
use kelp_args::RestartPolicy;
use kelp_engine::Engine;
use kelp_engine::container::update::UpdateRequest;

use super::create_flags::health::HealthFlags;
use super::create_flags::limits::LimitFlags;
use super::create_flags::{host_variables, variables};
use super::output;

/// Change the limits of a container, its environment, its health checks, or what happens when it has ended
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    limits: LimitFlags,
    #[command(flatten)]
    health: HealthFlags,
    /// Set an environment variable from the next start on: KEY=VALUE, KEY or PREFIX*
    #[arg(short, long)]
    env: Vec<String>,
    /// Take an environment variable away from the next start on
    #[arg(long, value_name = "KEY")]
    unsetenv: Vec<String>,
    /// What happens when the container has ended: no, on-failure[:RETRIES], always, unless-stopped
    #[arg(long, value_name = "POLICY")]
    restart: Option<RestartPolicy>,
    /// Use the container that was created last
    #[arg(short, long, conflicts_with = "container")]
    latest: bool,
    /// The name or id of a container
    #[arg(value_name = "CONTAINER")]
    container: Option<String>,
}

/// Runs it; the exit code.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let id = match &args.container {
        Some(name) => engine.find_container(name)?,
        None if args.latest => engine.latest_container()?,
        None => bail!("you must provide the name or id of a container"),
    };
    let request = UpdateRequest {
        limits: args.limits.of_cgroup()?,
        ulimits: args.limits.of_processes()?,
        restart: args.restart,
        health: args.health.options()?,
        env: variables(&[], &args.env, &host_variables())?,
        unset_env: args.unsetenv.clone(),
    };
    engine.update_container(&id, &request)?;
    output::line(id)?;
    Ok(0)
}
