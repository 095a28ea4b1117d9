//! Network interfaces for a container, and back where it does not come to be.

use kelp_runtime::net_devices::{self, Moved, NetDevice};
use oci_spec::runtime::Spec;
use rustix::process::geteuid;

use crate::error::Error;

/// What `linux.netDevices` asks for; only root gets it.
pub(crate) fn planned(spec: &Spec) -> Result<Vec<NetDevice>, Error> {
    let linux = spec.linux().as_ref();
    let devices = linux.map_or(Ok(Vec::new()), net_devices::planned)?;
    if !devices.is_empty() && !geteuid().is_root() {
        return Err(Error::Invalid(
            "linux.netDevices: only root may move network interfaces: leave it out, or run as root"
                .to_owned(),
        ));
    }
    Ok(devices)
}

/// Moves them to the namespace of a process. `moved` is told of each that has moved, also if another one can't.
pub(crate) fn take(
    devices: &[NetDevice],
    pid: i32,
    moved: &mut Option<Moved>,
) -> Result<(), Error> {
    if devices.is_empty() {
        return Ok(());
    }
    Ok(moved.insert(Moved::new(pid)?).take(devices)?)
}

/// Puts them back; why the container does not come to be, and what else went wrong with that.
pub(crate) fn put_back(moved: Option<Moved>, error: Error) -> Error {
    let lines = moved.map(Moved::put_back).unwrap_or_default();
    if lines.is_empty() {
        return error;
    }
    Error::State(format!("{}; {}", error.line(), lines.join("; ")))
}
