//! Flags of system containers.

use kelp_args::size;
use kelp_engine::container::CreateOptions;
use kelp_engine::container::config::Systemd;

/// The flags.
#[derive(clap::Args, Debug)]
pub struct SystemFlags {
    /// Set up what systemd needs as the program: true (if it is the program), always or false
    #[arg(long, value_name = "HOW", value_parser = systemd)]
    systemd: Option<Systemd>,
    /// The size of systemd's file systems at /run, /run/lock, /tmp and /var/log/journal; 0 for no limit
    #[arg(long, value_name = "SIZE", value_parser = size::bytes)]
    shm_size_systemd: Option<u64>,
}

impl SystemFlags {
    pub(super) fn apply(&self, options: &mut CreateOptions) {
        options.systemd = self.systemd.unwrap_or_default();
        options.system_tmpfs_size = self.shm_size_systemd;
    }
}

fn systemd(text: &str) -> Result<Systemd, String> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Ok(Systemd::IfInit),
        "always" => Ok(Systemd::Always),
        "false" => Ok(Systemd::Never),
        _ => Err("use true, false or always".to_owned()),
    }
}
