//! Deleting what large images had after the answer, and waiting for it where that matters.
//!
//! An image is gone once its record is, which takes milliseconds and is brought to the disk; to free its pages
//! and blocks takes as long as the disk needs to discard them. Of a large image a process of its own does that,
//! which holds [`Removers`] meanwhile. Whoever brings an image where little space is left waits for it, and so
//! does whoever prunes; if it is killed, the next prune goes on.

use std::fs::Metadata;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use kelp_image::store::Store;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, open, statvfs};
use rustix::io::Errno;

use crate::container::config::UserMode;
use crate::{Engine, Error, host, internal};

/// Bytes of blobs from which on an image is large: the whole removal of a smaller one takes less than half a
/// second.
const LARGE: u64 = 128 << 20;

/// Bytes of free space below which an addition waits for what is being deleted.
const LITTLE: u64 = 4 << 30;

/// The lock that every process holds which deletes after the answer: a flock(2) on the store's `tmp`.
struct Removers(OwnedFd);

impl Removers {
    fn open(data: &Path) -> Result<Self, Error> {
        let path = data.join("tmp");
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match open(&path, flags, Mode::empty()) {
            Ok(lock) => Ok(Self(lock)),
            Err(error) => Err(Error::io(format!("open {}", path.display()))(error)),
        }
    }

    fn lock(&self, operation: FlockOperation) -> Result<(), Errno> {
        loop {
            match flock(&self.0, operation) {
                Err(Errno::INTR) => {}
                result => return result,
            }
        }
    }
}

impl Engine {
    /// Deletes what a removal of an image has left; of a large one after this has returned.
    pub(crate) fn remove_image_trees(&self, trees: &[PathBuf]) -> Result<(), Error> {
        let files = trees.iter().filter_map(|path| path.symlink_metadata().ok());
        let size: u64 = files.filter(Metadata::is_file).map(|file| file.len()).sum();
        if size >= LARGE && self.remove_afterwards(trees).is_ok() {
            return Ok(());
        }
        self.remove_trees(trees)
    }

    fn remove_afterwards(&self, trees: &[PathBuf]) -> Result<(), Error> {
        let removers = Removers::open(&self.paths.data)?;
        removers
            .lock(FlockOperation::LockShared)
            .map_err(Error::io("lock the store's temporary files"))?;
        let null = open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
            .map_err(Error::io("open /dev/null"))?;
        let userns = self.user_namespace(host::id_map(&UserMode::Host)?)?;
        let paths: Vec<_> = trees.iter().map(|path| path.to_string_lossy()).collect();
        let mut words = vec!["remove"];
        words.extend(paths.iter().map(AsRef::as_ref));
        // Nobody who reads what this process says waits for the other.
        let mut fds: internal::Fds = (0..3).map(|number| (null.as_fd(), number)).collect();
        fds.push((removers.0.as_fd(), 3));
        internal::spawn(&words, &userns, fds).map(drop)
    }

    /// Gets ready for an addition: takes away what killed ones have left, and where there is little space waits
    /// for what is being deleted.
    pub(crate) fn prepare_space(&self, store: &Store) -> Result<(), Error> {
        let free = |path| {
            let found = statvfs(path).ok()?;
            Some(found.f_bavail.saturating_mul(found.f_frsize))
        };
        let has_little = free(&self.paths.data).is_some_and(|free| free < LITTLE);
        if has_little {
            self.await_removers();
        } else if self.has_remover() {
            // What it deletes looks abandoned, and a tree that two delete takes the second one as long.
            return Ok(());
        }
        // What cannot be removed is no reason not to make an image.
        let _ = self.remove_trees(&store.abandoned()?);
        Ok(())
    }

    /// Whether something is being deleted after an answer.
    fn has_remover(&self) -> bool {
        Removers::open(&self.paths.data).is_ok_and(|removers| {
            removers.lock(FlockOperation::NonBlockingLockExclusive) == Err(Errno::AGAIN)
        })
    }

    /// Waits until nothing more is being deleted after an answer.
    pub(crate) fn await_removers(&self) {
        if let Ok(removers) = Removers::open(&self.paths.data) {
            let _ = removers.lock(FlockOperation::LockExclusive);
        }
    }
}
