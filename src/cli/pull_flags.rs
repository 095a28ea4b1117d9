//! Flags about registries that several commands share.

use std::path::PathBuf;
use std::time::Duration;

use kelp_config::Conf;
use kelp_engine::image::pull::PullRequest;
use kelp_engine::image::registry::AccessRequest;
use kelp_format::units;

/// How a registry is reached.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct AccessFlags {
    /// Require HTTPS and verify certificates
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    pub tls_verify: Option<bool>,
    /// A directory with certificates for the registry
    #[arg(long, value_name = "DIR")]
    pub cert_dir: Option<PathBuf>,
    /// The file with credentials
    #[arg(long, env = "REGISTRY_AUTH_FILE", value_name = "FILE")]
    pub authfile: Option<PathBuf>,
}

/// How often what failed is tried again.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct RetryFlags {
    /// How often to try again what failed
    #[arg(long, value_name = "NUMBER")]
    retry: Option<u32>,
    /// How long to wait before, such as 2s
    #[arg(long, value_name = "SPAN", value_parser = span)]
    retry_delay: Option<Duration>,
}

impl RetryFlags {
    /// Adds them to a request.
    pub fn apply(&self, request: &mut AccessRequest, conf: &Conf) -> anyhow::Result<()> {
        request.retries = self.retry;
        if let (None, Some(retry)) = (self.retry, conf.number("engine", "retry")) {
            request.retries = Some(retry.read(|retry| u32::try_from(*retry))?);
        }
        request.retry_delay = self.retry_delay;
        if let (None, Some(delay)) = (self.retry_delay, conf.text("engine", "retry_delay")) {
            request.retry_delay = Some(delay.read(|delay| span(delay))?);
        }
        let transport = conf.text("engine", "image_default_transport");
        if let Some(transport) = transport.filter(|transport| transport.value != "docker://") {
            let said = format!(
                "a name without a transport is one in a registry, and not of {}",
                transport.value
            );
            transport.read(|_| Err::<(), _>(said))?;
        }
        Ok(())
    }
}

/// How many bytes all images may take after a pull, as kelp.conf says.
pub fn keep_storage(conf: &Conf) -> anyhow::Result<Option<u64>> {
    let limit = conf.text("engine", "keep_storage");
    let limit = limit.map(|limit| limit.read(|limit| kelp_args::size::decimal(limit)));
    Ok(limit.transpose()?)
}

fn span(text: &str) -> Result<Duration, String> {
    let span = units::parse_span(text).filter(|_| !text.starts_with('-'));
    span.ok_or_else(|| format!("invalid span {text:?}: use 500ms, 2s or 1m30s"))
}

/// Which image of an index is meant.
#[derive(clap::Args, Clone, Debug, Default)]
pub struct PlatformFlags {
    /// The image for this platform: OS/ARCH[/VARIANT]
    #[arg(long)]
    pub platform: Option<String>,
    /// The image for this architecture
    #[arg(long)]
    pub arch: Option<String>,
    /// The image for this operating system
    #[arg(long)]
    pub os: Option<String>,
    /// The image for this variant of the architecture
    #[arg(long)]
    pub variant: Option<String>,
}

impl AccessFlags {
    /// The engine's request.
    pub fn request(&self) -> AccessRequest {
        AccessRequest {
            tls_verify: self.tls_verify,
            cert_dir: self.cert_dir.clone(),
            authfile: self.authfile.clone(),
            ..AccessRequest::default()
        }
    }
}

impl PlatformFlags {
    /// Adds the platform to a request.
    pub fn apply(&self, request: &mut PullRequest) {
        request.platform.clone_from(&self.platform);
        request.arch.clone_from(&self.arch);
        request.os.clone_from(&self.os);
        request.variant.clone_from(&self.variant);
    }
}
