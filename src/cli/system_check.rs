//! `kelp system check`: whether all that is stored is whole.

use std::time::Duration;

use kelp_engine::Engine;
use kelp_engine::check::{CheckOptions, Outcome};
use kelp_format::units;

use super::output;

/// Check that all that is stored is whole
#[derive(clap::Args)]
pub struct Args {
    /// Leave the content of layers out
    #[arg(short, long)]
    quick: bool,
    /// Make again what can be made again
    #[arg(short, long)]
    repair: bool,
    /// Repair, and remove damaged images and artifacts and the containers that use them and do not run
    #[arg(short, long)]
    force: bool,
    /// Take blobs and layers that no image and no artifact needs for damage once they are this old
    #[arg(short, long, value_name = "AGE", value_parser = age)]
    max: Option<Duration>,
}

fn age(text: &str) -> Result<Duration, String> {
    units::parse_span(text).ok_or_else(|| "it must be a span of time, such as 1h30m".to_owned())
}

/// Prints a line for each damage, and what was done.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let options = CheckOptions {
        quick: args.quick,
        repair: args.repair,
        force: args.force,
        max: args.max,
    };
    let mut unsaid = None;
    let outcome = engine.check_storage(&options, &mut |line| {
        // What is repaired is repaired, whoever listens.
        unsaid = unsaid.take().or(output::line(line).err());
    })?;
    if let Some(failure) = unsaid {
        return Err(failure.into());
    }
    match outcome {
        Outcome::Whole => Ok(0),
        Outcome::Damaged => anyhow::bail!("damage detected in local storage"),
        Outcome::StillDamaged => {
            anyhow::bail!("damage in local storage still present after repair attempt")
        }
    }
}
