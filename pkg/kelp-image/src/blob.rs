//! Blobs: manifests, configs and compressed layers, named by the digest of their content.
//!
//! ```text
//! blobs/<algorithm>/<hex>   verified content; appears by rename, never changes
//! blobs/partial/<hex>       a download that was cut, locked by whoever continues it
//! tmp/blob-…                content on its way, locked by its writer
//! ```
//!
//! A file under `blobs/<algorithm>` was hashed while it was written and synced before its rename, so
//! it is complete whenever it exists, also after a power cut.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FlockOperation, Mode, OFlags, flock};

use crate::Error;
use crate::digest::{Algorithm, Digest, Hasher};
use crate::space::is_full;
use crate::store::Lease;
use crate::temporary::{self, TemporaryFile};

/// The most bytes of a manifest, an index or a config: what registries accept, four times over.
pub const DOCUMENT_LIMIT: u64 = 16 << 20;

/// The blobs beneath a data directory.
#[derive(Clone, Debug)]
pub struct BlobStore {
    data: PathBuf,
    lease: Option<Arc<Lease>>,
    /// Read-only stores whose blobs can be read as well.
    below: Arc<[PathBuf]>,
}

impl BlobStore {
    /// Opens the blobs of a data directory, making the directories that are missing.
    pub fn open(data: &Path) -> Result<Self, Error> {
        for directory in ["blobs/sha256", "blobs/sha512", "blobs/partial"] {
            temporary::make_directory(&data.join(directory))?;
        }
        temporary::make_tmp(data)?;
        Ok(Self {
            data: data.to_owned(),
            lease: None,
            below: Arc::default(),
        })
    }

    /// The same blobs, where each that is looked for or made is kept by a lease.
    #[must_use]
    pub(crate) fn leased(mut self, lease: Arc<Lease>) -> Self {
        self.lease = Some(lease);
        self
    }

    /// The same blobs; those of read-only stores can be read as well.
    #[must_use]
    pub(crate) fn over(mut self, roots: Arc<[PathBuf]>) -> Self {
        self.below = roots;
        self
    }

    fn keep(&self, digest: &Digest) -> Result<(), Error> {
        self.lease
            .as_ref()
            .map_or(Ok(()), |lease| lease.keep(digest))
    }

