//! How an addition and a removal at the same time leave each other alone.
//!
//! A removal deletes blobs and layers that no record refers to. An addition needs blobs and layers
//! before its record exists. So an addition writes every digest that it looks for or makes into a
//! lease, before it looks, and a removal keeps what live leases name. The lock makes each of the two
//! one step: digests are added to leases under the shared lock, and a removal holds the exclusive
//! lock while it reads records and leases and renames what nothing refers to. Both take milliseconds;
//! downloading, extracting and deleting happen outside. A lease is a file held by flock(2), so that of
//! a process that was killed counts no more. Where the disk is full and a lease can't be written, who only
//! reads holds the shared lock instead, and removals wait for it.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;

use super::Store;
use crate::Error;
use crate::blob::BlobStore;
use crate::digest::Digest;
use crate::space::is_full;
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
        let flags = OFlags::RDWR | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = |flags| rustix::fs::open(&path, flags, Mode::RUSR | Mode::WUSR);
        // One that is there can be had on a full disk as well.
        let file = match open(flags) {
            Err(Errno::NOENT) => open(flags | OFlags::CREATE),
            opened => opened,
        };
        let file = file.map_err(Error::io(format!("open {}", path.display())))?;
        loop {
            match flock(&file, operation) {
                Ok(()) => return Ok(Self { _file: file.into() }),
                Err(Errno::INTR) => {}
                Err(error) => return Err(Error::io(format!("lock {}", path.display()))(error)),
            }
        }
    }
}

impl Store {
    /// Begins an addition: what the blobs that come with it have looked for or made stays until the
    /// lease is dropped, and with a record beyond.
    pub fn lease(&self) -> Result<(Arc<Lease>, BlobStore), Error> {
        Ok(self.under(Lease::new(&self.data)?))
    }

    /// The same for who only reads, or can without what it would add, which is possible on a full disk as
    /// well. As long as the lease is there, nothing may be recorded or removed by its holder, who would wait for
    /// itself.
    pub fn lease_to_read(&self) -> Result<(Arc<Lease>, BlobStore), Error> {
        Ok(self.under(Lease::to_read(&self.data)?))
    }

    fn under(&self, lease: Lease) -> (Arc<Lease>, BlobStore) {
        let lease = Arc::new(lease);
        let blobs = self.blobs.clone().leased(lease.clone());
        (lease, blobs)
    }
}

/// What an addition needs and no record refers to yet.
#[derive(Debug)]
pub struct Lease {
    data: PathBuf,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    hold: Hold,
    digests: HashSet<Digest>,
    /// Whether its holder never takes the exclusive lock.
    reads: bool,
}

/// What keeps others from removing things.
#[derive(Debug)]
enum Hold {
    File(TemporaryFile),
    Lock { _shared: StoreLock },
}

impl Lease {
    fn new(data: &Path) -> Result<Self, Error> {
        let file = TemporaryFile::create(&data.join("tmp"), LEASE)?;
        Ok(Self::with(data, Hold::File(file), false))
    }

    /// One that can be had on a full disk as well. Its holder must not take the exclusive lock.
    fn to_read(data: &Path) -> Result<Self, Error> {
        let hold = match TemporaryFile::create(&data.join("tmp"), LEASE) {
            Ok(file) => Hold::File(file),
            Err(error) if is_full(&error) => Hold::Lock {
                _shared: StoreLock::shared(data)?,
            },
            Err(error) => return Err(error),
        };
        Ok(Self::with(data, hold, true))
    }

    fn with(data: &Path, hold: Hold, reads: bool) -> Self {
        Self {
            data: data.to_owned(),
            inner: Mutex::new(Inner {
                hold,
                digests: HashSet::new(),
                reads,
            }),
        }
    }

    /// Keeps a blob or layer from being removed, whether it is here already or not.
    pub fn keep(&self, digest: &Digest) -> Result<(), Error> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let Inner {
            hold,
            digests,
            reads,
        } = &mut *inner;
        let Hold::File(file) = hold else {
            return Ok(());
        };
        if digests.contains(digest) {
            return Ok(());
        }
        let lock = StoreLock::shared(&self.data)?;
        let line = format!("{digest}\n");
        match file.file_mut().write_all(line.as_bytes()) {
            Ok(()) => drop(digests.insert(digest.clone())),
            // What is in the file counts until then.
            Err(error) if *reads && is_full(&error) => *hold = Hold::Lock { _shared: lock },
            Err(error) => return Err(Error::io("write a lease")(error)),
        }
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
