//! Making one entry after another.

use std::io::BufRead;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RawMode, StatxFlags, ftruncate, linkat, mkdirat, mknodat,
    openat, statat, statx, symlinkat, unlinkat,
};
use rustix::io::{Errno, pwrite, write};

use super::directories::Directories;
use super::flusher::Flusher;
use super::metadata::{Metadata, times};
use super::path::{PATH_LIMIT, clean, show, split};
use super::walker::{IMPLICIT_MODE, Walker};
use super::{Options, archive_error, whiteout};
use crate::Error;
use crate::remove::remove_at;
use crate::tar::{Entry, Kind, TarReader};

/// What was made so far.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) size: u64,
    pub(super) files: u64,
    pub(super) skipped_xattrs: u64,
}

/// Makes entries beneath a root.
#[derive(Debug)]
pub(super) struct Extractor {
    pub(super) options: Options,
    pub(super) metadata: Metadata,
    pub(super) walker: Walker,
    /// Finds the targets of hard links, which lie elsewhere than what is made next.
    targets: Walker,
    pub(super) directories: Directories,
    counts: Counts,
    flusher: Option<Flusher>,
    path: Vec<u8>,
}

const NEW_FILE: OFlags = OFlags::WRONLY
    .union(OFlags::CREATE)
    .union(OFlags::EXCL)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

impl Extractor {
    pub(super) fn new(root: OwnedFd, options: Options) -> Result<Self, Error> {
        let again = rustix::io::fcntl_dupfd_cloexec(&root, 0)
            .map_err(Error::io("duplicate a descriptor"))?;
        let flusher = if options.flush {
            let root = rustix::io::fcntl_dupfd_cloexec(&root, 0);
            root.ok().and_then(Flusher::start)
        } else {
            None
        };
        Ok(Self {
            options,
            metadata: Metadata::new(options),
            walker: Walker::new(root),
            targets: Walker::new(again),
            directories: Directories::default(),
            counts: Counts::default(),
            flusher,
            path: Vec::new(),
        })
    }

    /// Makes one entry, reading its content if it has any.
    pub(super) fn extract<R: BufRead>(
        &mut self,
        entry: &Entry,
        reader: &mut TarReader<R>,
    ) -> Result<(), Error> {
        let mut path = std::mem::take(&mut self.path);
        let result = clean(&entry.path, &mut path)
            .ok_or_else(|| escapes(&entry.path))
            .and_then(|()| self.extract_at(&path, entry, reader));
        self.path = path;
        result
    }

    fn extract_at<R: BufRead>(
        &mut self,
        path: &[u8],
        entry: &Entry,
        reader: &mut TarReader<R>,
    ) -> Result<(), Error> {
        self.counts.files += 1;
        if path.len() > PATH_LIMIT {
            return Err(Error::Archive(format!(
                "{}: the name has more than {PATH_LIMIT} bytes",
                show(path)
            )));
        }
        if path.is_empty() {
            // The root is there; an archive may only say how it is to be.
            if entry.kind != Kind::Directory {
                return Err(Error::Archive(format!(
                    "{}: only a directory can be the root",
                    show(&entry.path)
                )));
            }
            self.directories.add(path, entry, None);
            return Ok(());
        }
        if self.options.whiteouts {
            if whiteout::is_within_marker(path) {
                if whiteout::is_beneath_marker(path) {
                    return Ok(());
                }
                return Err(Error::Archive(format!(
                    "{}: a whiteout has nothing in it",
                    show(path)
                )));
            }
            if whiteout::is_marker(split(path).1) {
                return whiteout::apply(self, path);
            }
        }
        match entry.kind {
            Kind::File if entry.size == 0 && self.metadata.is_plain(entry) => {
                let times = times(entry);
                let mode = self.metadata.creation_mode(entry);
                self.create(path, entry, |at, name| {
                    mknodat(at, name, FileType::RegularFile, mode, 0)?;
                    rustix::fs::utimensat(at, name, &times, AtFlags::SYMLINK_NOFOLLOW)
                })
            }
            Kind::File => self.file(path, entry, reader),
            Kind::Directory => self.directory(path, entry),
            Kind::Symlink => {
                let metadata = self.metadata;
                self.create(path, entry, |at, name| {
                    symlinkat(entry.link.as_slice(), at, name)?;
                    metadata.apply_to_name(at, name, entry)
                })
            }
            Kind::HardLink => self.hard_link(path, entry),
            Kind::Fifo => {
                let metadata = self.metadata;
                self.create(path, entry, |at, name| {
                    let mode = Mode::from_raw_mode(entry.mode as RawMode);
                    mknodat(at, name, FileType::Fifo, mode, 0)?;
                    metadata.apply_to_name(at, name, entry)
                })
            }
            Kind::CharacterDevice
                if self.options.whiteouts && (entry.major, entry.minor) == (0, 0) =>
            {
                // overlayfs's own form of a whiteout, should an archive have one.
                self.create(path, entry, whiteout::make)
            }
            Kind::CharacterDevice | Kind::BlockDevice => {
                let file = self.create_file(path, entry)?;
                self.finish_file(&file, path, entry)
            }
        }
    }

