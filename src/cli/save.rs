//! `kelp save`: images into a file.

use std::path::PathBuf;

use anyhow::bail;
use kelp_engine::Engine;
use kelp_engine::image::save::{Form, SaveRequest};

/// Save images to an archive
#[derive(clap::Args)]
pub struct Args {
    /// Compress every layer with gzip
    #[arg(long)]
    compress: bool,
    /// docker-archive, oci-archive, oci-dir or docker-dir
    #[arg(long, default_value = "docker-archive", value_name = "FORMAT")]
    format: String,
    /// Save each of several images under its name; otherwise further names are given to the first
    #[arg(short, long)]
    multi_image_archive: bool,
    /// The file, or the directory; standard output otherwise
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Show nothing
    #[arg(short, long)]
    quiet: bool,
    /// For podman's scripts: layers that are not compressed stay so anyway
    #[arg(long)]
    uncompressed: bool,
    /// The images
    #[arg(required = true)]
    images: Vec<String>,
}

/// Saves the images.
pub fn run(engine: &Engine, args: Args) -> anyhow::Result<i32> {
    let form = match args.format.as_str() {
        "docker-archive" => Form::DockerArchive,
        "oci-archive" => Form::OciArchive,
        "oci-dir" => Form::Oci,
        "docker-dir" => Form::Dir,
        other => bail!(
            "unknown format {other:?}: it is docker-archive, oci-archive, oci-dir or docker-dir"
        ),
    };
    let directory = matches!(form, Form::Oci | Form::Dir);
    if directory && args.output.is_none() {
        bail!("--format {} needs --output DIRECTORY", args.format);
    }
    if args.multi_image_archive && form == Form::Dir {
        bail!("--format docker-dir holds one image");
    }
    let request = SaveRequest {
        form,
        output: args.output.filter(|path| path.as_os_str() != "-"),
        several: args.multi_image_archive,
        compress: args.compress,
        quiet: args.quiet,
    };
    engine.save_images(&args.images, &request)?;
    Ok(0)
}
