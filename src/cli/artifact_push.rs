//! `kelp artifact push`: an artifact to the registry of its name.

use kelp_engine::Engine;

use super::push_flags::SendFlags;
use super::sign_flags::PushSignFlags;

/// Push an artifact to the registry of its name
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    send: SendFlags,
    #[command(flatten)]
    sign: PushSignFlags,
    /// The artifact
    artifact: String,
}

/// Pushes it.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let mut request = args.send.request()?;
    request.signer = args.sign.signer();
    let digest = engine.push_artifact(&args.artifact, &request)?;
    args.send.write_digest(&digest)?;
    Ok(0)
}
