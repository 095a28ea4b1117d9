//! `kelp push`: an image to a registry, or into files.

use kelp_engine::Engine;

use super::push_flags::PushFlags;
use super::sign_flags::PushSignFlags;

/// Push an image to a registry
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    push: PushFlags,
    #[command(flatten)]
    sign: PushSignFlags,
    /// Push the index that the image came by, with all its images
    #[arg(long)]
    all: bool,
    /// Compress every layer with gzip, for dir:
    #[arg(long)]
    compress: bool,
    /// For docker's scripts: signatures are not what it is about
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    disable_content_trust: Option<bool>,
    /// The image
    image: String,
    /// Where to: a name in a registry, or oci:, oci-archive:, docker-archive: or dir: and a path
    destination: Option<String>,
}

/// Pushes the image.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let destination = args.destination.as_deref();
    let is_dir = destination.is_some_and(|destination| destination.starts_with("dir:"));
    let mut request = args
        .push
        .request((args.compress && is_dir).then_some("gzip"))?;
    request.signer = args.sign.signer();
    let digest = if args.all && !engine.list_exists(&args.image)? {
        engine.push_index_of(&args.image, destination, &request)?
    } else {
        engine.push_image(&args.image, destination, &request)?
    };
    args.push.write_digest(&digest)?;
    Ok(0)
}
