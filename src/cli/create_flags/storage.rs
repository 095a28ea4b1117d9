//! Flags about files: mounts, devices, the root.

use std::path::PathBuf;

use kelp_args::{mount, size};
use kelp_engine::container::CreateOptions;

use super::each;

/// The flags.
#[derive(clap::Args, Debug)]
pub struct StorageFlags {
    /// Mount a directory or a volume: [SOURCE:]TARGET[:OPTIONS]
    #[arg(short, long)]
    volume: Vec<String>,
    /// Mount something: type=bind|volume|tmpfs,…
    #[arg(long)]
    mount: Vec<String>,
    /// Mount a tmpfs: TARGET[:OPTIONS]
    #[arg(long)]
    tmpfs: Vec<String>,
    /// Give a device of the host
    #[arg(long, value_name = "DEVICE")]
    device: Vec<String>,
    /// Make the root read-only
    #[arg(long)]
    read_only: bool,
    /// Let /run, /tmp and /var/tmp be written where the root can't be
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    read_only_tmpfs: bool,
    /// The size of /dev/shm
    #[arg(long, value_name = "SIZE")]
    shm_size: Option<String>,
}

impl StorageFlags {
    pub(super) fn apply(&self, options: &mut CreateOptions) -> anyhow::Result<()> {
        let directory = std::env::current_dir()?.display().to_string();
        options.volumes = each(&self.volume, |text| mount::volume(text, &directory))?;
        options
            .volumes
            .extend(each(&self.mount, |text| mount::mount(text, &directory))?);
        options.volumes.extend(each(&self.tmpfs, mount::tmpfs)?);
        options.devices = each(&self.device, device)?;
        options.read_only = self.read_only;
        options.read_only_tmpfs = self.read_only_tmpfs;
        options.shm_size = match &self.shm_size {
            None => None,
            Some(text) => Some(size::bytes(text).map_err(anyhow::Error::msg)?),
        };
        Ok(())
    }
}

fn device(text: &str) -> Result<PathBuf, String> {
    let (source, rest) = text.split_once(':').unwrap_or((text, ""));
    if !source.starts_with("/dev/") {
        return Err(format!(
            "invalid device {text:?}: a device is a path below /dev"
        ));
    }
    match rest {
        "" | "rwm" | "rw" => Ok(PathBuf::from(source)),
        _ if rest == source
            || rest
                .strip_prefix(source)
                .is_some_and(|r| r.starts_with(':')) =>
        {
            Ok(PathBuf::from(source))
        }
        _ => Err(format!(
            "--device {text}: another name or fewer permissions inside are not supported by kelp yet"
        )),
    }
}
