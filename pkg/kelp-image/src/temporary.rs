//! What is being made, under `<data>/tmp`.
//!
//! Each entry is held by an flock(2) of its maker. An entry whose lock is free was left by a process
//! that was killed: the next prune removes it. An entry is made and locked in two steps, so a collector
//! may take the lock in between; the maker notices (the lock is taken, or its name is gone) and makes
//! another.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::fs::{
    AtFlags, CWD, FlockOperation, IFlags, Mode, OFlags, RenameFlags, flock, linkat, renameat_with,
};
use rustix::io::Errno;

use crate::Error;
use crate::space::is_full;

/// Makes a directory and its parents, closed to other users (mode 0700).
pub(crate) fn make_directory(path: &Path) -> Result<(), Error> {
    if path.is_dir() {
        return Ok(());
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(Error::io(format!("make directory {}", path.display())))
}

/// Makes `<data>/tmp`.
pub(crate) fn make_tmp(data: &Path) -> Result<(), Error> {
    let path = data.join("tmp");
    if !path.is_dir() {
        make_directory(&path)?;
        spread(&path);
    }
    Ok(())
}

/// Tells ext4 that the directories in this one have nothing to do with each other: each layer then
/// gets block groups of its own instead of sharing one, in which two extractions would wait for each
/// other (chattr(1), attribute T). Other file systems do not know it, and need not.
fn spread(directory: &Path) {
    let Ok(file) = File::open(directory) else {
        return;
    };
    if let Ok(flags) = rustix::fs::ioctl_getflags(&file) {
        let _ = rustix::fs::ioctl_setflags(&file, flags | IFlags::TOPDIR);
    }
}

/// A file being written; removed when dropped unless it was renamed.
#[derive(Debug)]
pub(crate) struct TemporaryFile {
    file: File,
    path: PathBuf,
    renamed: bool,
}

impl TemporaryFile {
    /// Makes and locks a file `<directory>/<kind>-…`.
    pub(crate) fn create(directory: &Path, kind: &str) -> Result<Self, Error> {
        Self::with_mode(directory, kind, Mode::RUSR | Mode::WUSR)
    }

    /// The same for a file that a subordinate id makes, with a mode mask of 0: the user is to read
    /// it, and to try its lock if it is left.
    pub(crate) fn create_readable(directory: &Path, kind: &str) -> Result<Self, Error> {
        Self::with_mode(directory, kind, Mode::from_raw_mode(0o644))
    }

    fn with_mode(directory: &Path, kind: &str, mode: Mode) -> Result<Self, Error> {
        let (path, file) = make_locked(directory, kind, |path| {
            let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
            Ok(rustix::fs::open(path, flags, mode)?.into())
        })?;
        Ok(Self {
            file,
            path,
            renamed: false,
        })
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    pub(crate) fn file_mut(&mut self) -> &mut File {
        &mut self.file
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Writes all of it, brings it to the disk and gives it its name.
    pub(crate) fn finish(mut self, content: &[u8], to: &Path) -> Result<(), Error> {
        self.fill(content, to)?;
        self.persist(to)
    }

    /// The same, and brings the name to the disk. If that can't be done, what had the name before has it
    /// again, where the file system can exchange two names. The caller keeps others from changing it meanwhile.
    pub(crate) fn replace(mut self, content: &[u8], to: &Path) -> Result<(), Error> {
        self.fill(content, to)?;
        let directory = to.parent().unwrap_or(Path::new("/"));
        // Locked as this one is, so that nobody collects it while it may be needed again.
        let older = File::open(to).ok();
        if let Some(older) = &older {
            let _ = flock(older, FlockOperation::NonBlockingLockExclusive);
        }
        let exchange = || renameat_with(CWD, &self.path, CWD, to, RenameFlags::EXCHANGE);
        if older.is_some() && exchange().is_ok() {
            // The older one goes with this.
            return sync_directory(directory).inspect_err(|_| {
                let _ = exchange();
            });
        }
        // There is none, or the file system can't exchange two.
        let is_new = older.is_none() && !to.exists();
        self.persist(to)?;
        sync_directory(directory).inspect_err(|_| {
            if is_new {
                let _ = fs::remove_file(to);
            }
        })
    }

    fn fill(&mut self, content: &[u8], to: &Path) -> Result<(), Error> {
        self.file
            .write_all(content)
            .and_then(|()| self.file.sync_data())
            .map_err(Error::io(format!("write {}", to.display())))
    }

    /// Gives the file its final name, replacing what has it.
    pub(crate) fn persist(mut self, to: &Path) -> Result<(), Error> {
        fs::rename(&self.path, to).map_err(Error::io(format!(
            "rename {} to {}",
            self.path.display(),
            to.display()
        )))?;
        self.renamed = true;
        Ok(())
    }
}

/// Makes the names in a directory outlive a power cut.
pub(crate) fn sync_directory(path: &Path) -> Result<(), Error> {
    File::open(path)
        .and_then(|directory| directory.sync_all())
        .map_err(Error::io(format!("sync {}", path.display())))
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        if !self.renamed {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// A file of the user's own that is being written, where nobody collects what is left: it has no name until it
/// is whole, so that nothing is. What replaces a file that exists has another name for a moment, and a kill at
/// that moment leaves it.
#[derive(Debug)]
pub(crate) enum Output {
    Unnamed(File),
    /// On a file system that has no such files.
    Named(TemporaryFile),
}

impl Output {
    /// Begins a file that is to be in a directory.
    pub(crate) fn create(directory: &Path) -> Result<Self, Error> {
        Self::begin(directory, Mode::from_raw_mode(0o644))
    }

    /// The same with this mode (permission bits), whatever the mode mask; nobody else can open it before it has it.
    pub(crate) fn with_mode(directory: &Path, mode: u32) -> Result<Self, Error> {
        let mut output = Self::begin(directory, Mode::RUSR | Mode::WUSR)?;
        output
            .file_mut()
            .set_permissions(fs::Permissions::from_mode(mode))
            .map_err(Error::io(format!("make a file in {}", directory.display())))?;
        Ok(output)
    }

    fn begin(directory: &Path, mode: Mode) -> Result<Self, Error> {
        let flags = OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC;
        match rustix::fs::open(directory, flags, mode) {
            Ok(file) => Ok(Self::Unnamed(file.into())),
            Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::ISDIR) => Ok(Self::Named(
                TemporaryFile::with_mode(directory, ".kelp", mode)?,
            )),
            Err(error) => Err(Error::io(format!("make a file in {}", directory.display()))(error)),
        }
    }

    pub(crate) fn file_mut(&mut self) -> &mut File {
        match self {
            Self::Unnamed(file) => file,
            Self::Named(file) => file.file_mut(),
        }
    }

    /// Writes all of it and brings it to the disk.
    pub(crate) fn fill(&mut self, content: &[u8]) -> io::Result<()> {
        let file = self.file_mut();
        file.write_all(content)?;
        file.sync_all()
    }

    /// Gives the file a name that nothing has.
    pub(crate) fn link(&self, to: &Path) -> io::Result<()> {
        match self {
            Self::Unnamed(file) => {
                // As open(2) has it.
                let from = format!("/proc/self/fd/{}", file.as_raw_fd());
                Ok(linkat(CWD, &from, CWD, to, AtFlags::SYMLINK_FOLLOW)?)
            }
            Self::Named(file) => fs::hard_link(file.path(), to),
        }
    }

    /// Gives the file its name, replacing what has it.
    pub(crate) fn persist(self, to: &Path) -> Result<(), Error> {
        if let Self::Named(file) = self {
            return file.persist(to);
        }
        let failed = || format!("write {}", to.display());
        match self.link(to) {
            Ok(()) => Ok(()),
            // A name that is had can be replaced by another name alone.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let directory = to.parent().unwrap_or(Path::new("/"));
                let name = unused_path(directory, ".kelp");
                self.link(&name).map_err(Error::io(failed()))?;
                fs::rename(&name, to).map_err(|error| {
                    let _ = fs::remove_file(&name);
                    Error::io(failed())(error)
                })
            }
            Err(error) => Err(Error::io(failed())(error)),
        }
    }
}

/// Makes and locks a directory `<directory>/<kind>-…`; the lock lasts as long as the file.
pub(crate) fn create_directory(directory: &Path, kind: &str) -> Result<(PathBuf, File), Error> {
    make_locked(directory, kind, |path| {
        // Its maker may be a subordinate id, and the user must be able to try the lock.
        rustix::fs::mkdir(path, Mode::from_raw_mode(0o755))?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::open(path, flags, Mode::empty())?.into())
    })
}

/// A path `<directory>/<kind>-…` that nothing has yet.
pub(crate) fn unused_path(directory: &Path, kind: &str) -> PathBuf {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    directory.join(format!(
        "{kind}-{}-{:x}{:08x}-{count}",
        std::process::id(),
        now.tv_sec,
        now.tv_nsec
    ))
}

/// The entries of a directory that nobody holds: what a kill has left. Each gets another name while its
/// lock is had, so that who has just made it and locks it next finds that it is gone.
pub(crate) fn abandoned(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |error| Error::io(format!("read {}", directory.display()))(error);
    let mut abandoned = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let lock = match rustix::fs::open(&path, flags, Mode::empty()) {
            Ok(file) => Some(file),
            // The first moment of a file that a subordinate id makes; it lasts only if it was killed.
            Err(Errno::ACCESS) if is_old(&path) => None,
            Err(_) => continue,
        };
        let held = lock
            .as_ref()
            .is_some_and(|file| flock(file, FlockOperation::NonBlockingLockExclusive).is_err());
        let trash = unused_path(directory, "trash");
        if held {
            continue;
        }
        match fs::rename(&path, &trash) {
            Ok(()) => abandoned.push(trash),
            // A file can go without another name, which makes space for the others'.
            Err(error) if is_full(&error) => drop(fs::remove_file(&path)),
            Err(_) => {}
        }
    }
    Ok(abandoned)
}

fn is_old(path: &Path) -> bool {
    fs::symlink_metadata(path)
        .and_then(|metadata| metadata.modified())
        .is_ok_and(|time| {
            time.elapsed()
                .is_ok_and(|age| age > Duration::from_hours(1))
        })
}

fn make_locked(
    directory: &Path,
    kind: &str,
    make: impl Fn(&Path) -> io::Result<File>,
) -> Result<(PathBuf, File), Error> {
    for _ in 0..64 {
        let path = unused_path(directory, kind);
        let file = match make(&path) {
            Ok(file) => file,
            // Another process's name, or a collector came in between mkdir and open.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::AlreadyExists | io::ErrorKind::NotFound
                ) && directory.is_dir() =>
            {
                continue;
            }
            Err(error) => return Err(Error::io(format!("make {}", path.display()))(error)),
        };
        let locked = flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok();
        if locked && is_named(&file, &path) {
            return Ok((path, file));
        }
    }
    Err(Error::Io {
        what: format!("make an entry in {}", directory.display()),
        source: io::ErrorKind::AlreadyExists.into(),
    })
}

