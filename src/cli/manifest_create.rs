//! `kelp manifest create`: a list, and what is in it from the beginning.

use kelp_engine::Engine;
use kelp_engine::image::manifest::AddRequest;

use super::manifest::annotations;
use super::output;
use super::pull_flags::AccessFlags;

/// Make a manifest list
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    access: AccessFlags,
    /// Add all images of what is a list itself, and not that of the host's platform alone
    #[arg(long)]
    all: bool,
    /// Change the list if it is here already
    #[arg(short, long)]
    amend: bool,
    /// An annotation of the list: KEY=VALUE
    #[arg(long, value_name = "KEY=VALUE")]
    annotation: Vec<String>,
    /// The list
    list: String,
    /// The images
    images: Vec<String>,
}

/// Makes the list and prints its id. A new one is not left if an image can't be added to it.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let request = AddRequest {
        all: args.all,
        access: args.access.request(),
        ..AddRequest::default()
    };
    let annotations = annotations(&args.annotation)?;
    let id = engine.create_list(&args.list, args.amend, &annotations, &args.images, &request)?;
    output::line(id)?;
    Ok(0)
}
