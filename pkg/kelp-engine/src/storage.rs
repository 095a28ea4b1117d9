//! How a container gets its root file system: by an overlay of the image's layers, or as a copy of
//! what they show.
//!
//! The overlay is what is wanted. It can't be had where the kernel lets no ordinary user mount one, or
//! where the data directory is on a file system that can't be its upper directory: NFS, eCryptfs, or
//! another overlay, as in a container. The only way to know is to try, which takes milliseconds; that
//! it worked is remembered in the runtime directory, for one file system, until the next boot.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use kelp_userns::IdMap;

use crate::container::config::UserMode;
use crate::doctor_overlay::Verdict;
use crate::{Engine, Error, Kind, doctor_overlay, host, internal};

/// How root file systems are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Storage {
    /// By overlayfs.
    Overlay,
    /// By copying.
    Vfs,
}

impl Storage {
    /// The name that podman and docker have for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Overlay => "overlay",
            Self::Vfs => "vfs",
        }
    }
}

impl Engine {
    /// How root file systems are made here: as was asked for, else by what the host can do.
    pub fn storage(&self) -> Result<Storage, Error> {
        if let Some(asked) = self.storage {
            return Ok(asked);
        }
        let known = self.paths.runtime.join("overlay");
        let metadata = fs::metadata(&self.paths.data)
            .map_err(Error::io(format!("look at {}", self.paths.data.display())))?;
        // An inode's number alone or a device's is another file system's after a mount.
        let device = format!("{}:{}", metadata.dev(), metadata.ino());
        if fs::read_link(&known).is_ok_and(|target| target == Path::new(&device)) {
            return Ok(Storage::Overlay);
        }
        let userns = self.user_namespace(host::id_map(&UserMode::Host)?)?;
        if let Verdict::Refused(_) = doctor_overlay::probe(self, &userns)? {
            // To ask again costs little beside a copy, and a module may have been loaded.
            return Ok(Storage::Vfs);
        }
        // What is not remembered is asked for again.
        let _ = fs::remove_file(&known);
        let _ = symlink(&device, &known);
        Ok(Storage::Overlay)
    }

    /// Copies what layers show, topmost first, to an empty directory; all for containers with this
    /// map.
    pub(crate) fn populate(
        &self,
        map: &IdMap,
        layers: &[PathBuf],
        target: &Path,
        synced: bool,
    ) -> Result<(), Error> {
        let (usual, ids) = host::translation(map)?;
        let root = ids.map_or(Some((0, 0)), |ids| ids.host_uid(0).zip(ids.host_gid(0)));
        let userns = self.user_namespace(usual)?;
        let mut role = vec!["populate".to_owned()];
        role.extend(kelp_image::populate::arguments(
            target,
            root.unwrap_or_default(),
            synced,
            layers,
        ));
        let words: Vec<_> = role.iter().map(String::as_str).collect();
        let (exit, said) = internal::run_role_said(&words, &userns)?;
        if exit.code() == 0 {
            return Ok(());
        }
        let why = match String::from_utf8_lossy(&said) {
            text if text.is_empty() => "it was killed".into(),
            text => text,
        };
        Err(Error::new(
            Kind::Failed,
            format!("copy the image's files for the container: {why}"),
        ))
    }
}
