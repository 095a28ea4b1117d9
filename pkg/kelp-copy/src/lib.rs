//! Copies files as they are: holes, hard links, owners, modes, attributes and times.
//!
//! All is done by descriptor and by names in directories, and no symbolic link is followed: what a
//! container has made leads nowhere. The ids are those that the process sees; it has the rights of
//! the trees' root.
#![forbid(unsafe_code)]

mod contents;
mod metadata;
#[cfg(test)]
mod tests;
mod trail;

use std::collections::HashMap;
use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, ResolveFlags, Stat, fstat, linkat, mkdirat, mknodat, openat,
    openat2, readlinkat, statat, symlinkat,
};
use rustix::io::Errno;

pub use trail::{Trail, empty, names};

/// How a directory is opened that is read.
/// How a directory is opened to be read, and no link to one.
pub const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Copies into one tree.
#[derive(Debug)]
pub struct Copier {
    root: OwnedFd,
    /// Where the first copy of a file with several names is, from the root.
    links: HashMap<(u64, u64), PathBuf>,
    /// Whether the file systems may share the blocks of two files.
    reflinks: bool,
    buffer: Vec<u8>,
}

impl Copier {
    /// Copies into the directory `root`, which may be an `O_PATH` descriptor.
    pub fn new(root: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self {
            root: openat(root, ".", DIRECTORY, Mode::empty())?,
            links: HashMap::new(),
            reflinks: true,
            buffer: Vec::new(),
        })
    }

    /// The directory that is copied into.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Copies all that `from` has, and what the directory itself is, to the root.
    pub fn tree(&mut self, from: BorrowedFd<'_>) -> io::Result<()> {
        let mut sources = Trail::new(openat(from, ".", DIRECTORY, Mode::empty())?)?;
        let mut targets = Trail::new(openat(&self.root, ".", DIRECTORY, Mode::empty())?)?;
        let mut left = vec![names(sources.here())?];
        let mut path = PathBuf::new();
        while let Some(names_left) = left.last_mut() {
            let Some(name) = names_left.pop() else {
                left.pop();
                path.pop();
                // A directory may let nobody through any more once it is finished.
                let (source, target) = (sources.leave()?, targets.leave()?);
                self.finish_directory(source.as_fd(), &fstat(&source)?, target.as_fd())?;
                continue;
            };
            let (from, to) = (sources.here(), targets.here());
            let stat = statat(from, &name, AtFlags::SYMLINK_NOFOLLOW)?;
            path.push(OsStr::from_bytes(name.to_bytes()));
            if is_directory(&stat) {
                let source = openat(from, &name, DIRECTORY, Mode::empty())?;
                let target = make_directory(to, &name)?;
                left.push(names(&source)?);
                sources.enter(source)?;
                targets.enter(target)?;
            } else {
                self.file(from, &name, &stat, to, &path)?;
                path.pop();
            }
        }
        Ok(())
    }

    /// Copies what is no directory to the same name in `to`, which is at `path` beneath the root.
    pub fn file(
        &mut self,
        from: BorrowedFd<'_>,
        name: &CStr,
        stat: &Stat,
        to: BorrowedFd<'_>,
        path: &Path,
    ) -> io::Result<()> {
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                return self.link(first, to, name);
            }
            let place = (stat.st_dev, stat.st_ino);
            self.links.insert(place, path.to_owned());
        }
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => return self.regular(from, name, stat, to),
            FileType::Symlink => symlinkat(&*readlinkat(from, name, Vec::new())?, to, name)?,
            kind @ (FileType::Fifo | FileType::Socket) => {
                mknodat(to, name, kind, Mode::from_raw_mode(stat.st_mode & 0o777), 0)?;
            }
            // A device is no use without the right to make one.
            _ => return Ok(()),
        }
        metadata::set_by_name(to, name, stat)
    }

    fn regular(
        &mut self,
        from: BorrowedFd<'_>,
        name: &CStr,
        stat: &Stat,
        to: BorrowedFd<'_>,
    ) -> io::Result<()> {
        let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let source = openat(
            from,
            name,
            flags | OFlags::RDONLY | OFlags::NONBLOCK,
            Mode::empty(),
        )?;
        let target = openat(
            to,
            name,
            flags | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL,
            Mode::from_raw_mode(stat.st_mode & 0o777),
        )?;
        self.contents(source.as_fd(), target.as_fd(), stat)?;
        self.metadata(source.as_fd(), stat, target.as_fd())
    }

    /// Gives a directory whose content is copied the owner, mode, attributes and times of `from`.
    pub fn finish_directory(
        &mut self,
        from: BorrowedFd<'_>,
        stat: &Stat,
        to: BorrowedFd<'_>,
    ) -> io::Result<()> {
        self.metadata(from, stat, to)
    }

    /// A further name for what was copied. Its directory is found again without any link: who else
    /// can write in the tree may have put one there.
    fn link(&self, first: &Path, to: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
        let file = first.file_name().unwrap_or_default();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let mut directory = openat(&self.root, ".", flags, Mode::empty())?;
        for piece in pieces(first.parent().unwrap_or(Path::new(""))) {
            directory = openat2(&directory, piece, flags, Mode::empty(), resolve)?;
        }
        Ok(linkat(&directory, file, to, name, AtFlags::empty())?)
    }
}

/// A path in pieces that the kernel takes: it has 4096 bytes for one (PATH_MAX).
fn pieces(path: &Path) -> Vec<PathBuf> {
    let mut pieces: Vec<PathBuf> = Vec::new();
    for name in path {
        match pieces.last_mut() {
            Some(last) if last.as_os_str().len() < 2048 => last.push(name),
            _ => pieces.push(PathBuf::from(name)),
        }
    }
    pieces
}

/// Makes a directory that nobody else can use yet, or opens the one that is there.
pub fn make_directory(at: BorrowedFd<'_>, name: &CStr) -> io::Result<OwnedFd> {
    match mkdirat(at, name, Mode::RWXU) {
        Ok(()) | Err(Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(openat(at, name, DIRECTORY, Mode::empty())?)
}

/// Whether a directory has nothing in it.
pub fn is_empty(directory: BorrowedFd<'_>) -> io::Result<bool> {
    let directory = openat(directory, ".", DIRECTORY, Mode::empty())?;
    Ok(names(&directory)?.is_empty())
}

/// Whether it is one itself, and no link to one.
pub fn is_directory(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}
