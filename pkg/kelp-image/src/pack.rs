//! Writing a tree as an archive, by descriptor.
//!
//! The tree may be a container's, at work meanwhile: directories and files are opened one name at a
//! time and no link is followed, so nothing outside of the tree is ever read. What vanishes is left
//! out, and a file that changes its size while it is read has the size it had.

use std::collections::{HashMap, HashSet};
use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, FsWord, Mode, OFlags, PROC_SUPER_MAGIC, Stat, fgetxattr, flistxattr,
    fstat, fstatfs, major, minor, openat, readlinkat, statat,
};
use rustix::io::Errno;

use crate::tar::write::TarWriter;
use crate::tar::{Entry, Kind};

/// Deeper trees than this would take too many descriptors.
const MAX_DEPTH: usize = 500;

const READ: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// Sees each entry before it is written, and may change it or drop it by returning false; a directory
/// that is dropped keeps its content.
pub type Filter<'a> = &'a mut dyn FnMut(&mut Entry) -> io::Result<bool>;

/// Writes what `top` is an open descriptor of, and all beneath it. Entries are named `name` and
/// `name/…`. A directory or regular file must be open for reading; of anything else an `O_PATH`
/// descriptor will do. What is mounted beneath it comes along, but not what the kernel tells there, and
/// not the devices of a container's /dev: such a directory is empty.
pub fn pack<W: Write>(
    top: &OwnedFd,
    name: &[u8],
    writer: &mut TarWriter<W>,
    filter: Filter<'_>,
) -> io::Result<()> {
    let stat = fstat(top)?;
    let mut pack = Pack {
        writer,
        filter,
        device: stat.st_dev,
        links: HashMap::new(),
        buffer: vec![0; 256 << 10],
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => pack.directory(top.as_fd(), &stat, name, 0),
        FileType::RegularFile => pack.file(top.as_fd(), &stat, name),
        FileType::Symlink => {
            let target = readlinkat(top, "", Vec::new())?.into_bytes();
            pack.other(&stat, name, target)
        }
        _ => pack.other(&stat, name, Vec::new()),
    }
}

struct Pack<'a, W> {
    writer: &'a mut TarWriter<W>,
    filter: Filter<'a>,
    /// The file system of the top.
    device: u64,
    /// Files with several names, and the first of them.
    links: HashMap<(u64, u64), Vec<u8>>,
    buffer: Vec<u8>,
}

impl<W: Write> Pack<'_, W> {
    fn directory(
        &mut self,
        directory: BorrowedFd<'_>,
        stat: &Stat,
        path: &[u8],
        depth: usize,
    ) -> io::Result<()> {
        if depth > MAX_DEPTH {
            return Err(io::Error::other("the directories are too deep"));
        }
        let mut entry = entry(stat, Kind::Directory, path);
        entry.xattrs = xattrs(directory);
        self.write(&mut entry)?;
        if depth > 0 && stat.st_dev != self.device && is_kernels(directory, path)? {
            return Ok(());
        }
        // A directory that is renamed in a race may be listed twice, and a second entry of a name
        // could say of a link that it is a directory.
        let mut seen = HashSet::new();
        for item in Dir::read_from(directory)? {
            let item = item?;
            let name = item.file_name();
            if matches!(name.to_bytes(), b"." | b"..") || !seen.insert(name.to_owned()) {
                continue;
            }
            let path = [path, b"/", name.to_bytes()].concat();
            match self.item(directory, name, &path, depth) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                result => result?,
            }
        }
        Ok(())
    }

    fn item(
        &mut self,
        at: BorrowedFd<'_>,
        name: &CStr,
        path: &[u8],
        depth: usize,
    ) -> io::Result<()> {
        let stat = statat(at, name, AtFlags::SYMLINK_NOFOLLOW)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let open = openat(at, name, READ | OFlags::DIRECTORY, Mode::empty());
                let directory = open.map_err(|error| named(error, path))?;
                let stat = fstat(&directory)?;
                self.directory(directory.as_fd(), &stat, path, depth + 1)
            }
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
                self.other(&stat, path, target)
            }
            _ => self.other(&stat, path, Vec::new()),
        }
    }

    fn file(&mut self, file: BorrowedFd<'_>, stat: &Stat, path: &[u8]) -> io::Result<()> {
        let mut entry = entry(stat, Kind::File, path);
        if stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&(stat.st_dev, stat.st_ino)) {
                entry.kind = Kind::HardLink;
                entry.link.clone_from(first);
                entry.size = 0;
                return self.write(&mut entry).map(drop);
            }
            self.links.insert((stat.st_dev, stat.st_ino), path.to_vec());
        }
        entry.size = stat.st_size as u64;
        entry.xattrs = xattrs(file);
        if !self.write(&mut entry)? {
            return Ok(());
        }
        let mut file = File::from(file.try_clone_to_owned()?);
        let mut left = entry.size;
        while left > 0 {
            let limit = self.buffer.len().min(left as usize);
            match file.read(&mut self.buffer[..limit]) {
                Ok(0) => break,
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
    fn other(&mut self, stat: &Stat, path: &[u8], target: Vec<u8>) -> io::Result<()> {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => Kind::Symlink,
            FileType::Fifo => Kind::Fifo,
            FileType::CharacterDevice => Kind::CharacterDevice,
            FileType::BlockDevice => Kind::BlockDevice,
            _ => return Ok(()),
        };
        let mut entry = entry(stat, kind, path);
        entry.link = target;
        if matches!(kind, Kind::CharacterDevice | Kind::BlockDevice) {
            entry.major = major(stat.st_rdev);
            entry.minor = minor(stat.st_rdev);
        }
        self.write(&mut entry).map(drop)
    }

    fn write(&mut self, entry: &mut Entry) -> io::Result<bool> {
        let kept = (self.filter)(entry)?;
        if kept {
            self.writer.entry(entry)?;
        }
        Ok(kept)
    }
}

