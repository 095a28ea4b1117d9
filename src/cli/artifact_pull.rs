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

impl Args {
    /// Whether the flags can be meant, as far as that is known before anything is done.
    pub fn check(&self) -> anyhow::Result<()> {
        Ok(self.request()?.access.check()?)
    }

    fn request(&self) -> anyhow::Result<ArtifactPullRequest> {
        let mut request = ArtifactPullRequest {
            access: self.access.request(),
            quiet: self.quiet,
        };
        request.access.credentials.clone_from(&self.creds);
        request
            .access
            .signature_policy
            .clone_from(&self.signature_policy);
        self.retry.apply(&mut request.access, defaults::load()?)?;
        Ok(request)
    }
}

/// Pulls it and prints its digest.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let request = args.request()?;
    output::line(engine.pull_artifact(&args.artifact, &request)?)?;
    Ok(0)
}
