//! `kelp image mount` and `kelp image unmount`: an image's files where the user can read them.

use kelp_engine::{Engine, Error};
use kelp_format::{Format, render};
use serde_json::json;

use super::mount::{COLUMNS, Row, is_json};
use super::output;
use super::selection::report;

/// In `kelp unshare`: mount images so that they can be read and print where, or list what is mounted
#[derive(clap::Args)]
pub struct Args {
    /// Mount every image
    #[arg(short, long, conflicts_with = "images")]
    all: bool,
    /// json, for the list
    #[arg(long)]
    format: Option<String>,
    /// The images
    #[arg(value_name = "IMAGE")]
    images: Vec<String>,
}

/// Runs it; the exit code.
pub fn run(engine: &Engine, args: Args) -> anyhow::Result<i32> {
    let mut names = args.images;
    if args.all {
        let images = engine.images()?.into_iter();
        let images = images.filter(|image| !image.record.is_list());
        names.extend(images.map(|image| image.record.id.hex().to_owned()));
    } else if names.is_empty() {
        return list(engine, args.format.as_deref());
    }
    let mut errors = Vec::new();
    for name in names {
        match engine.mount_image(&name) {
            Ok(path) => output::line(path.display())?,
            Err(error) => errors.push(error),
        }
    }
    Ok(report(engine, errors))
}

fn list(engine: &Engine, format: Option<&str>) -> anyhow::Result<i32> {
    let is_json = is_json(format)?;
    let mounted = engine.mounted_images()?;
    if is_json {
        let mut objects = Vec::new();
        for (id, path) in mounted {
            let image = engine.image(&id)?;
            objects.push(json!({
                "id": id,
                "Names": [image.record.manifest.to_string()],
                "Repositories": image.names,
                "mountpoint": path,
            }));
        }
        output::line(render::json(&objects)?)?;
        return Ok(0);
    }
    let rows: Vec<_> = mounted
        .into_iter()
        .map(|(id, path)| Row {
            path: path.display().to_string(),
            id: match engine.image(&id) {
                Ok(image) => image.names.into_iter().next().unwrap_or(id),
                Err(_) => id,
            },
        })
        .collect();
    output::text(render(&rows, &Format::parse("", COLUMNS), &[], false)?)?;
    Ok(0)
}

/// Unmount images
#[derive(clap::Args)]
pub struct UnmountArgs {
    /// Unmount every image that is mounted here
    #[arg(short, long, conflicts_with = "images")]
    all: bool,
    /// Unmount it also where it is in use, and wherever else it is mounted
    #[arg(short, long)]
    force: bool,
    /// The images
    #[arg(value_name = "IMAGE", required_unless_present = "all")]
    images: Vec<String>,
}

/// Runs it; the exit code.
pub fn unmount(engine: &Engine, args: UnmountArgs) -> anyhow::Result<i32> {
    let mut names = args.images;
    if args.all {
        let mounted = engine.mounted_images()?.into_iter();
        names.extend(mounted.map(|(id, _)| id));
    }
    let mut errors: Vec<Error> = Vec::new();
    for name in names {
        let image = engine.image(&name);
        match image.and_then(|image| Ok((engine.unmount_image(&name, args.force)?, image))) {
            Ok((true, image)) => output::line(image.record.id.hex())?,
            // As podman has it: it is not mounted, which is all that was wanted.
            Ok((false, _)) => {}
            Err(error) => errors.push(error),
        }
    }
    Ok(report(engine, errors))
}
