//! Other containers whose namespaces are joined, or whose mounts are shown: which process that is, is
//! known when the program is started, and not before.

use std::path::PathBuf;

use kelp_runtime::mount_plan::OF;
use kelp_state::{Paths, Record, record};
use oci_spec::runtime::{LinuxNamespaceType, Spec};

use crate::error::Error;
use crate::protocol::FailureKind;

/// What a container's namespace has for its path, and a mount for its process, before it is looked up.
const OF_CONTAINER: &str = "container:";

/// The specification with the processes of the containers in it; `None` where it needs none.
pub(crate) fn resolve(paths: &Paths, spec: &Spec) -> Result<Option<Spec>, Error> {
    if !is_joined(spec) {
        return Ok(None);
    }
    let mut resolved = spec.clone();
    let linux = resolved.linux_mut().as_mut();
    let namespaces = linux.and_then(|linux| linux.namespaces_mut().as_mut());
    for namespace in namespaces.into_iter().flatten() {
        let path = namespace.path().as_ref().and_then(|path| path.to_str());
        if let Some(id) = path.and_then(|path| path.strip_prefix(OF_CONTAINER)) {
            let file = file_of(namespace.typ());
            let path = format!("/proc/{}/ns/{file}", process_of(paths, id)?);
            namespace.set_path(Some(PathBuf::from(path)));
        }
    }
    let mounts = resolved.mounts_mut().iter_mut().flatten();
    for option in mounts
        .filter_map(|mount| mount.options_mut().as_mut())
        .flatten()
    {
        let of = option.strip_prefix(OF);
        if let Some(id) = of.and_then(|of| of.strip_prefix(OF_CONTAINER)) {
            *option = format!("{OF}{}", process_of(paths, id)?);
        }
    }
    Ok(Some(resolved))
}

/// Whether anything is another container's; what is shown of one comes with a namespace of its.
fn is_joined(spec: &Spec) -> bool {
    let linux = spec.linux().as_ref();
    let namespaces = linux.and_then(|linux| linux.namespaces().as_ref());
    let mut paths = namespaces
        .into_iter()
        .flatten()
        .filter_map(|namespace| namespace.path().as_ref());
    paths.any(|path| {
        path.to_str()
            .is_some_and(|path| path.starts_with(OF_CONTAINER))
    })
}

/// The init of a container that runs.
fn process_of(paths: &Paths, id: &str) -> Result<u32, Error> {
    let id = id.parse().map_err(|_| Error::Failed {
        kind: FailureKind::Setup,
        text: format!("{id:?} is no container's id"),
    })?;
    let other = Record::new(paths, id);
    match other.run()? {
        Some(run) if other.is_alive() && record::start_time(run.pid) == Some(run.start_time) => {
            Ok(run.pid)
        }
        _ => Err(Error::Failed {
            kind: FailureKind::Setup,
            text: format!(
                "can only use a running container: {} is not running",
                other.id.short()
            ),
        }),
    }
}

/// A namespace's file in /proc/PID/ns (namespaces(7)).
fn file_of(kind: LinuxNamespaceType) -> &'static str {
    match kind {
        LinuxNamespaceType::Mount => "mnt",
        LinuxNamespaceType::Cgroup => "cgroup",
        LinuxNamespaceType::Uts => "uts",
        LinuxNamespaceType::Ipc => "ipc",
        LinuxNamespaceType::User => "user",
        LinuxNamespaceType::Pid => "pid",
        LinuxNamespaceType::Network => "net",
        LinuxNamespaceType::Time => "time",
    }
}
