//! `kelp artifact add`: an artifact of files.

use std::path::PathBuf;

use anyhow::bail;
use kelp_engine::Engine;
use kelp_engine::artifact::ArtifactAddition;

use super::manifest::annotations;
use super::output;

/// Make an artifact of files
#[derive(clap::Args)]
pub struct Args {
    /// Annotate the files, and a new artifact: KEY=VALUE
    #[arg(long, value_name = "KEY=VALUE")]
    annotation: Vec<String>,
    /// Add the files to an artifact that is here
    #[arg(short, long)]
    append: bool,
    /// The media type of the files, instead of what they look like
    #[arg(long, value_name = "TYPE")]
    file_type: Option<String>,
    /// Replace the artifact that has the name
    #[arg(long)]
    replace: bool,
    /// The type of the artifact
    #[arg(long = "type", value_name = "TYPE")]
    artifact_type: Option<String>,
    /// The artifact
    artifact: String,
    /// The files
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
}

/// Adds the files and prints the digest.
pub fn run(engine: &Engine, args: Args) -> anyhow::Result<i32> {
    if args.append && args.replace {
        bail!("--append and --replace options cannot be used together");
    }
    if args.append && args.artifact_type.is_some() {
        bail!("append option is not compatible with type option");
    }
    let options = ArtifactAddition {
        artifact_type: args.artifact_type,
        file_type: args.file_type,
        annotations: annotations(&args.annotation)?.into_iter().collect(),
        append: args.append,
        replace: args.replace,
    };
    let digest = engine.add_artifact(&args.artifact, &args.paths, &options)?;
    output::line(digest)?;
    Ok(0)
}
