//! A bundle: a directory with `config.json` and the root file system (runtime-spec, bundle.md).

use std::fs;
use std::path::{Path, PathBuf};

use kelp_userns::{IdMap, IdMapping};
use oci_spec::runtime::{LinuxIdMapping, LinuxNamespaceType, Spec};

use crate::error::Error;

/// A bundle that was read.
#[derive(Debug)]
pub(crate) struct Bundle {
    /// Its directory, as an absolute path.
    pub(crate) directory: PathBuf,
    /// What `config.json` says.
    pub(crate) spec: Spec,
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
        let spec: Spec = serde_json::from_slice(&text)
            .map_err(|error| Error::Invalid(format!("{}: {error}", path.display())))?;
        let version = spec.version();
        if !version.starts_with("1.") {
            return Err(Error::Invalid(format!(
                "{}: ociVersion {version:?}: this runtime knows 1.0 to {}",
                path.display(),
                kelp_runtime::OCI_VERSION
            )));
        }
        let root = spec
            .root()
            .as_ref()
            .ok_or_else(|| Error::Invalid(format!("{}: root is missing", path.display())))?;
        let rootfs = directory.join(root.path());
        match fs::metadata(&rootfs) {
            Ok(metadata) if metadata.is_dir() => {}
            Ok(_) => {
                return Err(Error::Invalid(format!(
                    "the root file system {} is no directory",
                    rootfs.display()
                )));
            }
            Err(error) => {
                return Err(Error::io(format!(
                    "find the root file system {}",
                    rootfs.display()
                ))(error));
            }
        }
        Ok(Self {
            directory,
            spec,
            rootfs,
        })
    }
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
        side(linux.uid_mappings().as_ref()),
        side(linux.gid_mappings().as_ref()),
    );
    match user.map(|user| user.path().clone()) {
        None if uids.is_empty() && gids.is_empty() => Ok((None, None)),
        None => Err(Error::Invalid(
            "linux.uidMappings and gidMappings need a user namespace in linux.namespaces"
                .to_owned(),
        )),
        Some(Some(path)) => Ok((Some(path), None)),
        Some(None) if uids.is_empty() || gids.is_empty() => Err(Error::Invalid(
            "a new user namespace needs linux.uidMappings and linux.gidMappings".to_owned(),
        )),
        Some(None) => Ok((None, Some(IdMap { uids, gids }))),
    }
}

fn side(lines: Option<&Vec<LinuxIdMapping>>) -> Vec<IdMapping> {
    let lines = lines.into_iter().flatten();
    lines
        .map(|line| IdMapping {
            container: line.container_id(),
            host: line.host_id(),
            size: line.size(),
        })
        .collect()
}
