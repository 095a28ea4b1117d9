//! `kelp rename`: another name for a container.

use kelp_engine::Engine;

/// Rename a container
#[derive(clap::Args)]
pub struct Args {
    /// The container
    container: String,
    /// Its new name
    name: String,
}

/// Runs it; the exit code.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let id = engine.find_container(&args.container)?;
    engine.rename_container(&id, &args.name)?;
    Ok(0)
}
