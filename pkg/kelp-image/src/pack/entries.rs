//! Entries of an archive from files that are open, whatever the tree is that they are of.

use std::collections::HashMap;
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{
    FileType, Mode, SeekFrom, Stat, fgetxattr, flistxattr, fstat, major, minor, openat, readlinkat,
    seek,
};
use rustix::io::Errno;

use super::{READ, recorded};
use crate::tar::sparse::Segment;
use crate::tar::write::TarWriter;
use crate::tar::{Entry, Kind};
use crate::unpack::Ownership;

/// Fewer bytes in holes than this are written as zeros: every reader knows that.
const LEAST_HOLES: u64 = 64 << 10;

/// More pieces than this are not worth a map.
const MOST_SEGMENTS: usize = 4096;

/// Sees each entry before it is written, and may change it.
pub type Filter<'a> = &'a mut dyn FnMut(&mut Entry);

/// What an archive says besides what a copy does.
#[derive(Clone, Copy, Debug, Default)]
pub struct Style {
    /// Access control lists: whoever reads the archive means the same ids as this process does.
    pub acls: bool,
    /// Attributes in which kelp keeps what a file can't have itself (owner, set-id bits, a device) become that
    /// again; the value is how the tree keeps its owners.
    pub recorded: Option<Ownership>,
    /// Holes are left out; not every reader knows that.
    pub sparse: bool,
}

/// Writes entries.
pub(super) struct Entries<'a, W> {
    writer: &'a mut TarWriter<W>,
    style: Style,
    filter: Filter<'a>,
    /// Files with several names, and the first of them.
    links: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
}

impl<'a, W: Write> Entries<'a, W> {
    pub(super) fn new(writer: &'a mut TarWriter<W>, style: Style, filter: Filter<'a>) -> Self {
        Self {
            writer,
            style,
            filter,
            links: HashMap::new(),
            buffer: vec![0; 256 << 10],
        }
    }

    /// A directory that is open, without what it has.
    pub(super) fn directory(
        &mut self,
        directory: BorrowedFd<'_>,
        stat: &Stat,
        path: &[u8],
    ) -> io::Result<()> {
        let mut entry = entry(stat, Kind::Directory, path);
        self.attributes(directory, &mut entry)?;
        self.write(&mut entry)
    }

