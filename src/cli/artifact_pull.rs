//! `kelp artifact pull`: an artifact from a registry.

use std::path::PathBuf;

use kelp_engine::Engine;
use kelp_engine::artifact::ArtifactPullRequest;

use super::create_flags::defaults;
use super::output;
use super::pull_flags::{AccessFlags, RetryFlags};

/// Pull an artifact from a registry
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    access: AccessFlags,
    #[command(flatten)]
    retry: RetryFlags,
    /// Credentials for the registry: USER:PASSWORD
    #[arg(long, value_name = "USER:PASSWORD")]
    creds: Option<String>,
    /// Show nothing but the artifact's digest
    #[arg(short, long)]
    quiet: bool,
    /// The policy that says which artifacts are accepted, instead of the user's or the machine's
    #[arg(long, value_name = "FILE", hide = true)]
    signature_policy: Option<PathBuf>,
    /// The artifact
    artifact: String,
}

/// Pulls it and prints its digest.
pub fn run(engine: &Engine, args: Args) -> anyhow::Result<i32> {
    let mut request = ArtifactPullRequest {
        access: args.access.request(),
        quiet: args.quiet,
    };
    request.access.credentials = args.creds;
    request.access.signature_policy = args.signature_policy;
    args.retry.apply(&mut request.access, defaults::load()?)?;
    output::line(engine.pull_artifact(&args.artifact, &request)?)?;
    Ok(0)
}