    /// Where a blob is or would be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        path_in(&self.data, digest)
    }

    /// Where it is noted what came of a blob that was compressed in another way.
    pub(crate) fn notes(&self) -> PathBuf {
        self.data.join("blobs/notes")
    }

    /// The size in bytes of a blob that is here.
    pub fn size(&self, digest: &Digest) -> Result<Option<u64>, Error> {
        self.keep(digest)?;
        let path = self.path(digest);
        match fs::symlink_metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(format!("look at {}", path.display()))(error)),
        }
    }

    /// Whether a blob is here.
    pub fn contains(&self, digest: &Digest) -> Result<bool, Error> {
        Ok(self.size(digest)?.is_some())
    }

    /// Whether a blob can be read, be it here or in a read-only store.
    pub(crate) fn is_readable(&self, digest: &Digest) -> Result<bool, Error> {
        self.keep(digest)?;
        match self.reader(digest) {
            Err(Error::NotFound(_)) => Ok(false),
            opened => opened.map(|_| true),
        }
    }

    /// Opens a blob for reading, be it here or in a read-only store.
    pub fn reader(&self, digest: &Digest) -> Result<File, Error> {
        for data in [&self.data].into_iter().chain(self.below.iter()) {
            let path = path_in(data, digest);
            match File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                opened => return opened.map_err(Error::io(format!("open {}", path.display()))),
            }
        }
        Err(Error::NotFound(format!("blob {digest}")))
    }

    /// Whether a blob is still what its digest says; one that is not is removed, so that the next pull
    /// downloads it.
    pub(crate) fn keep_whole(&self, digest: &Digest) -> Result<bool, Error> {
        let whole = self.is_whole(digest)?;
        if !whole && self.path(digest).exists() {
            remove_file(&self.path(digest))?;
        }
        Ok(whole)
    }

    /// Whether a blob is still what its digest says.
    pub fn is_whole(&self, digest: &Digest) -> Result<bool, Error> {
        is_rest(&mut self.reader(digest)?, digest).map_err(Error::io(format!("read blob {digest}")))
    }

    /// Reads a whole blob of at most `limit` bytes and checks it against its digest.
    pub fn read(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        self.reader(digest)?
            .take(limit + 1)
            .read_to_end(&mut bytes)
            .map_err(Error::io(format!("read blob {digest}")))?;
        if bytes.len() as u64 > limit {
            return Err(Error::Invalid(format!(
                "blob {digest} is larger than {limit} bytes"
            )));
        }
        digest.check(&format!("blob {digest}"), &bytes)?;
        Ok(bytes)
    }

    /// Keeps a document, verifying it if a digest is expected, and returns its digest.
    pub fn put(&self, bytes: &[u8], expected: Option<&Digest>) -> Result<Digest, Error> {
        let digest = match expected {
            Some(expected) => {
                expected.check("content", bytes)?;
                expected.clone()
            }
            None => Digest::of(bytes),
        };
        if !self.contains(&digest)? {
            let mut writer = self.writer_for(digest.algorithm())?;
            writer.write(bytes)?;
            writer.commit(&digest)?;
        }
        Ok(digest)
    }

    /// A writer for a blob whose SHA-256 is not known yet, or which can't be resumed.
    pub fn writer(&self) -> Result<BlobWriter, Error> {
        self.writer_for(Algorithm::Sha256)
    }

    fn writer_for(&self, algorithm: Algorithm) -> Result<BlobWriter, Error> {
        let temporary = TemporaryFile::create(&self.data.join("tmp"), "blob")?;
        Ok(BlobWriter {
            store: self.clone(),
            target: Target::Temporary(temporary),
            hasher: Hasher::new(algorithm),
            length: 0,
        })
    }

    /// A writer for a blob of this digest that can't be resumed.
    pub(crate) fn writer_of(&self, digest: &Digest) -> Result<BlobWriter, Error> {
        self.writer_for(digest.algorithm())
    }

    /// A writer that goes on where an earlier download of this blob stopped, and that leaves what it
    /// has for the next one if it is dropped.
    ///
    /// Waits while another process downloads the same blob; `None` means that the blob is here, often
    /// because the other one has just finished it. What was there before is hashed again, so
    /// [`BlobWriter::len`] bytes are known to be on disk but not yet known to be right.
    pub fn resume(&self, digest: &Digest) -> Result<Option<BlobWriter>, Error> {
        let path = self.data.join("blobs/partial").join(digest.hex());
        let what = || path.display().to_string();
        loop {
            if self.contains(digest)? {
                return Ok(None);
            }
            let mut file: File = rustix::fs::open(
                &path,
                OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC,
                Mode::RUSR | Mode::WUSR,
            )
            .map_err(Error::io(format!("open {}", what())))?
            .into();
            flock(&file, FlockOperation::LockExclusive)
                .map_err(Error::io(format!("lock {}", what())))?;
            // The one who held the lock may have renamed or removed the file meanwhile; then the
            // lock is on a file that nobody will find again.
            if !same_file(&file, &path).map_err(Error::io(format!("look at {}", what())))? {
                continue;
            }
            let mut hasher = Hasher::new(digest.algorithm());
            let length =
                hash_rest(&mut file, &mut hasher).map_err(Error::io(format!("read {}", what())))?;
            return Ok(Some(BlobWriter {
                store: self.clone(),
                target: Target::Partial { file, path },
                hasher,
                length,
            }));
        }
    }

    /// Makes sure that a blob is in the user's own store, where it may be in a read-only one alone.
    pub fn bring_up(&self, digest: &Digest) -> Result<(), Error> {
        if self.contains(digest)? {
            return Ok(());
        }
        let mut from = self.reader(digest)?;
        let mut writer = self.writer_of(digest)?;
        io::copy(&mut from, &mut writer).map_err(crate::ingest::sink_error)?;
        writer.commit(digest)
    }

    /// Every blob with its size in bytes.
    pub fn list(&self) -> Result<Vec<(Digest, u64)>, Error> {
        let mut blobs = Vec::new();
        for directory in ["blobs/sha256", "blobs/sha512"] {
            let path = self.data.join(directory);
            let failed = |error| Error::io(format!("read {}", path.display()))(error);
            for entry in fs::read_dir(&path).map_err(failed)? {
                let entry = entry.map_err(failed)?;
                let name = entry.file_name();
                let Some(digest) = name.to_str().and_then(Digest::from_hex) else {
                    continue;
                };
                // It may have been removed since the directory was read.
                if let Ok(metadata) = entry.metadata() {
                    blobs.push((digest, metadata.len()));
                }
            }
        }
        Ok(blobs)
    }

    /// Takes a blob's name away; the file, to be deleted once no lock is held: that takes a while. Where there
    /// is no space for another name it is deleted at once.
    pub(crate) fn discard(&self, digest: &Digest) -> Result<Option<PathBuf>, Error> {
        let path = self.path(digest);
        let place = temporary::unused_path(&self.data.join("tmp"), "blob");
        match fs::rename(&path, &place) {
            Ok(()) => Ok(Some(place)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) if is_full(&error) => remove_file(&path).map(|()| Some(place)),
            Err(error) => Err(Error::io(format!("remove {}", path.display()))(error)),
        }
    }

    /// Forgets what came of blobs that are not here any more.
    pub(crate) fn forget_notes(&self) -> Result<(), Error> {
        let notes = self.notes();
        let failed = |error| Error::io(format!("read {}", notes.display()))(error);
        let entries = match fs::read_dir(&notes) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.map_err(failed)?,
        };
        for entry in entries {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name();
            let hex = name.to_str().and_then(|name| name.split('.').next());
            let is_here = hex
                .and_then(Digest::from_hex)
                .is_some_and(|digest| self.path(&digest).exists());
            if !is_here {
                remove_file(&entry.path())?;
            }
        }
        Ok(())
    }

    /// Removes partial downloads that nobody is writing; returns the bytes that were freed.
    pub(crate) fn remove_partial(&self) -> Result<u64, Error> {
        let path = self.data.join("blobs/partial");
        let failed = |error| Error::io(format!("read {}", path.display()))(error);
        let mut freed = 0;
        for entry in fs::read_dir(&path).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let Ok(file) = File::open(&path) else {
                continue;
            };
            if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
                freed += file.metadata().map_or(0, |metadata| metadata.len());
                remove_file(&path)?;
            }
        }
        Ok(freed)
    }
}

