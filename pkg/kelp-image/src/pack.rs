//! Writing a tree as an archive, by descriptor.
//!
//! The tree may be a container's, at work meanwhile: directories and files are opened one name at a
//! time and no link is followed, so nothing outside of the tree is ever read. What vanishes is left
//! out, and a file that changes its size while it is read has the size it had.
//!
//! A copy has a tree as it is ([`pack`]). A layer is made of what an overlay has written ([`changes`]) or
//! of some paths of a tree ([`paths`]), and an export of what layers show together ([`shown`]). These
//! three have their names in order, so that the same files make the same archive.

pub mod changes;
mod entries;
pub mod paths;
mod recorded;
pub mod shown;

use std::collections::HashSet;
use std::ffi::CStr;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{
    AtFlags, Dir, FileType, FsWord, Mode, OFlags, PROC_SUPER_MAGIC, Stat, fstat, fstatfs, openat,
    readlinkat, statat,
};

use crate::tar::write::TarWriter;
use entries::Entries;
pub use entries::{Filter, Style};

/// Deeper trees than this would take too many descriptors.
const MAX_DEPTH: usize = 500;

const READ: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

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
        entries: Entries::new(writer, Style::default(), filter),
        device: stat.st_dev,
    };
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => pack.directory(top.as_fd(), &stat, name, 0),
        FileType::RegularFile => pack.entries.file(top.as_fd(), &stat, name),
        FileType::Symlink => {
            let target = readlinkat(top, "", Vec::new())?.into_bytes();
            pack.entries.other(&stat, name, target)
        }
        _ => pack.entries.other(&stat, name, Vec::new()),
    }
}

struct Pack<'a, W> {
    entries: Entries<'a, W>,
    /// The file system of the top.
    device: u64,
}

impl<W: Write> Pack<'_, W> {
    fn directory(
        &mut self,
        directory: BorrowedFd<'_>,
        stat: &Stat,
        path: &[u8],
        depth: usize,
    ) -> io::Result<()> {
        check_depth(depth)?;
        self.entries.directory(directory, stat, path)?;
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
            gone_is_nothing(self.item(directory, name, &path, depth))?;
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
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return self.entries.item(at, name, &stat, path);
        }
        let directory = open_directory(at, name, path)?;
        let stat = fstat(&directory)?;
        self.directory(directory.as_fd(), &stat, path, depth + 1)
    }
}

fn check_depth(depth: usize) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(io::Error::other("the directories are too deep"));
    }
    Ok(())
}

/// What vanishes while it is packed is left out.
fn gone_is_nothing(packed: io::Result<()>) -> io::Result<()> {
    match packed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        packed => packed,
    }
}

fn open_directory(at: BorrowedFd<'_>, name: &CStr, path: &[u8]) -> io::Result<OwnedFd> {
    openat(at, name, READ | OFlags::DIRECTORY, Mode::empty())
        .map_err(|error| entries::named(error, path))
}

/// The path of what a directory has: names of archives have no slash at their beginning.
fn below(path: &[u8], name: &[u8]) -> Vec<u8> {
    if path.is_empty() {
        return name.to_vec();
    }
    [path, b"/", name].concat()
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

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    use std::path::Path;

    use super::*;
    use crate::tar::Entry;
    use crate::unpack::{Options, Ownership, unpack};

    fn packed(top: &Path) -> Vec<u8> {
        let fd = rustix::fs::open(top, READ, Mode::empty()).unwrap();
        let mut writer = TarWriter::new(Vec::new());
        let mut filter = |entry: &mut Entry| {
            (entry.uid, entry.gid) = (0, 0);
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
