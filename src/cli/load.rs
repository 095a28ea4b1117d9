//! `kelp load`: images out of a file, or from a URL.

use std::fs::File;
use std::path::PathBuf;

use anyhow::bail;
use kelp_engine::Engine;
use kelp_engine::image::load::{Displaced, Input, LoadedImage};
use rustix::termios::isatty;

use super::output;

/// Load images from an archive, a directory or a URL
#[derive(clap::Args)]
pub struct Args {
    /// The archive or the directory, or the http or https URL of an archive; standard input otherwise
    #[arg(short, long, value_name = "FILE|URL")]
    input: Option<PathBuf>,
    /// Of an index the image for this platform: OS/ARCH[/VARIANT]
    #[arg(long)]
    platform: Option<String>,
    /// Show nothing but what was loaded
    #[arg(short, long)]
    quiet: bool,
    /// The policy that says which images are accepted, instead of the user's or the machine's
    #[arg(long, value_name = "FILE", hide = true)]
    signature_policy: Option<PathBuf>,
    /// The http or https URL of an archive, instead of --input
    #[arg(conflicts_with = "input")]
    url: Option<PathBuf>,
}

/// Loads all images, and says which.
pub fn run(engine: &Engine, args: Args) -> anyhow::Result<i32> {
    let input = match args.input.filter(|path| path.as_os_str() != "-") {
        Some(path) => Input::parse(path),
        None if args.url.is_some() => match Input::parse(args.url.unwrap_or_default()) {
            Input::Path(path) => {
                bail!(
                    "{0} is no http or https URL: use --input {0} for a file",
                    path.display()
                )
            }
            url => url,
        },
        None if isatty(rustix::stdio::stdin()) => {
            bail!("an archive is not read from a terminal: use --input FILE, or redirect it")
        }
        None => Input::Stream(File::from(rustix::io::dup(rustix::stdio::stdin())?)),
    };
    let brought = engine.load_images(input, args.quiet, args.platform, args.signature_policy)?;
    warn_of_displaced(&brought.displaced);
    tell("Loaded", &brought.images)?;
    Ok(0)
}

/// Says which images have come, by their names.
pub fn tell(verb: &str, images: &[LoadedImage]) -> Result<(), output::Failure> {
    for image in images {
        match image.names.as_slice() {
            [] => output::line(format_args!("{verb} image: sha256:{}", image.id))?,
            names => {
                for name in names {
                    output::line(format_args!("{verb} image: {name}"))?;
                }
            }
        }
    }
    Ok(())
}

/// Tells that a name in a file was another image's before: that never happens silently.
pub fn warn_of_displaced(displaced: &[Displaced]) {
    for Displaced { name, image } in displaced {
        output::note(format_args!(
            "Warning: {name} was a name of image {} before",
            image.short()
        ));
    }
}
