//! Where a container's cgroup is: as `linux.cgroupsPath` says, or beside the caller's.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use kelp_runtime::cgroup::{Cgroup, Parent, may_enter};
use kelp_runtime::device_filter::DeviceFilter;
use kelp_runtime::resources::{self, Setting};
use kelp_systemd::{Manager, Scope};
use oci_spec::runtime::{LinuxResources, Spec};
use rustix::process::geteuid;

use crate::error::Error;
use crate::record::Record;
use crate::root::is_host_root;

/// The name of the container's cgroup in its scope.
const IN_SCOPE: &str = "container";

/// A cgroup, and the scope that it is in.
#[derive(Debug, Default)]
pub(crate) struct Place {
    pub(crate) cgroup: Option<Cgroup>,
    pub(crate) scope: Option<String>,
}

/// Makes the cgroup of a container, with its limits. `systemd` says that `cgroupsPath` is
/// `SLICE:PREFIX:NAME` (`--systemd-cgroup`).
pub(crate) fn make(id: &str, directory: &Path, spec: &Spec, systemd: bool) -> Result<Place, Error> {
    let linux = spec.linux().as_ref();
    let resources = linux.and_then(|linux| linux.resources().as_ref());
    let mut settings = resources.map_or(Ok(Vec::new()), resources::settings)?;
    settings.retain(|setting| !setting.is_usual());
    let filter = device_filter(resources)?;
    let path = linux.and_then(|linux| linux.cgroups_path().as_deref());
    let place = if systemd {
        in_scope(id, path, &settings)?
    } else {
        at_path(id, directory, path, &settings)?
    };
    let Some(filter) = filter else {
        return Ok(place);
    };
    let Some(cgroup) = &place.cgroup else {
        return Err(Error::Invalid(
            "linux.resources.devices can't be in force: there is no cgroup v2 for the container, \
             mount it or leave the rules out"
                .to_owned(),
        ));
    };
    filter.attach(cgroup).inspect_err(|_| cgroup.remove())?;
    Ok(place)
}

fn at_path(
    id: &str,
    directory: &Path,
    path: Option<&Path>,
    settings: &[Setting],
) -> Result<Place, Error> {
    let cgroup = match path.filter(|path| !path.as_os_str().is_empty()) {
        // An id is one below one state root only; its directory's number is one of the machine's.
        None => {
            let number = fs::metadata(directory).map_or(0, |metadata| metadata.ino());
            Cgroup::create(&Parent::Nearest, &format!("{id}.{number}"), settings)?
        }
        Some(path) => {
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .ok_or_else(|| {
                    Error::Invalid(format!("linux.cgroupsPath {}: no name", path.display()))
                })?;
            // A relative one is below the caller's own (runtime-spec, config-linux.md, "Cgroups Path").
            let own = path.is_relative().then(kelp_runtime::cgroup::own).flatten();
            let base = own.unwrap_or_else(|| "/".to_owned());
            let parent = Path::new(&base).join(path.parent().unwrap_or(Path::new("/")));
            Cgroup::create(&Parent::At(parent.display().to_string()), name, settings)?
        }
    };
    Ok(Place {
        cgroup,
        scope: None,
    })
}

/// What `resources` say about devices, where that can be in force. The kernel takes it from the machine's root
/// alone; in anybody else's container there are only devices that were that user's before, and it is left
/// out, as crun and runc do.
pub(crate) fn device_filter(
    resources: Option<&LinuxResources>,
) -> Result<Option<DeviceFilter>, Error> {
    let rules = resources.and_then(|resources| resources.devices().as_deref());
    let filter = DeviceFilter::new(rules.unwrap_or_default())?;
    Ok(filter.filter(|_| is_host_root()))
}

fn in_scope(id: &str, path: Option<&Path>, settings: &[Setting]) -> Result<Place, Error> {
    let text = path
        .map(|path| path.display().to_string())
        .unwrap_or_default();
    let (slice, name) = match *text.split(':').collect::<Vec<_>>() {
        [""] => (String::new(), format!("kelp-{id}.scope")),
        [slice, "", name] => (slice.to_owned(), format!("{name}.scope")),
        [slice, prefix, name] => (slice.to_owned(), format!("{prefix}-{name}.scope")),
        _ => {
            return Err(Error::Invalid(format!(
                "linux.cgroupsPath {text:?}: with --systemd-cgroup it is SLICE:PREFIX:NAME"
            )));
        }
    };
    let what = || format!("make the scope {name}");
    let failed = |source| Error::Systemd {
        what: what(),
        source,
    };
    let manager = manager().map_err(failed)?;
    let scope = Scope {
        name: &name,
        description: &format!("container {id}"),
        slice: &slice,
        pid: std::process::id(),
        stop_timeout: 10_000_000,
    };
    manager
        .start_scope(&scope)
        .and_then(kelp_systemd::Job::wait)
        .map_err(failed)?;
    let own = kelp_runtime::cgroup::own()
        .ok_or_else(|| Error::Invalid(format!("{}: there is no cgroup v2", what())))?;
    Ok(Place {
        cgroup: Cgroup::create(&Parent::At(own), IN_SCOPE, settings)?,
        scope: Some(name),
    })
}

/// The systemd that makes the caller's scopes: the user's, or for root the system's.
pub(crate) fn manager() -> Result<Manager, kelp_systemd::Error> {
    let session = std::env::var_os("XDG_RUNTIME_DIR").filter(|path| !path.is_empty());
    Manager::connect(&match session {
        _ if is_host_root() => PathBuf::from("/run"),
        Some(session) => session.into(),
        None => format!("/run/user/{}", geteuid().as_raw()).into(),
    })
}

/// The scope through which a process gets into a container's cgroup, where it has to be systemd that moves it: from
/// a session's cgroup there is no other way.
pub(crate) fn way_in(record: &Record) -> Option<&str> {
    let scope = record.scope.as_deref()?;
    (!may_enter(&record.cgroup)).then_some(scope)
}

/// Has systemd move a process into the container's cgroup in a scope.
pub(crate) fn attach(scope: &str, pid: u32) -> Result<(), Error> {
    manager()
        .and_then(|mut manager| manager.attach(scope, &format!("/{IN_SCOPE}"), pid))
        .map_err(|source| Error::Systemd {
            what: format!("enter {scope}"),
            source,
        })
}
