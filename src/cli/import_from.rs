//! `kelp image import-from`: the images of another tool's store.

use std::path::PathBuf;

use kelp_engine::Engine;
use kelp_engine::image::pull::PullRequest;

use super::load;
use super::selection::report;

/// Bring images out of another tool's store
#[derive(clap::Args)]
pub struct Args {
    /// The tool
    #[arg(value_enum)]
    from: Tool,
    /// The images; all of them otherwise
    images: Vec<String>,
    /// Where the store is, instead of where the tool's configuration has it
    #[arg(long, value_name = "DIR")]
    root: Option<PathBuf>,
    /// Show nothing but what was brought
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Tool {
    Podman,
}

/// Brings the images, and says which, and which not.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let Tool::Podman = args.from;
    let request = PullRequest {
        quiet: args.quiet,
        ..PullRequest::default()
    };
    let result = engine.import_from_podman(args.root.as_deref(), &args.images, &request)?;
    load::warn_of_displaced(&result.brought.displaced);
    load::tell("Imported", &result.brought.images)?;
    Ok(report(engine, result.failed))
}
