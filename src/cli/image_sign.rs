//! `kelp image sign`: simple signatures for what a registry has.

use std::path::PathBuf;

use kelp_engine::Engine;
use kelp_engine::image::trust::SignRequest;

use super::create_flags::defaults;
use super::pull_flags::{AccessFlags, RetryFlags};
use super::sign_flags::SignFlags;

/// Sign images of a registry
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    access: AccessFlags,
    #[command(flatten)]
    retry: RetryFlags,
    #[command(flatten)]
    sign: SignFlags,
    /// Sign every image of a multi-architecture one, which is what pulls look at
    #[arg(short, long)]
    all: bool,
    /// Where signatures are kept, instead of where registries.d says
    #[arg(short, long, value_name = "DIR")]
    directory: Option<PathBuf>,
    /// The images, by their names in their registries
    #[arg(required = true)]
    images: Vec<String>,
}

/// Signs each.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let mut request = SignRequest {
        access: args.access.request(),
        signer: args.sign.signer(),
        all: args.all,
        directory: args.directory.clone(),
    };
    args.retry.apply(&mut request.access, defaults::load()?)?;
    for image in &args.images {
        engine.sign_image(image, &request)?;
    }
    Ok(0)
}
