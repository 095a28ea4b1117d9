//! `kelp volume prune`: what no container uses is removed.

use kelp_engine::{Engine, Kind};

use super::container_prune::confirm;
use super::output;
use super::selection::report;
use super::volume_ls;

/// Remove volumes that no container uses
#[derive(clap::Args)]
pub struct Args {
    /// Volumes with a name too; taken for compatibility: they always are
    #[arg(short, long)]
    all: bool,
    /// Don't ask
    #[arg(short, long)]
    force: bool,
    /// Only volumes that fit, as for `volume ls`
    #[arg(long)]
    filter: Vec<String>,
}

/// Removes them and prints their names.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let _ = args.all;
    let mut volumes = volume_ls::chosen(engine, &args.filter)?;
    let users = engine.volume_users();
    volumes.retain(|volume| !users.contains_key(&volume.name));
    let warning = "WARNING! This will remove all volumes not used by at least one container. The \
                   following volumes will be removed:";
    if !args.force {
        let names: Vec<_> = volumes.iter().map(|volume| volume.name.as_str()).collect();
        if names.is_empty() {
            output::line("No dangling volumes found")?;
            return Ok(0);
        }
        if !confirm(&format!("{warning}\n\n{}", names.join("\n")))? {
            return Ok(0);
        }
    }
    let mut errors = Vec::new();
    for volume in &volumes {
        match engine.prune_volume(volume) {
            Ok(()) => output::line(&volume.name)?,
            // A container has just been made that uses it.
            Err(error) if error.kind() == Kind::Conflict => {}
            Err(error) => errors.push(error),
        }
    }
    Ok(report(engine, errors))
}