    /// Anything but a directory, by its name.
    pub(super) fn item(
        &mut self,
        at: BorrowedFd<'_>,
        name: &CStr,
        stat: &Stat,
        path: &[u8],
    ) -> io::Result<()> {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => {
                let open = openat(at, name, READ, Mode::empty());
                let file = open.map_err(|error| named(error, path))?;
                let stat = fstat(&file)?;
                // Something else has taken the name since.
                if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
                    return Err(named(Errno::AGAIN, path));
                }
                self.file(file.as_fd(), &stat, path)
            }
            FileType::Symlink => {
                let target = readlinkat(at, name, Vec::new())?.into_bytes();
                self.other(stat, path, target)
            }
            _ => self.other(stat, path, Vec::new()),
        }
    }

    /// A regular file that is open.
    pub(super) fn file(
        &mut self,
        file: BorrowedFd<'_>,
        stat: &Stat,
        path: &[u8],
    ) -> io::Result<()> {
        let mut entry = entry(stat, Kind::File, path);
        if stat.st_nlink > 1
            && let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino))
        {
            entry.kind = Kind::HardLink;
            entry.link.clone_from(first);
            return self.write(&mut entry);
        }
        entry.size = stat.st_size as u64;
        self.attributes(file, &mut entry)?;
        if entry.kind == Kind::File && self.style.sparse {
            entry.sparse = segments(file, stat);
        }
        self.write(&mut entry)?;
        if stat.st_nlink > 1 {
            self.links
                .insert((stat.st_dev, stat.st_ino), entry.path.clone());
        }
        if entry.kind != Kind::File {
            return Ok(());
        }
        let mut file = File::from(file.try_clone_to_owned()?);
        let Some(segments) = &entry.sparse else {
            return self.content(&mut file, entry.size);
        };
        for segment in segments {
            seek(&file, SeekFrom::Start(segment.offset))?;
            self.content(&mut file, segment.length)?;
        }
        Ok(())
    }

    /// Bytes from where the file is read; zeros instead of those that it no longer has.
    fn content(&mut self, file: &mut File, size: u64) -> io::Result<()> {
        let mut left = size;
        while left > 0 {
            let limit =
                usize::try_from(left).map_or(self.buffer.len(), |left| left.min(self.buffer.len()));
            match file.read(&mut self.buffer[..limit]) {
                Ok(0) => {
                    self.buffer[..limit].fill(0);
                    self.writer.content(&self.buffer[..limit])?;
                    left -= limit as u64;
                }
                Ok(read) => {
                    self.writer.content(&self.buffer[..read])?;
                    left -= read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// A link, a pipe or a device; sockets mean nothing without their process.
    pub(super) fn other(&mut self, stat: &Stat, path: &[u8], target: Vec<u8>) -> io::Result<()> {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => Kind::Symlink,
            FileType::Fifo => Kind::Fifo,
            FileType::CharacterDevice => Kind::CharacterDevice,
            FileType::BlockDevice => Kind::BlockDevice,
            _ => return Ok(()),
        };
        let mut entry = entry(stat, kind, path);
        if stat.st_nlink > 1 {
            let key = (stat.st_dev, stat.st_ino);
            if let Some(first) = self.links.get(&key) {
                entry.kind = Kind::HardLink;
                entry.link.clone_from(first);
                return self.write(&mut entry);
            }
            self.links.insert(key, path.to_vec());
        }
        entry.link = target;
        if matches!(kind, Kind::CharacterDevice | Kind::BlockDevice) {
            entry.major = major(stat.st_rdev);
            entry.minor = minor(stat.st_rdev);
        }
        self.write(&mut entry)
    }

    /// An empty file of the root's, which says something in its name.
    pub(super) fn marker(&mut self, path: &[u8]) -> io::Result<()> {
        let mut entry = Entry {
            path: path.to_vec(),
            mode: 0o600,
            ..Entry::default()
        };
        self.write(&mut entry)
    }

    fn write(&mut self, entry: &mut Entry) -> io::Result<()> {
        (self.filter)(entry);
        self.writer.entry(entry)
    }

    /// Reads the attributes that an archive can hold and an extractor would set: those of users, and
    /// file capabilities.
    fn attributes(&self, file: BorrowedFd<'_>, entry: &mut Entry) -> io::Result<()> {
        for name in attribute_names(file) {
            if self.style.recorded.is_some() && is_half(&name) {
                return Err(io::Error::other(format!(
                    "{}: its content is in another layer (redirect_dir or metacopy), which an image can't \
                     tell",
                    String::from_utf8_lossy(&entry.path)
                )));
            }
            let is_acl = self.style.acls && name.starts_with(b"system.posix_acl_");
            let is_recorded = self.style.recorded.is_some() && name.starts_with(b"user.kelp.");
            let is_users = name.starts_with(b"user.")
                && !name.starts_with(b"user.overlay.")
                && !name.starts_with(b"user.kelp.");
            if !(name == b"security.capability" || is_acl || is_users || is_recorded) {
                continue;
            }
            let mut value = vec![0; 64 << 10];
            let Ok(length) = fgetxattr(file, &name[..], &mut value[..]) else {
                continue;
            };
            value.truncate(length);
            match self.style.recorded.filter(|_| is_recorded) {
                Some(ownership) => recorded::apply(entry, ownership, &name, &value)?,
                None => entry.xattrs.push((name, value)),
            }
        }
        entry.xattrs.sort();
        Ok(())
    }
}

/// Whether overlayfs says by this attribute that only part of a file or directory is here.
fn is_half(name: &[u8]) -> bool {
    let kind = [b"user.overlay.".as_slice(), b"trusted.overlay."]
        .iter()
        .find_map(|start| name.strip_prefix(*start));
    matches!(kind, Some(b"redirect" | b"metacopy"))
}

/// The names of a file's attributes; none where it has no such thing.
fn attribute_names(file: BorrowedFd<'_>) -> Vec<Vec<u8>> {
    let mut names = vec![0; 64 << 10];
    let length = flistxattr(file, &mut names[..]).unwrap_or(0);
    names[..length]
        .split(|&byte| byte == 0)
        .filter(|name| !name.is_empty())
        .map(<[u8]>::to_vec)
        .collect()
}

fn entry(stat: &Stat, kind: Kind, path: &[u8]) -> Entry {
    Entry {
        path: path.to_vec(),
        kind,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid.into(),
        gid: stat.st_gid.into(),
        mtime: stat.st_mtime,
        mtime_nanoseconds: stat.st_mtime_nsec as u32,
        ..Entry::default()
    }
}

/// Where a file has data, if its holes are worth a map.
fn segments(file: BorrowedFd<'_>, stat: &Stat) -> Option<Vec<Segment>> {
    let size = stat.st_size as u64;
    // Blocks of 512 bytes, whatever the file system's are (stat(2)).
    if (stat.st_blocks as u64).saturating_mul(512) + LEAST_HOLES > size {
        return None;
    }
    let mut segments = Vec::new();
    let (mut at, mut data) = (0, 0);
    while at < size {
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            // There is none behind it.
            Err(Errno::NXIO) => break,
            Err(_) => return None,
        };
        let end = seek(file, SeekFrom::Hole(start)).ok()?.min(size);
        if end <= start || segments.len() == MOST_SEGMENTS {
            break;
        }
        segments.push(Segment {
            offset: start,
            length: end - start,
        });
        data += end - start;
        at = end;
    }
    seek(file, SeekFrom::Start(0)).ok()?;
    if at < size && segments.len() == MOST_SEGMENTS {
        return None;
    }
    if segments
        .last()
        .is_none_or(|last| last.offset + last.length < size)
    {
        // GNU tar gives the file its size by a last one.
        segments.push(Segment {
            offset: size,
            length: 0,
        });
    }
    (data + LEAST_HOLES <= size).then_some(segments)
}

pub(super) fn named(error: Errno, path: &[u8]) -> io::Error {
    let error = io::Error::from(error);
    if error.kind() == io::ErrorKind::NotFound {
        return error;
    }
    let text = String::from_utf8_lossy(path);
    io::Error::new(error.kind(), format!("open {text}: {error}"))
}
