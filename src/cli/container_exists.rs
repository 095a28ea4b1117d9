//! `kelp container exists`: an answer by exit code.

use kelp_engine::{Engine, Kind};

/// Check whether a container exists: 0 if so, 1 if not
#[derive(clap::Args)]
pub struct Args {
    /// Taken for compatibility: kelp has no containers of other programs
    #[arg(long)]
    external: bool,
    /// The container
    container: String,
}

/// Runs it; the exit code.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let _ = args.external;
    match engine.find_container(&args.container) {
        Ok(_) => Ok(0),
        Err(error) if error.kind() == Kind::NotFound => Ok(1),
        Err(error) => Err(error.into()),
    }
}
