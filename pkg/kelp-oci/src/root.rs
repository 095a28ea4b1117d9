//! The state root: where containers' directories are.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use crate::error::Error;
use crate::record::Container;

/// The name of the directory of compiled filters.
pub(crate) const SECCOMP: &str = ":seccomp";

/// A directory whose entries are containers.
#[derive(Clone, Debug)]
pub struct Root {
    path: PathBuf,
}

impl Root {
    /// `--root`, or the usual one: below $XDG_RUNTIME_DIR for an ordinary user, /run for root.
    pub fn open(given: Option<&Path>) -> Result<Self, Error> {
        let path = match given {
            Some(path) => {
                std::path::absolute(path).map_err(Error::io(format!("find {}", path.display())))?
            }
            None => usual(),
        };
        let what = || format!("make the state root {}", path.display());
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&path)
            .map_err(Error::io(what()))?;
        let metadata = fs::metadata(&path).map_err(Error::io(what()))?;
        if metadata.uid() != geteuid().as_raw() {
            return Err(Error::Invalid(format!(
                "the state root {} belongs to another user: choose one with --root",
                path.display()
            )));
        }
        // Whoever may write here could put another container in the place of one (CVE-2024-25621).
        if metadata.mode() & 0o022 != 0 {
            return Err(Error::Invalid(format!(
                "the state root {0} can be written to by others: chmod 700 {0}",
                path.display()
            )));
        }
        Ok(Self { path })
    }

    /// The directory of a container, which need not exist.
    pub(crate) fn directory(&self, id: &str) -> Result<PathBuf, Error> {
        check_id(id)?;
        Ok(self.path.join(id))
    }

    /// A container.
    pub fn container(&self, id: &str) -> Result<Container, Error> {
        Container::open(id, self.directory(id)?)
    }

    /// Where compiled seccomp filters are kept.
    pub(crate) fn seccomp_cache(&self) -> PathBuf {
        seccomp_cache(&self.path)
    }

    /// Every container, by id; one whose record can't be read is left out.
    pub fn containers(&self) -> Result<Vec<Container>, Error> {
        let entries = match fs::read_dir(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(Error::io(format!("read {}", self.path.display())))?,
        };
        let mut ids: Vec<_> = entries
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        ids.sort();
        Ok(ids
            .iter()
            .filter_map(|id| self.container(id).ok())
            .collect())
    }
}

/// Where compiled seccomp filters are kept below a state root: a name that no container can have.
pub(crate) fn seccomp_cache(root: &Path) -> PathBuf {
    root.join(SECCOMP)
}

fn usual() -> PathBuf {
    let session = std::env::var_os("XDG_RUNTIME_DIR").filter(|path| !path.is_empty());
    match session {
        _ if is_host_root() => PathBuf::from("/run/kelp-runtime"),
        Some(session) => Path::new(&session).join("kelp-runtime"),
        None => PathBuf::from(format!("/tmp/kelp-runtime-{}", geteuid().as_raw())),
    }
}

/// Whether the caller is the machine's root.
pub(crate) fn is_host_root() -> bool {
    geteuid().is_root() && !in_user_namespace()
}

/// Whether root is not the machine's.
fn in_user_namespace() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let fields: Vec<_> = map.split_ascii_whitespace().collect();
    fields != ["0", "0", "4294967295"]
}

/// As runc takes them: a name of a directory, and nothing that leads elsewhere.
fn check_id(id: &str) -> Result<(), Error> {
    let is_fine = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
    if id.is_empty() || id.len() > 1024 || matches!(id, "." | "..") || !id.chars().all(is_fine) {
        return Err(Error::Invalid(format!(
            "invalid container id {id:?}: letters, digits and _+-. make one"
        )));
    }
    Ok(())
}