/// Writes one blob and hashes it on the way.
#[derive(Debug)]
pub struct BlobWriter {
    store: BlobStore,
    target: Target,
    hasher: Hasher,
    length: u64,
}

#[derive(Debug)]
enum Target {
    Temporary(TemporaryFile),
    Partial { file: File, path: PathBuf },
}

impl BlobWriter {
    /// How many bytes it holds, those of an earlier attempt included.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether it holds nothing yet.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Adds bytes at the end.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.file()
            .write_all(bytes)
            .map_err(Error::io("write a blob"))?;
        self.hasher.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Starts again from nothing, for a server that ignores ranges or sent something else.
    pub fn restart(&mut self) -> Result<(), Error> {
        let algorithm = self.hasher.algorithm();
        let file = self.file();
        file.set_len(0).map_err(Error::io("truncate a blob"))?;
        io::Seek::rewind(file).map_err(Error::io("rewind a blob"))?;
        self.hasher = Hasher::new(algorithm);
        self.length = 0;
        Ok(())
    }

    /// A reader of what has been written so far, from the first byte.
    pub fn reader(&self) -> Result<File, Error> {
        let path = match &self.target {
            Target::Temporary(temporary) => temporary.path(),
            Target::Partial { path, .. } => path,
        };
        File::open(path).map_err(Error::io(format!("open {}", path.display())))
    }

    /// Checks the content against its digest, and publishes it.
    ///
    /// Content that does not fit is removed: resuming it could never succeed.
    pub fn commit(self, expected: &Digest) -> Result<(), Error> {
        let Self {
            store,
            target,
            hasher,
            ..
        } = self;
        store.keep(expected)?;
        let verified = expected.is(&format!("blob {expected}"), hasher.finish());
        let to = store.path(expected);
        match target {
            Target::Temporary(temporary) => {
                verified?;
                sync(temporary.file())?;
                temporary.persist(&to)?;
            }
            Target::Partial { file, path } => {
                if let Err(error) = verified {
                    remove_file(&path)?;
                    return Err(error);
                }
                sync(&file)?;
                fs::rename(&path, &to).map_err(Error::io(format!("rename {}", path.display())))?;
                drop(file);
            }
        }
        Ok(())
    }

    /// Commits under whatever SHA-256 the content has.
    pub fn commit_any(self) -> Result<Digest, Error> {
        let digest = self.hasher.clone().finish();
        self.commit(&digest)?;
        Ok(digest)
    }

