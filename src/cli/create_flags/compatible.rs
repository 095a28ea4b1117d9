//! Flags of podman's that ask kelp for what it does anyway, and for nothing else.

use anyhow::bail;

/// The flags.
#[derive(clap::Args, Debug)]
#[allow(
    clippy::struct_field_names,
    reason = "they are called what the command line calls them"
)]
pub struct CompatibleFlags {
    /// Run no health checks: none are run
    #[arg(long)]
    no_healthcheck: bool,
    /// For docker's scripts: signatures are not what it is about
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    disable_content_trust: Option<bool>,
    /// Where the seccomp profile comes from: default
    #[arg(long, value_name = "POLICY")]
    seccomp_policy: Option<String>,
    /// How the start is told to systemd: ignore
    #[arg(long, value_name = "HOW")]
    sdnotify: Option<String>,
}

impl CompatibleFlags {
    /// Refuses what is not there yet.
    pub fn check(&self) -> anyhow::Result<()> {
        for (flag, value, accepted, others) in [
            (
                "--seccomp-policy",
                &self.seccomp_policy,
                "default",
                &["image"][..],
            ),
            (
                "--sdnotify",
                &self.sdnotify,
                "ignore",
                &["container", "conmon", "healthy"],
            ),
        ] {
            match value.as_deref() {
                None => {}
                Some(value) if value == accepted => {}
                Some(value) if others.contains(&value) => {
                    bail!("{flag}={value} is not supported by kelp yet")
                }
                Some(value) => bail!(
                    "invalid {flag} {value:?}: use {accepted} or {}",
                    others.join(" or ")
                ),
            }
        }
        Ok(())
    }
}
