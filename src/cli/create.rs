//! `kelp create`: a container that is not started.

use kelp_engine::Engine;
use kelp_engine::pod::{InitKind, Role};

use super::create_flags::{CreateFlags, pod};
use super::output;
use super::runtime_flags::RuntimeFlags;

/// Create a container without starting it
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub struct Args {
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// Run the container to its end before the others of its pod are started, always or once
    #[arg(long, value_name = "TYPE")]
    init_ctr: Option<InitKind>,
    #[command(flatten)]
    create: CreateFlags,
}

/// Creates it and prints its id.
pub fn run(engine: &Engine, runtime: &RuntimeFlags, args: &Args) -> anyhow::Result<i32> {
    let (mut options, pull) = args.create.requests(runtime)?;
    if args.init_ctr.is_some() && options.pod.is_none() {
        anyhow::bail!("must specify pod value with init-ctr: add --pod");
    }
    if let (Some(kind), Some(membership)) = (args.init_ctr, &mut options.pod) {
        membership.role = Role::Init(kind);
    }
    if options.rootfs.is_none() {
        engine.ensure_image(&options.image, &pull)?;
    }
    pod::make_new(engine, runtime, &mut options)?;
    output::line(engine.create_container(options)?)?;
    Ok(0)
}