fn is_named(file: &File, path: &Path) -> bool {
    match (file.metadata(), fs::symlink_metadata(path)) {
        (Ok(held), Ok(named)) => held.dev() == named.dev() && held.ino() == named.ino(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_file_is_gone_and_a_kept_one_has_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let dropped = TemporaryFile::create(directory.path(), "x").unwrap();
        let path = dropped.path().to_owned();
        drop(dropped);
        assert!(!path.exists());
        let kept = TemporaryFile::create(directory.path(), "x").unwrap();
        kept.persist(&directory.path().join("name")).unwrap();
        assert!(directory.path().join("name").exists());
    }

    #[test]
    fn an_output_has_no_name_until_it_is_whole() {
        let directory = tempfile::tempdir().unwrap();
        let names = || fs::read_dir(directory.path()).unwrap().count();
        let to = directory.path().join("name");
        for (content, before) in [("first", 0), ("second", 1)] {
            let mut output = Output::create(directory.path()).unwrap();
            output.file_mut().write_all(content.as_bytes()).unwrap();
            if matches!(output, Output::Unnamed(_)) {
                assert_eq!(names(), before);
            }
            output.persist(&to).unwrap();
            assert_eq!(fs::read_to_string(&to).unwrap(), content);
            assert_eq!(names(), 1);
        }
    }

    #[test]
    fn a_replaced_file_leaves_nothing_of_the_older_one() {
        let directory = tempfile::tempdir().unwrap();
        let to = directory.path().join("name");
        for content in ["first", "second"] {
            let new = TemporaryFile::create(directory.path(), "x").unwrap();
            new.replace(content.as_bytes(), &to).unwrap();
            assert_eq!(fs::read_to_string(&to).unwrap(), content);
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn only_what_nobody_holds_is_abandoned() {
        let parent = tempfile::tempdir().unwrap();
        let held = create_directory(parent.path(), "layer").unwrap();
        let file = TemporaryFile::create(parent.path(), "blob").unwrap();
        let left = parent.path().join("left");
        fs::write(&left, "").unwrap();
        std::os::unix::fs::symlink("/etc/passwd", parent.path().join("link")).unwrap();
        let [found] = &abandoned(parent.path()).unwrap()[..] else {
            panic!("one is left");
        };
        assert!(found.exists() && !left.exists());
        drop((held, file));
    }

    #[test]
    fn a_directory_is_locked_while_it_is_held() {
        let parent = tempfile::tempdir().unwrap();
        let (path, lock) = create_directory(parent.path(), "layer").unwrap();
        let other = File::open(&path).unwrap();
        assert!(flock(&other, FlockOperation::NonBlockingLockExclusive).is_err());
        drop(lock);
        assert!(flock(&other, FlockOperation::NonBlockingLockExclusive).is_ok());
    }
}
