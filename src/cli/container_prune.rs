//! `kelp container prune`: what does not run is removed.

use std::io::{self, BufRead};

use kelp_engine::Engine;
use kelp_engine::container::prune::{LabelFilter, PruneFilter};

use super::output;
use super::selection::report;
use super::time_argument;

/// Remove all containers that do not run
#[derive(clap::Args)]
pub struct Args {
    /// Don't ask
    #[arg(short, long)]
    force: bool,
    /// Only containers for which this holds: label[!]=KEY[=VALUE] or until=TIME
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
}

/// Runs it; the exit code.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let filter = filter(&args.filter)?;
    if !args.force && !confirm("WARNING! This will remove all non running containers.")? {
        return Ok(0);
    }
    let pruned = engine.prune_containers(&filter);
    for id in pruned.removed {
        output::line(id)?;
    }
    Ok(report(engine, pruned.errors))
}

/// Reads the filters of a prune.
pub fn filter(texts: &[String]) -> anyhow::Result<PruneFilter> {
    let mut filter = PruneFilter::default();
    for text in texts {
        match text.split_once('=') {
            Some(("label", label)) => filter.labels.push(LabelFilter::new(label, true)),
            Some(("label!", label)) => filter.labels.push(LabelFilter::new(label, false)),
            Some(("until", time)) => {
                filter.until = Some(time_argument::parse(time).map_err(anyhow::Error::msg)?);
            }
            Some((key, _)) => anyhow::bail!("{key} is an invalid filter"),
            None => anyhow::bail!("invalid filter \"{text}\": it must be KEY=VALUE"),
        }
    }
    Ok(filter)
}

/// Asks on the terminal; anything but a word that begins with y means no.
pub fn confirm(warning: &str) -> anyhow::Result<bool> {
    output::text(format!(
        "{warning}\nAre you sure you want to continue? [y/N] "
    ))?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim_start().to_ascii_lowercase().starts_with('y'))
}
