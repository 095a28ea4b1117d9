//! Flags about what is sent to a registry: of images and lists, and of artifacts, which leave as they are.

use std::path::PathBuf;

use anyhow::{Context, bail};
use kelp_engine::image::push::PushRequest;

use super::create_flags::defaults;
use super::pull_flags::{AccessFlags, RetryFlags};

/// How something is sent.
#[derive(clap::Args)]
pub struct SendFlags {
    #[command(flatten)]
    access: AccessFlags,
    #[command(flatten)]
    retry: RetryFlags,
    /// Credentials for the registry: USER:PASSWORD
    #[arg(long, value_name = "USER:PASSWORD")]
    creds: Option<String>,
    /// Write the digest to a file
    #[arg(long, value_name = "FILE")]
    digestfile: Option<PathBuf>,
    /// Show nothing
    #[arg(short, long)]
    quiet: bool,
}

impl SendFlags {
    /// The engine's request.
    pub fn request(&self) -> anyhow::Result<PushRequest> {
        let mut request = PushRequest {
            access: self.access.request(),
            quiet: self.quiet,
            ..PushRequest::default()
        };
        request.access.credentials.clone_from(&self.creds);
        self.retry.apply(&mut request.access, defaults::load()?)?;
        Ok(request)
    }

    /// Says what was sent, where that was asked for.
    pub fn write_digest(&self, digest: &str) -> anyhow::Result<()> {
        if let Some(path) = &self.digestfile {
            std::fs::write(path, digest).with_context(|| format!("write {}", path.display()))?;
        }
        Ok(())
    }
}

/// How an image is sent, or a list, and in what form.
#[derive(clap::Args)]
pub struct PushFlags {
    #[command(flatten)]
    send: SendFlags,
    /// How layers are compressed: gzip or zstd; as they are otherwise, but gzip where a single image was made here
    #[arg(long, value_name = "FORMAT")]
    compression_format: Option<String>,
    /// How hard layers are compressed
    #[arg(long, value_name = "LEVEL", allow_negative_numbers = true)]
    compression_level: Option<i32>,
    /// For podman's scripts: a compression that is asked for is always what is sent
    #[arg(long)]
    force_compression: bool,
    /// The form of manifests: oci or v2s2; as they are otherwise
    #[arg(short, long)]
    format: Option<String>,
    /// For podman's scripts: none are sent unless they are made
    #[arg(long)]
    remove_signatures: bool,
}

impl PushFlags {
    /// The engine's request; layers are compressed by `usual` where nothing is said.
    pub fn request(&self, usual: Option<&str>) -> anyhow::Result<PushRequest> {
        let compression = self.compression_format.as_deref().or(usual);
        if self.compression_level.is_some() && compression.is_none() {
            bail!("--compression-level needs --compression-format");
        }
        Ok(PushRequest {
            format: self.format.clone(),
            compression: compression.map(str::to_owned),
            level: self.compression_level,
            ..self.send.request()?
        })
    }

    /// Says what was sent, where that was asked for.
    pub fn write_digest(&self, digest: &str) -> anyhow::Result<()> {
        self.send.write_digest(digest)
    }
}
