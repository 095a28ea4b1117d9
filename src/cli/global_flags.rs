//! Flags before the command, in podman's names.

use kelp_engine::Engine;
use kelp_engine::container::config::CgroupMode;
use kelp_engine::storage::Storage;

use super::create_flags::defaults;
use super::output;
use super::runtime_flags::RuntimeFlags;

/// The flags.
#[derive(clap::Args)]
pub struct GlobalFlags {
    /// Who makes cgroups: systemd or cgroupfs
    #[arg(long, value_name = "MANAGER")]
    cgroup_manager: Option<CgroupManager>,
    /// From debug on, what has no effect is told too (seccomp profiles); there is no log besides
    #[arg(long, value_name = "LEVEL", ignore_case = true)]
    log_level: Option<LogLevel>,
    /// How root file systems are made: overlay, or vfs (a copy); also $STORAGE_DRIVER
    #[arg(long, value_name = "DRIVER")]
    storage_driver: Option<StorageDriver>,
    #[command(flatten)]
    pub runtime: RuntimeFlags,
    /// Print the version
    #[arg(short, short_alias = 'V', long, action = clap::ArgAction::Version)]
    version: Option<bool>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum CgroupManager {
    Systemd,
    Cgroupfs,
}

/// podman's levels.
#[derive(Clone, Copy, clap::ValueEnum)]
enum LogLevel {
    Trace,
    Debug,
    Info,
    #[value(alias = "warning")]
    Warn,
    Error,
    Fatal,
    Panic,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum StorageDriver {
    Overlay,
    Vfs,
}

impl GlobalFlags {
    /// What they and the environment say of the engine.
    pub fn apply(&self, engine: &mut Engine) -> anyhow::Result<()> {
        let _ = self.version;
        if let Some(LogLevel::Trace | LogLevel::Debug) = self.log_level {
            engine.tell = Some(|note| output::note(note));
        }
        engine.storage = storage(self.storage_driver)?;
        engine.additional_stores = Some(defaults::additional_stores);
        engine.cgroup_mode = match self.cgroup_manager {
            None => CgroupMode::Enabled,
            Some(CgroupManager::Systemd) => CgroupMode::Systemd,
            Some(CgroupManager::Cgroupfs) => CgroupMode::Cgroupfs,
        };
        Ok(())
    }
}

/// The flag, else the environment.
fn storage(flag: Option<StorageDriver>) -> anyhow::Result<Option<Storage>> {
    let driver = match (flag, std::env::var_os("STORAGE_DRIVER")) {
        (Some(driver), _) => Some(driver),
        (None, None) => None,
        (None, Some(name)) if name.is_empty() => None,
        (None, Some(name)) => {
            let driver = name
                .to_str()
                .and_then(|name| <StorageDriver as clap::ValueEnum>::from_str(name, false).ok());
            let Some(driver) = driver else {
                anyhow::bail!(
                    "STORAGE_DRIVER={}: no such storage driver: overlay, vfs",
                    name.display()
                );
            };
            Some(driver)
        }
    };
    Ok(driver.map(|driver| match driver {
        StorageDriver::Overlay => Storage::Overlay,
        StorageDriver::Vfs => Storage::Vfs,
    }))
}
