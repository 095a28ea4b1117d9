//! `kelp volume create`.

use std::collections::BTreeMap;

use anyhow::bail;
use kelp_engine::volumes::VolumeRecord;
use kelp_engine::{ContainerId, Engine};

use super::output;

/// Create a volume
#[derive(clap::Args)]
pub struct Args {
    /// Where its files are: local is all there is
    #[arg(short, long, default_value = "local")]
    driver: String,
    /// It is no error if the volume exists
    #[arg(long)]
    ignore: bool,
    /// A label, as KEY[=VALUE]
    #[arg(short, long)]
    label: Vec<String>,
    /// Options of the driver; local has none
    #[arg(short, long = "opt", value_name = "OPTION")]
    options: Vec<String>,
    /// Its name; 64 random digits if none is given
    name: Option<String>,
}

impl Args {
    /// Whether the flags can be meant.
    pub fn check(&self) -> anyhow::Result<()> {
        if self.driver != "local" {
            bail!("there is no volume driver {}: use local", self.driver);
        }
        if let Some(option) = self.options.first() {
            bail!("the local volume driver has no option {option}");
        }
        Ok(())
    }
}

/// Makes it and prints its name.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    args.check()?;
    let labels: BTreeMap<_, _> = args
        .label
        .iter()
        .map(|label| {
            let (key, value) = label.split_once('=').unwrap_or((label, ""));
            (key.to_owned(), value.to_owned())
        })
        .collect();
    let anonymous = args.name.is_none();
    let random = || ContainerId::random().to_string();
    let name = args.name.clone().unwrap_or_else(random);
    engine.create_volume(&name, &VolumeRecord { labels, anonymous }, args.ignore)?;
    output::line(name)?;
    Ok(0)
}
