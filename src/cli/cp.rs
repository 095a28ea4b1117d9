//! `kelp cp`: files into a container and out of it.

use std::ffi::OsString;

use kelp_engine::Engine;
use kelp_engine::container::copy::{CopyOptions, End};

/// Copy files or directories between a container and the host
#[derive(clap::Args)]
pub struct Args {
    /// Give what comes into a container to the container's user
    #[arg(short, long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    archive: Option<bool>,
    /// Let directories replace files and the other way round
    #[arg(long)]
    overwrite: bool,
    /// CONTAINER:PATH, a path of the host, or - for an archive on standard input
    #[arg(value_name = "SOURCE")]
    source: OsString,
    /// CONTAINER:PATH, a path of the host, or - for an archive on standard output
    #[arg(value_name = "DESTINATION")]
    destination: OsString,
}

/// Runs it; the exit code.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let options = CopyOptions {
        chown: args.archive.unwrap_or(true),
        overwrite: args.overwrite,
    };
    let (from, to) = (End::parse(&args.source), End::parse(&args.destination));
    if from.lacks_path() || to.lacks_path() {
        anyhow::bail!(
            "invalid arguments \"{}\", \"{}\": you must specify paths",
            args.source.to_string_lossy(),
            args.destination.to_string_lossy()
        );
    }
    engine.copy(&from, &to, options)?;
    Ok(0)
}
