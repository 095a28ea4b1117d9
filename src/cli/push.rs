//! `kelp push`: an image to a registry, or into files.

use std::path::PathBuf;

use anyhow::{Context, bail};
use kelp_engine::Engine;
use kelp_engine::image::push::PushRequest;
use kelp_engine::image::trust::SignerOptions;

use super::create_flags::defaults;
use super::pull_flags::{AccessFlags, RetryFlags};
use super::sign_flags::SignFlags;

/// Push an image to a registry
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
    /// Push the index that the image came by, with all its images
    #[arg(long)]
    all: bool,
    /// Compress every layer with gzip, for dir:
    #[arg(long)]
    compress: bool,
    /// How layers are compressed: gzip or zstd; as they are, unless the image was made here
    #[arg(long, value_name = "FORMAT")]
    compression_format: Option<String>,
    /// How hard layers are compressed
    #[arg(long, value_name = "LEVEL", allow_negative_numbers = true)]
    compression_level: Option<i32>,
    /// For podman's scripts: a compression that is asked for is always what is sent
    #[arg(long)]
    force_compression: bool,
    /// Credentials for the registry: USER:PASSWORD
    #[arg(long, value_name = "USER:PASSWORD")]
    creds: Option<String>,
    /// Write the manifest's digest to a file
    #[arg(long, value_name = "FILE")]
    digestfile: Option<PathBuf>,
    /// For docker's scripts: signatures are not what it is about
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    disable_content_trust: Option<bool>,
    /// The form of the manifest: oci or v2s2; as it is otherwise
    #[arg(short, long)]
    format: Option<String>,
    /// Show nothing
    #[arg(short, long)]
    quiet: bool,
    /// For podman's scripts: none are sent unless they are made
    #[arg(long)]
    remove_signatures: bool,
    /// The image
    image: String,
    /// Where to: a name in a registry, or oci:, oci-archive:, docker-archive: or dir: and a path
    destination: Option<String>,
}

/// Pushes the image.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let conf = defaults::load()?;
    let mut request = PushRequest {
        access: args.access.request(),
        format: args.format.clone(),
        compression: args.compression_format.clone(),
        level: args.compression_level,
        quiet: args.quiet,
        signer: SignerOptions {
            sigstore_key: args.sign_by_sigstore_private_key.clone(),
            ..args.sign.signer()
        },
    };
    request.access.credentials.clone_from(&args.creds);
    args.retry.apply(&mut request.access, conf)?;
    let destination = args.destination.as_deref().unwrap_or_default();
    if args.compress && destination.starts_with("dir:") && request.compression.is_none() {
        request.compression = Some("gzip".to_owned());
    }
    if args.compression_level.is_some() && request.compression.is_none() {
        bail!("--compression-level needs --compression-format");
    }
    let destination = args.destination.as_deref();
    let digest = if args.all && !engine.list_exists(&args.image)? {
        engine.push_index_of(&args.image, destination, &request)?
    } else {
        engine.push_image(&args.image, destination, &request)?
    };
    if let Some(path) = &args.digestfile {
        std::fs::write(path, &digest).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(0)
}