    fn file(&mut self) -> &mut File {
        match &mut self.target {
            Target::Temporary(temporary) => temporary.file_mut(),
            Target::Partial { file, .. } => file,
        }
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match Self::write(self, bytes) {
            Ok(()) => Ok(bytes.len()),
            Err(error) => Err(io::Error::other(error)),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn path_in(data: &Path, digest: &Digest) -> PathBuf {
    let directory = match digest.algorithm() {
        Algorithm::Sha256 => "blobs/sha256",
        Algorithm::Sha512 => "blobs/sha512",
    };
    data.join(directory).join(digest.hex())
}

fn sync(file: &File) -> Result<(), Error> {
    file.sync_data().map_err(Error::io("sync a blob"))
}

fn same_file(file: &File, path: &Path) -> io::Result<bool> {
    let held = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(found) => Ok(held.dev() == found.dev() && held.ino() == found.ino()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether the rest of a file is what a digest says.
pub(crate) fn is_rest(file: &mut impl Read, digest: &Digest) -> io::Result<bool> {
    let mut hasher = Hasher::new(digest.algorithm());
    hash_rest(file, &mut hasher)?;
    Ok(hasher.finish() == *digest)
}

/// Hashes from the file's position to its end, and leaves the position there.
fn hash_rest(file: &mut impl Read, hasher: &mut Hasher) -> io::Result<u64> {
    let mut buffer = vec![0; 1 << 18];
    let mut length = 0;
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(length),
            Ok(read) => {
                hasher.update(&buffer[..read]);
                length += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

fn remove_file(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io(format!("remove {}", path.display()))(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, BlobStore) {
        let directory = tempfile::tempdir().unwrap();
        let store = BlobStore::open(directory.path()).unwrap();
        (directory, store)
    }

    fn files_in(path: &Path) -> usize {
        fs::read_dir(path).unwrap().count()
    }

    #[test]
    fn what_is_committed_can_be_read() {
        let (directory, store) = store();
        let digest = Digest::of(b"hello");
        let mut writer = store.writer().unwrap();
        writer.write(b"hel").unwrap();
        writer.write(b"lo").unwrap();
        assert!(!store.contains(&digest).unwrap());
        writer.commit(&digest).unwrap();
        assert_eq!(store.size(&digest).unwrap(), Some(5));
        assert_eq!(store.read(&digest, 5).unwrap(), b"hello");
        assert!(store.read(&digest, 4).is_err());
        assert_eq!(store.list().unwrap(), [(digest, 5)]);
        assert_eq!(files_in(&directory.path().join("tmp")), 0);
    }

    #[test]
    fn wrong_content_is_never_published() {
        let (directory, store) = store();
        let expected = Digest::of(b"right");
        let mut writer = store.writer().unwrap();
        writer.write(b"wrong").unwrap();
        assert!(matches!(
            writer.commit(&expected),
            Err(Error::DigestMismatch { .. })
        ));
        let mut writer = store.resume(&expected).unwrap().unwrap();
        writer.write(b"wrong").unwrap();
        assert!(writer.commit(&expected).is_err());
        assert!(store.put(b"wrong", Some(&expected)).is_err());
        assert!(!store.contains(&expected).unwrap());
        assert_eq!(files_in(&directory.path().join("tmp")), 0);
        assert_eq!(files_in(&directory.path().join("blobs/partial")), 0);
    }

    #[test]
    fn a_blob_that_rotted_is_noticed() {
        let (_directory, store) = store();
        let digest = store.put(b"hello", None).unwrap();
        fs::write(store.path(&digest), b"hellO").unwrap();
        assert!(matches!(
            store.read(&digest, 100),
            Err(Error::DigestMismatch { .. })
        ));
    }

    #[test]
    fn a_cut_download_goes_on() {
        let (directory, store) = store();
        let digest = Digest::of(b"hello world");
        let mut writer = store.resume(&digest).unwrap().unwrap();
        writer.write(b"hello ").unwrap();
        drop(writer);
        let mut writer = store.resume(&digest).unwrap().unwrap();
        assert_eq!(writer.len(), 6);
        writer.write(b"world").unwrap();
        writer.commit(&digest).unwrap();
        assert_eq!(store.read(&digest, 100).unwrap(), b"hello world");
        assert!(store.resume(&digest).unwrap().is_none());
        assert_eq!(files_in(&directory.path().join("blobs/partial")), 0);
    }

    #[test]
    fn a_download_can_start_again() {
        let (_directory, store) = store();
        let digest = Digest::of(b"short");
        let mut writer = store.resume(&digest).unwrap().unwrap();
        writer.write(b"something longer").unwrap();
        writer.restart().unwrap();
        assert!(writer.is_empty());
        writer.write(b"short").unwrap();
        writer.commit(&digest).unwrap();
        assert_eq!(store.read(&digest, 100).unwrap(), b"short");
    }

    #[test]
    fn the_second_downloader_waits_and_finds_the_blob() {
        let (_directory, store) = store();
        let digest = Digest::of(b"x");
        let mut writer = store.resume(&digest).unwrap().unwrap();
        std::thread::scope(|scope| {
            let second = scope.spawn(|| store.resume(&digest).unwrap().is_none());
            writer.write(b"x").unwrap();
            writer.commit(&digest).unwrap();
            assert!(second.join().unwrap());
        });
    }

    #[test]
    fn only_abandoned_downloads_are_garbage() {
        let (_directory, store) = store();
        let kept = Digest::of(b"kept");
        let mut writer = store.resume(&kept).unwrap().unwrap();
        writer.write(b"ke").unwrap();
        let mut other = store.resume(&Digest::of(b"other")).unwrap().unwrap();
        other.write(b"oth").unwrap();
        drop(other);
        assert_eq!(store.remove_partial().unwrap(), 3);
        writer.write(b"pt").unwrap();
        writer.commit(&kept).unwrap();
        assert!(store.contains(&kept).unwrap());
    }
}
