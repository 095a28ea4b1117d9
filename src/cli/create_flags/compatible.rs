//! Flags of podman's of which some values ask kelp for what it does anyway, and others are not there yet.

use anyhow::bail;
use kelp_engine::container::config::{CreateOptions, Notify};

/// The flags.
#[derive(clap::Args, Debug)]
#[allow(
    clippy::struct_field_names,
    reason = "they are called what the command line calls them"
)]
pub struct CompatibleFlags {
    /// For docker's scripts: signatures are not what it is about
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    disable_content_trust: Option<bool>,
    /// Where the seccomp profile comes from: default
    #[arg(long, value_name = "POLICY")]
    seccomp_policy: Option<String>,
    /// Who tells systemd that the service is ready: conmon, once the container runs; container, its program; healthy,
    /// once a health check was passed; or ignore, nobody
    #[arg(long, value_name = "HOW")]
    sdnotify: Option<String>,
}

impl CompatibleFlags {
    /// Refuses what is not there yet.
    pub fn apply(&self, options: &mut CreateOptions) -> anyhow::Result<()> {
        match self.seccomp_policy.as_deref() {
            None | Some("default") => {}
            Some("image") => bail!("--seccomp-policy=image is not supported by kelp yet"),
            Some(value) => bail!("invalid --seccomp-policy {value:?}: use default or image"),
        }
        options.notify = match self.sdnotify.as_deref() {
            // What asks to be told is told by the program, if that knows how to.
            None => std::env::var_os("NOTIFY_SOCKET").map(|_| Notify::Container),
            Some("conmon") => Some(Notify::Conmon),
            Some("ignore") => Some(Notify::Ignore),
            Some("container") => Some(Notify::Container),
            Some("healthy") => Some(Notify::Healthy),
            Some(value) => {
                bail!("invalid --sdnotify {value:?}: use conmon or ignore or container or healthy")
            }
        };
        Ok(())
    }
}
