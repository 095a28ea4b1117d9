//! `kelp system prune`: everything that nobody uses is removed.

use kelp_engine::{Engine, Error, Kind};
use kelp_format::units;

use super::container_prune::{self, confirm};
use super::image_filter::ImageFilter;
use super::output;
use super::selection::report;
use super::volume_ls;

/// Remove what nobody uses: containers that do not run, images, and what interrupted commands left
#[derive(clap::Args)]
pub struct Args {
    /// Remove every image that no container is made from, not only those without a name
    #[arg(short, long)]
    all: bool,
    /// Remove only what interrupted commands have left
    #[arg(long, conflicts_with_all = ["all", "filter", "volumes"])]
    external: bool,
    /// Don't ask
    #[arg(short, long)]
    force: bool,
    /// Remove what unfinished builds left: there is none
    #[arg(long)]
    build: bool,
    /// Remove the volumes that no container uses too
    #[arg(long)]
    volumes: bool,
    /// Only what this holds for: label[!]=KEY[=VALUE] or until=TIME
    #[arg(long, value_name = "FILTER")]
    filter: Vec<String>,
}

/// Removes them, and prints what is gone and how much that was.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let filter = container_prune::filter(&args.filter)?;
    let image_filter = ImageFilter::for_prune(engine, &args.filter)?;
    if args.external {
        engine.collect_garbage()?;
        return Ok(0);
    }
    if !args.force && !confirm(&warning(args))? {
        return Ok(0);
    }
    let before = sizes(engine)?;
    let mut errors = Vec::new();
    let mut pods = Vec::new();
    if args.filter.is_empty() {
        let pruned = engine.prune_pods();
        pods.extend(pruned.removed.iter().map(ToString::to_string));
        errors.extend(pruned.errors);
    }
    let pruned = engine.prune_containers(&filter);
    let containers: Vec<_> = pruned.removed.iter().map(ToString::to_string).collect();
    let images = engine.prune_images(args.all, &|image| image_filter.holds(image))?;
    errors.extend(pruned.errors);
    let volumes = if args.volumes {
        prune_volumes(engine, &args.filter, &mut errors)?
    } else {
        Vec::new()
    };
    for (title, names) in [
        ("Deleted Pods", &pods),
        ("Deleted Containers", &containers),
        ("Deleted Images", &images),
        ("Deleted Volumes", &volumes),
    ] {
        if !names.is_empty() {
            output::line(title)?;
        }
        for name in names {
            output::line(name)?;
        }
    }
    output::line(format_args!(
        "Total reclaimed space: {}",
        units::compact_size(before.saturating_sub(sizes(engine)?))
    ))?;
    Ok(report(engine, errors))
}

fn warning(args: &Args) -> String {
    let mut lines = vec![
        "WARNING! This command removes:",
        "\t- all stopped containers",
    ];
    if args.volumes {
        lines.push("\t- all volumes not used by at least one container");
    }
    lines.push(if args.all {
        "\t- all images without at least one container associated with them"
    } else {
        "\t- all dangling images"
    });
    lines.join("\n") + "\n"
}

/// The bytes that all containers, images and volumes take of the disk.
fn sizes(engine: &Engine) -> Result<u64, Error> {
    let paths = [engine.paths.containers(), engine.paths.volumes()];
    let rest = engine.disk_usage(&paths)?.into_iter().flatten();
    Ok(engine.images_usage()?.size + rest.sum::<u64>())
}

/// Volumes have no time that a filter is about: those with `until` are for the rest.
fn prune_volumes(
    engine: &Engine,
    filters: &[String],
    errors: &mut Vec<Error>,
) -> anyhow::Result<Vec<String>> {
    let filters: Vec<_> = filters
        .iter()
        .filter(|filter| !filter.starts_with("until="))
        .cloned()
        .collect();
    let mut removed = Vec::new();
    for volume in volume_ls::chosen(engine, &filters)? {
        match engine.prune_volume(&volume) {
            Ok(()) => removed.push(volume.name),
            Err(error) if error.kind() == Kind::Conflict => {}
            Err(error) => errors.push(error),
        }
    }
    Ok(removed)
}