/// Whether a directory on another file system than the top has no files that anybody keeps.
fn is_kernels(directory: BorrowedFd<'_>, path: &[u8]) -> io::Result<bool> {
    const TMPFS: FsWord = 0x0102_1994;
    /// sysfs, cgroup2, devpts, mqueue, debugfs, tracefs (statfs(2)).
    const OTHERS: &[FsWord] = &[
        0x6265_6572,
        0x6367_7270,
        0x1cd1,
        0x1980_0202,
        0x6462_6720,
        0x7472_6163,
    ];
    let kind = fstatfs(directory)?.f_type;
    Ok(kind == PROC_SUPER_MAGIC
        || OTHERS.contains(&kind)
        || kind == TMPFS && path.ends_with(b"/dev"))
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

/// The attributes that an archive can hold and an extractor would set: those of users, and file
/// capabilities.
fn xattrs(file: BorrowedFd<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut names = vec![0; 64 << 10];
    let length = flistxattr(file, &mut names[..]).unwrap_or(0);
    let mut list = Vec::new();
    for name in names[..length].split(|&byte| byte == 0) {
        let wanted = name == b"security.capability"
            || (name.starts_with(b"user.")
                && !name.starts_with(b"user.overlay.")
                && !name.starts_with(b"user.kelp."));
        if !wanted {
            continue;
        }
        let mut value = vec![0; 64 << 10];
        if let Ok(length) = fgetxattr(file, name, &mut value[..]) {
            value.truncate(length);
            list.push((name.to_vec(), value));
        }
    }
    list
}

fn named(error: Errno, path: &[u8]) -> io::Error {
    let error = io::Error::from(error);
    if error.kind() == io::ErrorKind::NotFound {
        return error;
    }
    let text = String::from_utf8_lossy(path);
    io::Error::new(error.kind(), format!("open {text}: {error}"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::Path;

    use super::*;
    use crate::unpack::{Options, Ownership, unpack};

    fn packed(top: &Path) -> Vec<u8> {
        let fd = rustix::fs::open(top, READ, Mode::empty()).unwrap();
        let mut writer = TarWriter::new(Vec::new());
        let mut filter = |entry: &mut Entry| {
            (entry.uid, entry.gid) = (0, 0);
            Ok(true)
        };
        pack(&fd, b".", &mut writer, &mut filter).unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn a_tree_is_the_same_after_packing_and_unpacking() {
        let from = tempfile::tempdir().unwrap();
        let root = from.path();
        fs::create_dir_all(root.join("a/b")).unwrap();
        fs::write(root.join("a/file"), "x".repeat(300_000)).unwrap();
        fs::set_permissions(root.join("a/file"), PermissionsExt::from_mode(0o640)).unwrap();
        fs::hard_link(root.join("a/file"), root.join("a/b/again")).unwrap();
        symlink("/etc/passwd", root.join("a/link")).unwrap();
        fs::write(root.join(format!("{}{}", "long".repeat(50), "name")), "").unwrap();
        let to = tempfile::tempdir().unwrap();
        let fd = rustix::fs::open(to.path(), READ, Mode::empty()).unwrap();
        let archive = io::Cursor::new(packed(root));
        unpack(archive, fd, Options::copy(Ownership::Single), None).unwrap();
        let copy = to.path();
        assert_eq!(fs::read(copy.join("a/file")).unwrap().len(), 300_000);
        let (file, again) = (
            fs::metadata(copy.join("a/file")).unwrap(),
            fs::metadata(copy.join("a/b/again")).unwrap(),
        );
        assert_eq!(file.ino(), again.ino());
        assert_eq!(file.mode() & 0o777, 0o640);
        assert_eq!(
            file.modified().unwrap(),
            fs::metadata(root.join("a/file"))
                .unwrap()
                .modified()
                .unwrap()
        );
        assert_eq!(
            fs::read_link(copy.join("a/link")).unwrap(),
            Path::new("/etc/passwd")
        );
        assert_eq!(fs::read_dir(copy).unwrap().count(), 2);
    }

    #[test]
    fn a_single_file_has_the_name_it_is_given() {
        let from = tempfile::tempdir().unwrap();
        fs::write(from.path().join("x"), "content").unwrap();
        let archive = packed(&from.path().join("x"));
        let mut reader = crate::tar::TarReader::new(archive.as_slice());
        let mut entry = Entry::default();
        assert!(reader.next(&mut entry).unwrap());
        assert_eq!((entry.path.as_slice(), entry.size), (&b"."[..], 7));
        assert!(!reader.next(&mut entry).unwrap());
    }
}
