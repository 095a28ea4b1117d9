//! `kelp artifact rm`: artifacts, taken away.

use anyhow::bail;
use kelp_engine::{Engine, Kind};

use super::output;

/// Remove artifacts
#[derive(clap::Args)]
pub struct Args {
    /// Remove every artifact
    #[arg(short, long)]
    all: bool,
    /// It is no error if an artifact is not here
    #[arg(short, long)]
    ignore: bool,
    /// The artifacts: names, digests or the beginning of those
    artifacts: Vec<String>,
}

/// Removes each and prints its digest; what could not be removed is told of, and keeps no other.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let names = match (args.all, args.artifacts.is_empty()) {
        (true, false) => {
            bail!("when using the --all switch, you may not pass any artifact names or digests")
        }
        (false, true) => bail!("at least one artifact name or digest must be specified"),
        (false, false) => args.artifacts.clone(),
        (true, true) => {
            let artifacts = engine.artifacts()?.into_iter();
            artifacts.flat_map(|artifact| artifact.names).collect()
        }
    };
    let mut code = 0;
    for name in names {
        match engine.remove_artifact(&name) {
            Ok(digest) => output::line(digest)?,
            // With --all it has gone by itself.
            Err(error) if (args.ignore || args.all) && error.kind() == Kind::NotFound => {}
            Err(error) => {
                output::error(engine.explain_space(error).line());
                code = 125;
            }
        }
    }
    Ok(code)
}
