//! `kelp system reset`: back to the beginning.

use kelp_engine::Engine;

use super::container_prune::confirm;

/// Remove everything: containers, images, volumes, and all else that is stored
#[derive(clap::Args)]
pub struct Args {
    /// Do not ask
    #[arg(short, long)]
    force: bool,
}

/// Removes everything.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let warning = format!(
        "WARNING! This will remove:\n        - all containers\n        - all images\n        - all \
         volumes\n        - the graphRoot directory: \"{}\"\n        - the runRoot directory: \"{}\"",
        engine.paths.data.display(),
        engine.paths.runtime.display()
    );
    if args.force || confirm(&warning)? {
        engine.reset()?;
    }
    Ok(0)
}
