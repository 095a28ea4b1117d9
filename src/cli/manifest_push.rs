//! `kelp manifest push`: a list to a registry.

use std::path::PathBuf;

use anyhow::Context;
use kelp_engine::Engine;
use kelp_engine::image::push::PushRequest;

use super::create_flags::defaults;
use super::pull_flags::{AccessFlags, RetryFlags};

/// Push a manifest list to a registry
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    access: AccessFlags,
    #[command(flatten)]
    retry: RetryFlags,
    /// Push the images of the list as well
    #[arg(long, num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true", value_name = "BOOL", action = clap::ArgAction::Set)]
    all: bool,
    /// How layers are compressed: gzip or zstd; as they are otherwise
    #[arg(long, value_name = "FORMAT")]
    compression_format: Option<String>,
    /// How hard layers are compressed
    #[arg(
        long,
        value_name = "LEVEL",
        allow_negative_numbers = true,
        requires = "compression_format"
    )]
    compression_level: Option<i32>,
    /// Credentials for the registry: USER:PASSWORD
    #[arg(long, value_name = "USER:PASSWORD")]
    creds: Option<String>,
    /// Write the digest to a file
    #[arg(long, value_name = "FILE")]
    digestfile: Option<PathBuf>,
    /// The form of the manifests: oci or v2s2; as they are otherwise
    #[arg(short, long)]
    format: Option<String>,
    /// Show nothing
    #[arg(short, long)]
    quiet: bool,
    /// For podman's scripts: none are sent unless they are made
    #[arg(long)]
    remove_signatures: bool,
    /// Remove the list once it is pushed
    #[arg(long)]
    rm: bool,
    /// The list
    list: String,
    /// Where to: a name in a registry
    destination: Option<String>,
}

/// Pushes the list.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let _ = args.remove_signatures;
    let mut request = PushRequest {
        access: args.access.request(),
        format: args.format.clone(),
        compression: args.compression_format.clone(),
        level: args.compression_level,
        quiet: args.quiet,
        ..PushRequest::default()
    };
    request.access.credentials.clone_from(&args.creds);
    args.retry.apply(&mut request.access, defaults::load()?)?;
    let destination = args.destination.as_deref();
    let digest = engine.push_list(&args.list, destination, args.all, &request)?;
    if let Some(path) = &args.digestfile {
        std::fs::write(path, &digest).with_context(|| format!("write {}", path.display()))?;
    }
    if args.rm {
        engine.remove_list(&args.list, false)?;
    }
    Ok(0)
}
