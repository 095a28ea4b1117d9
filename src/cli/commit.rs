//! `kelp commit`: an image from a container.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, bail};
use kelp_args::Change;
use kelp_engine::Engine;
use kelp_engine::container::commit::CommitOptions;
use kelp_engine::image::make::ManifestForm;

use super::output;

/// Make an image from what a container has changed
#[derive(clap::Args)]
pub struct Args {
    /// Who made it
    #[arg(short, long)]
    author: Option<String>,
    /// Change the configuration by an instruction of a Dockerfile: CMD, ENTRYPOINT, ENV, EXPOSE,
    /// HEALTHCHECK, LABEL, ONBUILD, SHELL, STOPSIGNAL, USER, VOLUME or WORKDIR
    #[arg(short, long = "change", value_name = "INSTRUCTION")]
    changes: Vec<Change>,
    /// Merge a file with a configuration in docker's words into that of the image
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The format of the image: oci or docker
    #[arg(short, long, default_value = "oci")]
    format: String,
    /// Write the image's id to a file
    #[arg(long, value_name = "FILE")]
    iidfile: Option<PathBuf>,
    /// Make the places of all volumes of the container volumes of the image
    #[arg(long)]
    include_volumes: bool,
    /// A remark; docker's format alone has room for it
    #[arg(short, long)]
    message: Option<String>,
    /// Pause the container meanwhile
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pause: Option<bool>,
    /// Show nothing but the image's id
    #[arg(short, long)]
    quiet: bool,
    /// Make one layer of everything
    #[arg(short, long)]
    squash: bool,
    /// The container
    container: String,
    /// The image's name
    image: Option<String>,
}

/// Runs it; the exit code.
pub fn run(engine: &Engine, args: Args) -> anyhow::Result<i32> {
    // Nothing but the id is shown anyway.
    let _ = args.quiet;
    let documents = match args.format.as_str() {
        "oci" => ManifestForm::Oci,
        "docker" => ManifestForm::Docker,
        other => bail!("unrecognized image format {other:?}"),
    };
    let config = match &args.config {
        None => None,
        Some(path) => {
            let text = fs::read(path).with_context(|| format!("read {}", path.display()))?;
            Some(serde_json::from_slice(&text).with_context(|| path.display().to_string())?)
        }
    };
    let id = engine.find_container(&args.container)?;
    let options = CommitOptions {
        name: args.image,
        author: args.author,
        changes: args.changes,
        config,
        documents,
        include_volumes: args.include_volumes,
        message: args.message,
        pause: args.pause.unwrap_or(false),
        squash: args.squash,
    };
    let image = engine.commit_container(&id, &options)?;
    if let Some(path) = &args.iidfile {
        fs::write(path, &image).with_context(|| format!("write {}", path.display()))?;
    }
    output::line(image)?;
    Ok(0)
}
