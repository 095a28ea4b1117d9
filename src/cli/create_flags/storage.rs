//! Flags about files: mounts, devices, the root.

use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use anyhow::bail;
use kelp_args::mount::{Mount, Source};
use kelp_args::{Device, Secret, VolumesFrom, mount, size};
use kelp_engine::container::CreateOptions;
use kelp_engine::container::config::ImageVolumes;
use kelp_engine::devices;

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
    /// Mount the volumes of another container: CONTAINER[:ro|rw]
    #[arg(long, value_name = "CONTAINER")]
    volumes_from: Vec<VolumesFrom>,
    /// Give a secret, as a file in /run/secrets or as a variable:
    /// NAME[,type=mount|env][,target=TARGET][,uid=ID][,gid=ID][,mode=MODE]
    #[arg(long, value_name = "SECRET")]
    secret: Vec<Secret>,
    /// Directories inside where /etc/hosts and its like are mounted as well
    #[arg(long, value_name = "DIR", value_delimiter = ',')]
    chrootdirs: Vec<PathBuf>,
    /// What is mounted where the image has volumes: bind, tmpfs or ignore
    #[arg(long, value_name = "KIND", value_parser = image_volumes)]
    pub(super) image_volume: Option<ImageVolumes>,
    /// Give a device of the host
    #[arg(long, value_name = "DEVICE")]
    pub(super) device: Vec<Device>,
    /// Make the root read-only
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(super) read_only: Option<bool>,
    /// Let /run, /tmp and /var/tmp be written where the root can't be
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    read_only_tmpfs: bool,
    /// The size of /dev/shm
    #[arg(long, value_name = "SIZE")]
    pub(super) shm_size: Option<String>,
}

impl StorageFlags {
    pub(super) fn apply(&self, options: &mut CreateOptions) -> anyhow::Result<()> {
        let directory = working_directory();
        options.volumes = each(&self.volume, |text| mount::volume(text, &directory))?;
        options
            .volumes
            .extend(each(&self.mount, |text| mount::mount(text, &directory))?);
        options.volumes.extend(each(&self.tmpfs, mount::tmpfs)?);
        for device in &self.device {
            add_device(options, device)?;
        }
        options.volumes_from.clone_from(&self.volumes_from);
        options.secrets.clone_from(&self.secret);
        if let Some(path) = self.chrootdirs.iter().find(|path| !path.is_absolute()) {
            bail!("--chrootdirs {}: the path must be absolute", path.display());
        }
        options.chroot_directories.clone_from(&self.chrootdirs);
        options.image_volumes = self.image_volume.unwrap_or_default();
        options.read_only_tmpfs = self.read_only_tmpfs;
        options.shm_size = match &self.shm_size {
            None => None,
            Some(text) => Some(size::bytes(text).map_err(anyhow::Error::msg)?),
        };
        Ok(())
    }
}

/// What relative sources are relative to; empty where it is gone, which matters to them alone.
pub(super) fn working_directory() -> String {
    let directory = std::env::current_dir().unwrap_or_default();
    directory.display().to_string()
}

/// A device under its own name is one for the runtime; under another it is a bind mount.
pub(super) fn add_device(options: &mut CreateOptions, device: &Device) -> anyhow::Result<()> {
    let Device::Node {
        source,
        target,
        permissions,
    } = device
    else {
        bail!("--device with a CDI name is not supported by kelp yet");
    };
    let shown = source.display();
    if !(permissions.read && permissions.write) {
        bail!(
            "--device {shown}: fewer permissions than rw need the devices controller, which only \
             root has"
        );
    }
    let Ok(metadata) = source.metadata() else {
        bail!("--device {shown}: no such device on the host");
    };
    if metadata.is_dir() {
        let found = devices::below(source);
        if found.is_empty() {
            bail!("--device {shown}: no device is in the directory");
        }
        for device in found {
            let inside = device.strip_prefix(source)?;
            add_node(options, &device, &target.join(inside));
        }
        return Ok(());
    }
    if !metadata.file_type().is_char_device() && !metadata.file_type().is_block_device() {
        bail!("--device {shown}: not a device");
    }
    add_node(options, source, target);
    Ok(())
}

fn add_node(options: &mut CreateOptions, source: &Path, target: &Path) {
    if source == target {
        options.devices.push(source.to_owned());
        return;
    }
    let mut mount = Mount::new(
        Source::Bind(source.display().to_string()),
        target.display().to_string(),
    );
    mount.options = ["bind", "nosuid", "noexec"].map(str::to_owned).to_vec();
    options.volumes.push(mount);
}

pub(super) fn image_volumes(text: &str) -> Result<ImageVolumes, String> {
    match text {
        // Podman's old and new word for a volume without a name.
        "bind" | "anonymous" => Ok(ImageVolumes::Anonymous),
        "tmpfs" => Ok(ImageVolumes::Tmpfs),
        "ignore" => Ok(ImageVolumes::Ignore),
        _ => Err(format!(
            "invalid image volume {text:?}: use bind, tmpfs or ignore"
        )),
    }
}
