//! `kelp artifact push`: an artifact to the registry of its name.

use std::path::PathBuf;

use anyhow::Context;
use kelp_engine::Engine;
use kelp_engine::image::push::PushRequest;
use kelp_engine::image::trust::SignerOptions;

use super::create_flags::defaults;
use super::pull_flags::{AccessFlags, RetryFlags};
use super::sign_flags::SignFlags;

/// Push an artifact to the registry of its name
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    access: AccessFlags,
    #[command(flatten)]
    retry: RetryFlags,
    #[command(flatten)]
    sign: SignFlags,
    /// Sign with this sigstore private key, and keep the signature in the repository
    #[arg(long, value_name = "FILE")]
    sign_by_sigstore_private_key: Option<PathBuf>,
    /// For podman's scripts: what is here may always leave
    #[arg(long, value_name = "FILE", hide = true)]
    signature_policy: Option<PathBuf>,
    /// Credentials for the registry: USER:PASSWORD
    #[arg(long, value_name = "USER:PASSWORD")]
    creds: Option<String>,
    /// Write the digest to a file
    #[arg(long, value_name = "FILE")]
    digestfile: Option<PathBuf>,
    /// Show nothing
    #[arg(short, long)]
    quiet: bool,
    /// The artifact
    artifact: String,
}

/// Pushes it.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let _ = &args.signature_policy;
    let mut request = PushRequest {
        access: args.access.request(),
        quiet: args.quiet,
        signer: SignerOptions {
            sigstore_key: args.sign_by_sigstore_private_key.clone(),
            ..args.sign.signer()
        },
        ..PushRequest::default()
    };
    request.access.credentials.clone_from(&args.creds);
    args.retry.apply(&mut request.access, defaults::load()?)?;
    let digest = engine.push_artifact(&args.artifact, &request)?;
    if let Some(path) = &args.digestfile {
        std::fs::write(path, digest).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(0)
}
