//! A bundle: a directory with `config.json` and the root file system (runtime-spec, bundle.md).

use std::fs;
use std::path::{Path, PathBuf};

use kelp_runtime::mount_plan::mappings;
use kelp_userns::IdMap;
use oci_spec::runtime::{LinuxNamespaceType, Mount, Spec};

use rustix::process::{getegid, geteuid};

use crate::error::Error;
use crate::lenient;
use crate::root::is_host_root;

/// A bundle that was read.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// Its directory, as an absolute path.
    pub(crate) directory: PathBuf,
    /// What `config.json` says, as it was read.
    pub(crate) text: Vec<u8>,
    /// The same.
    pub(crate) spec: Spec,
    /// What in it was passed over.
    pub(crate) notes: Vec<String>,
    /// The root, as an absolute path.
    pub(crate) rootfs: PathBuf,
}

impl Bundle {
    /// Reads a bundle, and refuses one that can't become a container.
    pub(crate) fn open(directory: &Path) -> Result<Self, Error> {
        let directory = fs::canonicalize(directory).map_err(Error::io(format!(
            "find the bundle {}",
            directory.display()
        )))?;
        let path = directory.join("config.json");
        let text = fs::read(&path).map_err(Error::io(format!("read {}", path.display())))?;
        let invalid = |why: String| Error::Invalid(format!("{}: {why}", path.display()));
        let (mut spec, notes) =
            lenient::parse::<Spec>(&text).map_err(|error| invalid(error.to_string()))?;
        check_version(spec.version()).map_err(invalid)?;
        spec.mounts_mut()
            .iter_mut()
            .flatten()
            .for_each(|mount| find_source(mount, &directory));
        let root = spec.root().as_ref();
        let root = root.ok_or_else(|| invalid("root is missing".to_owned()))?;
        let rootfs = directory.join(root.path());
        let what = || format!("find the root file system {}", rootfs.display());
        let metadata = fs::metadata(&rootfs).map_err(Error::io(what()))?;
        if !metadata.is_dir() {
            let rootfs = rootfs.display();
            let why = format!("the root file system {rootfs} is no directory");
            return Err(Error::Invalid(why));
        }
        Ok(Self {
            directory,
            text,
            spec,
            notes,
            rootfs,
        })
    }
}

/// What a bind shows "may be relative to the bundle" (runtime-spec, config.md, "Mounts").
fn find_source(mount: &mut Mount, bundle: &Path) {
    let options = mount.options().iter().flatten().map(String::as_str);
    let is_bind = options
        .chain(mount.typ().as_deref())
        .any(|it| matches!(it, "bind" | "rbind"));
    let source = mount
        .source()
        .as_ref()
        .filter(|path| is_bind && path.is_relative());
    if let Some(source) = source.map(|path| bundle.join(path)) {
        mount.set_source(Some(source));
    }
}

/// Takes every version that semver calls compatible with this one.
fn check_version(version: &str) -> Result<(), String> {
    let mut parts = version.split('.');
    let is_number = |part: &str| part.parse::<u32>().is_ok();
    let is_one = parts.next() == Some("1") && parts.next().is_some_and(is_number);
    if is_one && parts.next().is_some() {
        return Ok(());
    }
    let own = kelp_runtime::OCI_VERSION;
    Err(format!(
        "ociVersion {version:?}: this runtime knows 1.0 to {own}"
    ))
}

/// The path of the user namespace that is joined, or the map of the one that is made; neither where the
/// caller's is used.
pub(crate) fn user_namespace(spec: &Spec) -> Result<(Option<PathBuf>, Option<IdMap>), Error> {
    let Some(linux) = spec.linux() else {
        return Ok((None, None));
    };
    let mut namespaces = linux.namespaces().iter().flatten();
    let user = namespaces.find(|namespace| namespace.typ() == LinuxNamespaceType::User);
    let (uids, gids) = (
        mappings(linux.uid_mappings().as_ref()),
        mappings(linux.gid_mappings().as_ref()),
    );
    match user.map(|user| user.path().clone()) {
        None if uids.is_empty() && gids.is_empty() => Ok((None, None)),
        None => Err(Error::Invalid(
            "linux.uidMappings and gidMappings need a user namespace in linux.namespaces"
                .to_owned(),
        )),
        Some(Some(path)) => Ok((Some(path), None)),
        // As crun has it: whoever is not root becomes root, and has no other ids.
        Some(None) if uids.is_empty() && gids.is_empty() && !is_host_root() => {
            let map = IdMap::single(geteuid().as_raw(), getegid().as_raw());
            Ok((None, Some(map)))
        }
        Some(None) if uids.is_empty() || gids.is_empty() => Err(Error::Invalid(
            "a new user namespace needs linux.uidMappings and linux.gidMappings".to_owned(),
        )),
        Some(None) => Ok((None, Some(IdMap { uids, gids }))),
    }
}

#[cfg(test)]
mod tests {
    use super::check_version;

    #[test]
    fn versions_of_the_first_major_are_known() {
        for version in ["1.0.0", "1.0.2-dev", "1.3.0", "1.9.1+dev"] {
            check_version(version).unwrap();
        }
        for version in ["", "1", "1.0", "2.0.0", "0.9.0", "1.x.0", "10.0.0"] {
            check_version(version).unwrap_err();
        }
    }
}
