//! `kelp rmi`: images and their names, taken away.

use kelp_engine::image::remove::Removal;
use kelp_engine::{Engine, Kind};

use super::output;

/// Remove images
#[derive(clap::Args)]
pub struct Args {
    /// Remove every image
    #[arg(short, long)]
    all: bool,
    /// Remove containers that use the image, and all names of an image given by id; it is no error if
    /// an image is not here
    #[arg(short, long)]
    force: bool,
    /// It is no error if an image is not here
    #[arg(short, long)]
    ignore: bool,
    /// For docker's scripts: an image has no parents here that would go with it
    #[arg(long)]
    no_prune: bool,
    /// The images
    #[arg(required_unless_present = "all")]
    images: Vec<String>,
}

/// Removes each; 1 if one was not here, 2 if one is in use.
pub fn run(engine: &Engine, args: Args) -> anyhow::Result<i32> {
    let _ = args.no_prune;
    let mut names = args.images;
    if args.all {
        let images = engine.images()?;
        let read_only = engine.read_only_images(&images)?;
        names = images
            .into_iter()
            .map(|image| image.record.id.hex().to_owned())
            .filter(|id| !read_only.contains(id))
            .collect();
    }
    let ignore = args.ignore || args.force;
    let mut code = 0;
    for name in names {
        match engine.remove_image(&name, args.force || args.all, args.force) {
            Ok(removal) => tell(removal)?,
            Err(error) if ignore && error.kind() == Kind::NotFound => {}
            Err(error) => {
                let error = engine.explain_space(error);
                output::error(error.line());
                let this = match error.kind() {
                    Kind::NotFound => 1,
                    Kind::Conflict => 2,
                    _ => 125,
                };
                code = code.max(this);
            }
        }
    }
    Ok(code)
}

/// Says what was removed.
pub fn tell(removal: Removal) -> Result<(), output::Failure> {
    for untagged in removal.untagged {
        output::line(format_args!("Untagged: {untagged}"))?;
    }
    if let Some(id) = removal.deleted {
        output::line(format_args!("Deleted: {}", id.hex()))?;
    }
    Ok(())
}
