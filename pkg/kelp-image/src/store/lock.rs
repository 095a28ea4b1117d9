//! How an addition and a removal at the same time leave each other alone.
//!
//! A removal deletes blobs and layers that no record refers to. An addition needs blobs and layers
//! before its record exists. So an addition writes every digest that it looks for or makes into a
//! lease, before it looks, and a removal keeps what live leases name. The lock makes each of the two
//! one step: digests are added to leases under the shared lock, and a removal holds the exclusive
//! lock while it reads records and leases and renames what nothing refers to. Both take milliseconds;
//! downloading, extracting and deleting happen outside. A lease is a file held by flock(2), so that of
//! a process that was killed counts no more.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;

use crate::Error;
use crate::digest::Digest;
use crate::temporary::TemporaryFile;

const LEASE: &str = "lease";

/// The store's lock, for as long as it is held.
#[derive(Debug)]
pub struct StoreLock {
    _file: File,
}

impl StoreLock {
    /// Takes the lock together with others: nothing is removed meanwhile.
    ///
    /// A run that looks an image up and writes its container's record under this lock can be sure
    /// that the removal of the image sees the record.
    pub fn shared(data: &Path) -> Result<Self, Error> {
        Self::take(data, FlockOperation::LockShared)
    }

    /// Takes the lock alone: for a removal.
    pub fn exclusive(data: &Path) -> Result<Self, Error> {
        Self::take(data, FlockOperation::LockExclusive)
    }

    fn take(data: &Path, operation: FlockOperation) -> Result<Self, Error> {
        let path = data.join("lock");
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR)
            .map_err(Error::io(format!("open {}", path.display())))?;
        loop {
            match flock(&file, operation) {
                Ok(()) => return Ok(Self { _file: file.into() }),
                Err(Errno::INTR) => {}
                Err(error) => return Err(Error::io(format!("lock {}", path.display()))(error)),
            }
        }
    }
}

/// What an addition needs and no record refers to yet.
#[derive(Debug)]
pub struct Lease {
    data: PathBuf,
    inner: Mutex<(TemporaryFile, HashSet<Digest>)>,
}

impl Lease {
    pub(super) fn new(data: &Path) -> Result<Self, Error> {
        Ok(Self {
            data: data.to_owned(),
            inner: Mutex::new((
                TemporaryFile::create(&data.join("tmp"), LEASE)?,
                HashSet::new(),
            )),
        })
    }

    /// Keeps a blob or layer from being removed, whether it is here already or not.
    pub fn keep(&self, digest: &Digest) -> Result<(), Error> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, digests) = &mut *inner;
        if digests.contains(digest) {
            return Ok(());
        }
        let _lock = StoreLock::shared(&self.data)?;
        file.file_mut()
            .write_all(format!("{digest}\n").as_bytes())
            .map_err(Error::io("write a lease"))?;
        digests.insert(digest.clone());
        Ok(())
    }
}

/// The digests in all live leases. The caller holds the exclusive lock.
pub(super) fn leased(data: &Path) -> Result<HashSet<Digest>, Error> {
    let directory = data.join("tmp");
    let failed = |error| Error::io(format!("read {}", directory.display()))(error);
    let mut digests = HashSet::new();
    for entry in fs::read_dir(&directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if !entry.file_name().to_string_lossy().starts_with(LEASE) {
            continue;
        }
        let path = entry.path();
        let Ok(file) = File::open(&path) else {
            continue;
        };
        if flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
            // Nobody holds it.
            continue;
        }
        let text =
            fs::read_to_string(&path).map_err(Error::io(format!("read {}", path.display())))?;
        digests.extend(text.lines().filter_map(|line| line.parse().ok()));
    }
    Ok(digests)
}
