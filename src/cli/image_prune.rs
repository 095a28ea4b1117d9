//! `kelp image prune`: images that nobody needs.

use kelp_engine::Engine;

use super::container_prune::confirm;
use super::image_filter;
use super::output;

/// Remove images without a name, or all that no container is made from
#[derive(clap::Args)]
pub struct Args {
    /// Remove every image that no container is made from
    #[arg(short, long)]
    all: bool,
    /// Do not ask
    #[arg(short, long)]
    force: bool,
    /// Remove the cache of builds: there is none
    #[arg(long)]
    build_cache: bool,
    /// Taken for compatibility: no other program's containers use kelp's images
    #[arg(long)]
    external: bool,
    /// Only images for which this holds: label[!]=KEY[=VALUE] or until=TIME
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
}

/// Removes them and prints their ids.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let what = if args.all {
        "all images without a container"
    } else {
        "all dangling images"
    };
    if !args.force && !confirm(&format!("WARNING! This command removes {what}."))? {
        return Ok(0);
    }
    let _ = (args.build_cache, args.external);
    let filter = image_filter::ImageFilter::for_prune(engine, &args.filter)?;
    for id in engine.prune_images(args.all, &|image| filter.holds(image))? {
        output::line(id)?;
    }
    Ok(0)
}
