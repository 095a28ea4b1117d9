//! `kelp manifest inspect`: what is in a list.

use kelp_engine::Engine;
use kelp_format::render::json;

use super::output;
use super::pull_flags::AccessFlags;

/// Show a manifest list that is here, or in a registry
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    access: AccessFlags,
    /// For docker's scripts: more is not shown
    #[arg(short, long)]
    verbose: bool,
    /// The list
    list: String,
}

/// Prints the document.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let _ = args.verbose;
    let document = engine.inspect_list(&args.list, &args.access.request())?;
    if document.get("manifests").is_none() {
        output::note(format_args!(
            "Warning: {} is a single image, and no manifest list",
            args.list
        ));
    }
    output::line(json(&document)?)?;
    Ok(0)
}
