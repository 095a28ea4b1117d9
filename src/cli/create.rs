//! `kelp create`: a container that is not started.

use kelp_engine::Engine;

use super::create_flags::CreateFlags;
use super::output;
use super::runtime_flags::RuntimeFlags;

/// Create a container without starting it
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub struct Args {
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    #[command(flatten)]
    create: CreateFlags,
}

/// Creates it and prints its id.
pub fn run(engine: &Engine, runtime: &RuntimeFlags, args: &Args) -> anyhow::Result<i32> {
    let (options, pull) = args.create.requests(runtime)?;
    if options.rootfs.is_none() {
        engine.ensure_image(&options.image, &pull)?;
    }
    output::line(engine.create_container(options)?)?;
    Ok(0)
}