    /// Finishes the directories.
    pub(super) fn finish(mut self) -> Result<Counts, Error> {
        let directories = std::mem::take(&mut self.directories);
        self.counts.skipped_xattrs += directories.apply(&mut self.walker, &self.metadata)?;
        Ok(self.counts)
    }

    /// Opens the directory that an entry goes into, making it if the archive has not.
    pub(super) fn parent(&mut self, parent: &[u8]) -> Result<BorrowedFd<'_>, Error> {
        let failed = |errno| operation("open the directory", parent, errno);
        match self.make_parent(parent) {
            Err(Errno::NOTDIR)
                if self.options.whiteouts && self.uncover(parent).map_err(failed)? =>
            {
                self.make_parent(parent)
            }
            made => made,
        }
        .map_err(failed)?;
        self.directories.check()?;
        self.walker.directory(parent, None).map_err(failed)
    }

    fn make_parent(&mut self, parent: &[u8]) -> rustix::io::Result<()> {
        let (umask, owner) = (self.metadata.umask(), self.metadata.implied_owner());
        let directories = &mut self.directories;
        let mut created = |path: &[u8]| directories.add_implicit(path, umask, owner);
        self.walker.directory(parent, Some(&mut created)).map(drop)
    }

    /// Makes a directory of a whiteout that is on the way to `parent`: that concerns the layers below
    /// alone. False if none is.
    fn uncover(&mut self, parent: &[u8]) -> rustix::io::Result<bool> {
        let slashes = parent.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let ends = slashes.map(|(at, _)| at).chain([parent.len()]);
        for path in ends.map(|end| &parent[..end]) {
            let (above, name) = split(path);
            let at = self.walker.directory(above, None)?;
            if whiteout::is_whiteout(&statat(at, name, AtFlags::SYMLINK_NOFOLLOW)?) {
                unlinkat(at, name, AtFlags::empty())?;
                let mode = Mode::from_raw_mode(IMPLICIT_MODE as RawMode);
                mkdirat(at, name, mode)?;
                let (umask, owner) = (self.metadata.umask(), self.metadata.implied_owner());
                self.directories.add_implicit(path, umask, owner);
                self.directories.set_opaque(path);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Makes something at a path, by a function that must fail with EEXIST if the name is taken;
    /// then what has it is removed.
    fn create<T>(
        &mut self,
        path: &[u8],
        entry: &Entry,
        make: impl Fn(BorrowedFd<'_>, &[u8]) -> rustix::io::Result<T>,
    ) -> Result<T, Error> {
        let (parent, name) = split(path);
        let made = match make(self.parent(parent)?, name) {
            Err(Errno::EXIST) => {
                self.make_way(path, false)?;
                make(self.parent(parent)?, name)
            }
            made => made,
        };
        made.map_err(|errno| self.metadata.error(path, entry, errno))
    }

    fn create_file(&mut self, path: &[u8], entry: &Entry) -> Result<OwnedFd, Error> {
        let mode = self.metadata.creation_mode(entry);
        self.create(path, entry, |at, name| openat(at, name, NEW_FILE, mode))
    }

    fn finish_file(&mut self, file: &OwnedFd, path: &[u8], entry: &Entry) -> Result<(), Error> {
        self.counts.skipped_xattrs += self
            .metadata
            .apply_to_file(file.as_fd(), entry)
            .map_err(|errno| self.metadata.error(path, entry, errno))?;
        Ok(())
    }

    fn file<R: BufRead>(
        &mut self,
        path: &[u8],
        entry: &Entry,
        reader: &mut TarReader<R>,
    ) -> Result<(), Error> {
        let file = self.create_file(path, entry)?;
        self.counts.size += reader.remaining();
        let failed = |errno: Errno| operation("write", path, errno);
        match &entry.sparse {
            None => {
                while reader.remaining() > 0 {
                    let bytes = reader.content().map_err(archive_error)?;
                    let written = retry(|| write(&file, bytes)).map_err(failed)?;
                    reader.consume(written);
                }
            }
            Some(segments) => {
                for segment in segments {
                    let mut offset = segment.offset;
                    let mut left = segment.length;
                    while left > 0 {
                        let bytes = reader.content().map_err(archive_error)?;
                        let count = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                        let written =
                            retry(|| pwrite(&file, &bytes[..count], offset)).map_err(failed)?;
                        reader.consume(written);
                        offset += written as u64;
                        left -= written as u64;
                    }
                }
                ftruncate(&file, entry.size).map_err(failed)?;
            }
        }
        if let Some(flusher) = &mut self.flusher {
            flusher.written(self.counts.size);
        }
        self.finish_file(&file, path, entry)
    }

    fn directory(&mut self, path: &[u8], entry: &Entry) -> Result<(), Error> {
        // Until the end the user must be able to make files in it.
        let mode = (entry.mode & 0o777) | 0o700;
        let on_disk = mode & !self.metadata.umask();
        let mode = Mode::from_raw_mode(mode as RawMode);
        let (parent, name) = split(path);
        let keep_links = self.options.keep_directory_links;
        let at = self.parent(parent)?;
        match mkdirat(at, name, mode) {
            Ok(()) => {
                self.directories.add(path, entry, Some(on_disk));
                return Ok(());
            }
            Err(Errno::EXIST) => {}
            Err(errno) => return Err(operation("extract", path, errno)),
        }
        let stat = statat(at, name, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|errno| operation("look at", path, errno))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                self.directories.add(path, entry, None);
                return Ok(());
            }
            FileType::Symlink if keep_links && self.walker.directory(path, None).is_ok() => {
                return Ok(());
            }
            _ => self.make_way(path, true)?,
        }
        mkdirat(self.parent(parent)?, name, mode)
            .map_err(|errno| operation("extract", path, errno))?;
        self.directories.add(path, entry, Some(on_disk));
        if self.options.whiteouts {
            // What the layers below have by this name was to go with whatever was here, a whiteout or a
            // file, and must not show through.
            self.directories.set_opaque(path);
        }
        Ok(())
    }

    fn hard_link(&mut self, path: &[u8], entry: &Entry) -> Result<(), Error> {
        let mut target = Vec::new();
        clean(&entry.link, &mut target).ok_or_else(|| escapes(&entry.link))?;
        let (parent, name) = split(path);
        let (target_parent, target_name) = split(&target);
        let failed = |errno: Errno| {
            let what = format!("{} as a hard link to {}", show(path), show(&target));
            match errno {
                Errno::NOENT | Errno::NOTDIR => {
                    Error::Archive(format!("extract {what}, which is not in the archive"))
                }
                _ => Error::io(format!("extract {what}"))(errno),
            }
        };
        if target_name.is_empty() {
            return Err(failed(Errno::ISDIR));
        }
        for first in [true, false] {
            self.parent(parent)?;
            let at = self.walker.directory(parent, None).map_err(failed)?;
            let target_at = self
                .targets
                .directory(target_parent, None)
                .map_err(failed)?;
            // Without AT_SYMLINK_FOLLOW a link to a symbolic link is one more name of that link.
            match linkat(target_at, target_name, at, name, AtFlags::empty()) {
                Ok(()) => return Ok(()),
                Err(Errno::EXIST) if first => {
                    if same_inode(target_at, target_name, at, name) {
                        return Ok(());
                    }
                    self.make_way(path, false)?;
                }
                Err(errno) => return Err(failed(errno)),
            }
        }
        Ok(())
    }

    /// Removes whatever has an entry's name.
    fn make_way(&mut self, path: &[u8], for_directory: bool) -> Result<(), Error> {
        let failed = |errno| operation("replace", path, errno);
        let replace_kinds = self.options.replace_kinds;
        let (parent, name) = split(path);
        let at = self.parent(parent)?;
        let stat = match statat(at, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => return Ok(()),
            stat => stat.map_err(failed)?,
        };
        if is_mount(at, name) {
            return Err(failed(Errno::BUSY));
        }
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if !replace_kinds && is_directory != for_directory {
            let (new, old) = if for_directory {
                ("a directory", "something else")
            } else {
                ("something else", "a directory")
            };
            return Err(Error::Conflict(format!(
                "{}: {new} can't replace {old}",
                show(path)
            )));
        }
        if is_directory {
            remove_at(at, name).map_err(failed)?;
            self.directories.remove(path);
        } else {
            unlinkat(at, name, AtFlags::empty()).map_err(failed)?;
        }
        // A directory on the way to the last one may be gone, or a link.
        self.walker.forget();
        self.targets.forget();
        Ok(())
    }
}

/// Whether something is mounted at a name. Where that is in a mount namespace of others, as in a container, nothing
/// keeps an unlink from taking the mount away.
fn is_mount(at: BorrowedFd<'_>, name: &[u8]) -> bool {
    let mount = |name: &[u8], flags| {
        let found = statx(at, name, flags, StatxFlags::MNT_ID).ok()?;
        (found.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(found.stx_mnt_id)
    };
    let there = mount(name, AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT);
    there.is_some() && there != mount(b"", AtFlags::EMPTY_PATH)
}

fn same_inode(
    target_at: BorrowedFd<'_>,
    target_name: &[u8],
    at: BorrowedFd<'_>,
    name: &[u8],
) -> bool {
    let stat = |at, name| statat(at, name, AtFlags::SYMLINK_NOFOLLOW);
    match (stat(target_at, target_name), stat(at, name)) {
        (Ok(one), Ok(other)) => (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino),
        _ => false,
    }
}

fn retry<T>(mut call: impl FnMut() -> rustix::io::Result<T>) -> rustix::io::Result<T> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

pub(super) fn operation(what: &str, path: &[u8], errno: Errno) -> Error {
    Error::io(format!("{what} {}", show(path)))(errno)
}

fn escapes(name: &[u8]) -> Error {
    Error::Archive(format!("{}: leads out of the archive's root", show(name)))
}
