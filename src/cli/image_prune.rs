//! `kelp image prune`: images that nobody needs.

use kelp_engine::Engine;
use kelp_format::units;

use super::container_prune::confirm;
use super::image_filter;
use super::output;

/// Remove images and manifest lists without a name, or all images that no container is made from
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
    /// Remove what was not used for longest, until all images take at most this much of the disk
    #[arg(long, value_name = "SIZE", value_parser = kelp_args::size::decimal, conflicts_with = "all")]
    keep_storage: Option<u64>,
    /// Taken for compatibility: no other program's containers use kelp's images
    #[arg(long)]
    external: bool,
    /// Only images for which this holds: label[!]=KEY[=VALUE] or until=TIME
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
}

/// Removes them and prints their ids.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let what = match args.keep_storage {
        Some(size) => format!(
            "images without a container, until at most {} are taken",
            units::docker_size(size)
        ),
        None if args.all => "all images without a container".to_owned(),
        None => "all dangling images".to_owned(),
    };
    if !args.force && !confirm(&format!("WARNING! This command removes {what}."))? {
        return Ok(0);
    }
    let _ = (args.build_cache, args.external);
    let filter = image_filter::ImageFilter::for_prune(engine, &args.filter)?;
    let removed = match args.keep_storage {
        Some(size) => engine.make_room(size, None, &|image| filter.holds(image))?,
        None => engine.prune_images(args.all, &|image| filter.holds(image))?,
    };
    for id in removed {
        output::line(id)?;
    }
    Ok(0)
}
