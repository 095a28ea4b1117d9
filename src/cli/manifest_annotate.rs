//! `kelp manifest annotate`: what a list says of an image, or of itself.

use anyhow::bail;
use kelp_engine::Engine;

use super::manifest_add::EntryFlags;
use super::output;

/// Change what a manifest list says of an image
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    entry: EntryFlags,
    /// Annotate the list itself
    #[arg(long)]
    index: bool,
    /// The list
    list: String,
    /// The digest of the image's manifest
    digest: Option<String>,
}

/// Changes the entry and prints the list's id.
pub fn run(engine: &Engine, args: Args) -> anyhow::Result<i32> {
    if args.index == args.digest.is_some() {
        bail!("give the digest of an image, or --index for the list itself");
    }
    let changes = args.entry.changes()?;
    if args.index && !changes.is_only_annotations() {
        bail!("--index takes --annotation only: the rest is said of an image");
    }
    let id = engine.annotate_list(&args.list, args.digest.as_deref(), &changes)?;
    output::line(id)?;
    Ok(0)
}
