//! `--sdnotify`: what a container is made with so that its program, or its health, tells the service manager that
//! it is ready.

use std::fs;
use std::path::Path;

use kelp_monitor::health::HealthConfig;
use kelp_monitor::notify::Notify;
use kelp_monitor::notify::proxy::{DIRECTORY, NAME, PLACE};
use oci_spec::runtime::{Mount, Spec};

use crate::Error;

/// Sets up what this way of telling needs, in a record.
pub(super) fn prepare(
    notify: Option<Notify>,
    health: Option<&HealthConfig>,
    spec: &mut Spec,
    record: &Path,
) -> Result<(), Error> {
    match notify {
        Some(Notify::Healthy) if health.is_none() => Err(Error::invalid(
            "--sdnotify=healthy needs a health check: the image has none, and --health-cmd is not given",
        )),
        Some(Notify::Container) => give_socket(spec, record),
        Some(Notify::Conmon | Notify::Ignore | Notify::Healthy) | None => Ok(()),
    }
}

/// Mounts the directory in which the monitor binds a socket, and tells the program where that is.
fn give_socket(spec: &mut Spec, record: &Path) -> Result<(), Error> {
    let directory = record.join(DIRECTORY);
    fs::create_dir(&directory).map_err(Error::io(format!("create {}", directory.display())))?;
    let mut mount = Mount::default();
    mount.set_destination(PLACE.into());
    mount.set_typ(Some("bind".to_owned()));
    mount.set_source(Some(directory));
    let options = ["bind", "ro", "nosuid", "nodev", "noexec"];
    mount.set_options(Some(options.map(str::to_owned).to_vec()));
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    mounts.push(mount);
    spec.set_mounts(Some(mounts));
    if let Some(process) = spec.process_mut() {
        let mut env = process.env().clone().unwrap_or_default();
        env.retain(|entry| !entry.starts_with("NOTIFY_SOCKET="));
        env.push(format!("NOTIFY_SOCKET={PLACE}/{NAME}"));
        process.set_env(Some(env));
    }
    Ok(())
}
