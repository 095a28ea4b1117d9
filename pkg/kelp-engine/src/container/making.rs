//! A container's record while it is being made.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use kelp_state::{ContainerId, Record, name, record, trash};

use crate::{Engine, Error};

/// A container while it is being made; what there is of it goes if the making fails.
pub(crate) struct Making<'a> {
    engine: &'a Engine,
    record: &'a Record,
    /// Its name, once it is reserved.
    pub(super) name: Option<String>,
    /// The volumes that were made for it alone.
    pub(super) volumes: Vec<PathBuf>,
    /// The file that has its id.
    pub(super) cid_file: Option<PathBuf>,
    /// Says that somebody is at it; `None` once it is made.
    lock: Option<OwnedFd>,
}

impl<'a> Making<'a> {
    /// Makes the record's directory.
    pub(super) fn begin(engine: &'a Engine, record: &'a Record) -> Result<Self, Error> {
        let lock = begin(&record.data, &record.id)?;
        let made = Self {
            engine,
            record,
            name: None,
            volumes: Vec::new(),
            cid_file: None,
            lock: Some(lock),
        };
        for name in ["upper", "work"] {
            let path = record.data.join(name);
            // The upper directory is the container's root directory: others may enter it.
            fs::DirBuilder::new()
                .mode(0o755)
                .create(&path)
                .map_err(Error::io(format!("create {}", path.display())))?;
        }
        Ok(made)
    }

    /// It is made: the lock that its maker holds.
    pub(super) fn end(mut self) -> OwnedFd {
        self.lock.take().expect("only this, the end, takes it")
    }
}

/// Makes the directory of a container's or a pod's record; the lock of who makes it.
pub(crate) fn begin(directory: &Path, id: &ContainerId) -> Result<OwnedFd, Error> {
    let what = || format!("create {}", directory.display());
    let parent = directory.parent().unwrap_or(Path::new("/"));
    let unlocked = parent.join(format!(".{id}"));
    let mut attempts = 0;
    loop {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&unlocked)
            .map_err(Error::io(what()))?;
        // Under its own name only when it is locked: a collector that came first has it. One that
        // comes a hundred times is none: the file system has no locks or no renames.
        attempts += 1;
        let last = attempts >= 100;
        match record::making(&unlocked) {
            Ok(Some(lock)) => match fs::rename(&unlocked, directory) {
                Ok(()) => return Ok(lock),
                Err(error) if last => return Err(Error::io(what())(error)),
                Err(_) => {}
            },
            Err(error) if last => return Err(error.into()),
            Ok(None) => record::wait_until_unlocked(&unlocked),
            Err(_) => {}
        }
    }
}

impl Drop for Making<'_> {
    fn drop(&mut self) {
        if self.lock.is_none() {
            return;
        }
        // A copy of an image's files belongs to subordinate ids. What can't be deleted is garbage.
        let _ = self.engine.discard(self.record);
        if let Some(name) = &self.name {
            name::release(&self.engine.paths, name, &self.record.id);
        }
        if let Some(path) = &self.cid_file {
            let _ = fs::remove_file(path);
        }
        for volume in &self.volumes {
            // They are empty, and nobody else knows of them.
            if let Ok(place) = trash::put_volume(&self.engine.paths, volume) {
                let _ = trash::empty(&place);
            }
        }
    }
}
