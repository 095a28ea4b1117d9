//! `kelp import`: an image from an archive of a root file system.

use std::path::PathBuf;

use anyhow::bail;
use kelp_args::Change;
use kelp_engine::Engine;
use kelp_engine::image::import::{ImportOptions, ImportSource};

use super::output;

/// Make an image from an archive of a root file system
#[derive(clap::Args)]
pub struct Args {
    /// Set the configuration by an instruction of a Dockerfile: CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK,
    /// LABEL, ONBUILD, SHELL, STOPSIGNAL, USER, VOLUME or WORKDIR
    #[arg(short, long = "change", value_name = "INSTRUCTION")]
    changes: Vec<Change>,
    /// A remark for the image's history
    #[arg(short, long)]
    message: Option<String>,
    /// The operating system, instead of the host's
    #[arg(long)]
    os: Option<String>,
    /// The architecture, instead of the host's
    #[arg(long)]
    arch: Option<String>,
    /// The variant of the architecture
    #[arg(long)]
    variant: Option<String>,
    /// Show nothing but the image's id
    #[arg(short, long)]
    quiet: bool,
    /// The policy that says which images are accepted, instead of the user's or the machine's
    #[arg(long, value_name = "FILE", hide = true)]
    signature_policy: Option<PathBuf>,
    /// A file, an http or https URL, or - for standard input; plain, or gzip, zstd, bzip2 or xz
    source: String,
    /// The image's name
    reference: Option<String>,
}

/// Runs it; the exit code.
pub fn run(engine: &Engine, args: Args) -> anyhow::Result<i32> {
    // Nothing but the id is shown anyway.
    let _ = args.quiet;
    let source = ImportSource::parse(&args.source);
    if source == ImportSource::Stdin && rustix::termios::isatty(rustix::stdio::stdin()) {
        bail!("an archive can't be read from a terminal: redirect standard input, or name a file");
    }
    let options = ImportOptions {
        name: args.reference,
        changes: args.changes,
        message: args.message,
        os: args.os,
        arch: args.arch,
        variant: args.variant,
        signature_policy: args.signature_policy,
    };
    let id = engine.import_image(&source, &options)?;
    output::line(format_args!("sha256:{id}"))?;
    Ok(0)
}
