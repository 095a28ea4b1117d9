//! A directory as it is on disk, to the last byte: for comparing one extraction with another.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, SeekFrom, Stat, chmodat, fgetxattr, flistxattr, fstat,
    openat, readlinkat, seek, statat,
};
use rustix::io::{Errno, pread};

/// The most bytes of one file's data that are looked at.
const DATA_LIMIT: u64 = 16 << 20;

/// What has a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The kind, with the permissions.
    pub mode: u32,
    /// The owner and the group.
    pub owner: (u32, u32),
    /// Seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// A file's length; nothing of a directory, whose size tells of its past.
    pub size: u64,
    /// A device's number.
    pub device: u64,
    /// Where a symbolic link leads.
    pub link: Vec<u8>,
    /// Stretches of data between holes, each with where it begins.
    pub data: Vec<(u64, Vec<u8>)>,
    /// Attributes in the order of their names.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// The first of the names that this file has, and how many there are.
    pub first_name: Vec<u8>,
    /// How many names it has; nothing of a directory.
    pub names: u64,
}

/// Everything beneath a directory by its path; the directory itself is the empty path. Directories and
/// files that can't be read are made readable.
///
/// # Panics
/// If something can't be looked at.
#[must_use]
pub fn read(root: &Path) -> BTreeMap<Vec<u8>, Node> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let parent = rustix::fs::open(root, flags, Mode::empty()).expect("a root");
    let mut tree = BTreeMap::new();
    let mut inodes = BTreeMap::new();
    let opened = node(&mut tree, &mut inodes, parent.as_fd(), b".", Vec::new());
    beneath(&mut tree, &mut inodes, &opened.expect("a directory"), b"");
    tree
}

type Tree = BTreeMap<Vec<u8>, Node>;
type Inodes = BTreeMap<(u64, u64), Vec<u8>>;

fn beneath(tree: &mut Tree, inodes: &mut Inodes, directory: &OwnedFd, path: &[u8]) {
    let mut names: Vec<Vec<u8>> = Dir::read_from(directory)
        .expect("list a directory")
        .map(|entry| {
            entry
                .expect("list a directory")
                .file_name()
                .to_bytes()
                .to_vec()
        })
        .filter(|name| name != b"." && name != b"..")
        .collect();
    names.sort();
    for name in names {
        let path = if path.is_empty() {
            name.clone()
        } else {
            [path, b"/", &name].concat()
        };
        if let Some(inner) = node(tree, inodes, directory.as_fd(), &name, path.clone()) {
            beneath(tree, inodes, &inner, &path);
        }
    }
}

/// Notes one name; a directory is returned, opened.
fn node(
    tree: &mut Tree,
    inodes: &mut Inodes,
    at: BorrowedFd<'_>,
    name: &[u8],
    path: Vec<u8>,
) -> Option<OwnedFd> {
    let stat = statat(at, name, AtFlags::SYMLINK_NOFOLLOW).expect("look at a file");
    let kind = FileType::from_raw_mode(stat.st_mode);
    let is_directory = kind == FileType::Directory;
    let first_name = inodes
        .entry((stat.st_dev, stat.st_ino))
        .or_insert(path.clone());
    let mut node = Node {
        mode: stat.st_mode,
        owner: (stat.st_uid, stat.st_gid),
        mtime: (stat.st_mtime, stat.st_mtime_nsec as u32),
        size: if is_directory { 0 } else { stat.st_size as u64 },
        device: stat.st_rdev,
        link: Vec::new(),
        data: Vec::new(),
        xattrs: BTreeMap::new(),
        first_name: first_name.clone(),
        names: if is_directory { 0 } else { stat.st_nlink },
    };
    let mut inner = None;
    match kind {
        FileType::Symlink => {
            let target = readlinkat(at, name, Vec::new()).expect("read a link");
            node.link = target.into_bytes();
        }
        FileType::RegularFile | FileType::Directory => {
            let file = open(at, name, &stat);
            node.xattrs = xattrs(file.as_fd());
            if is_directory {
                inner = Some(file);
            } else {
                node.data = data(file.as_fd());
            }
        }
        _ => {}
    }
    tree.insert(path, node);
    inner
}

fn open(at: BorrowedFd<'_>, name: &[u8], stat: &Stat) -> OwnedFd {
    let wanted = if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        0o700
    } else {
        0o600
    };
    if stat.st_mode & wanted != wanted {
        let mode = Mode::from_raw_mode((stat.st_mode & 0o7777) | wanted);
        chmodat(at, name, mode, AtFlags::empty()).expect("make a file readable");
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    openat(at, name, flags, Mode::empty()).expect("open a file")
}

fn data(file: BorrowedFd<'_>) -> Vec<(u64, Vec<u8>)> {
    let size = fstat(file).expect("look at a file").st_size as u64;
    let mut data = Vec::new();
    let mut from = 0;
    while from < size {
        let start = match seek(file, SeekFrom::Data(from)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(errno) => panic!("look for data: {errno}"),
        };
        let end = seek(file, SeekFrom::Hole(start)).expect("look for a hole");
        let mut bytes = vec![0; (end - start).min(DATA_LIMIT) as usize];
        let mut filled = 0;
        while filled < bytes.len() {
            let count = pread(file, &mut bytes[filled..], start + filled as u64);
            match count.expect("read a file") {
                0 => break,
                count => filled += count,
            }
        }
        data.push((start, bytes));
        from = end;
    }
    data
}

fn xattrs(file: BorrowedFd<'_>) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut names = vec![0; 64 << 10];
    let length = flistxattr(file, &mut names[..]).unwrap_or(0);
    let names = names[..length].split(|&byte| byte == 0);
    let get = |name: &[u8]| {
        let mut value = vec![0; 64 << 10];
        let length = fgetxattr(file, name, &mut value[..]).ok()?;
        value.truncate(length);
        Some((name.to_vec(), value))
    };
    names
        .filter(|name| !name.is_empty())
        .filter_map(get)
        .collect()
}

/// What differs between two trees, a line each; empty if nothing does.
#[must_use]
pub fn differences(one: &Tree, other: &Tree) -> Vec<String> {
    let mut lines = Vec::new();
    for path in one
        .keys()
        .chain(other.keys().filter(|path| !one.contains_key(*path)))
    {
        let shown = path.escape_ascii();
        match (one.get(path), other.get(path)) {
            (Some(one), Some(other)) if one == other => {}
            (Some(one), Some(other)) => {
                let (one, other) = (format!("{one:?}"), format!("{other:?}"));
                let cut = |text: &str| text.chars().take(600).collect::<String>();
                lines.push(format!("{shown}:\n  {}\n  {}", cut(&one), cut(&other)));
            }
            (Some(_), None) => lines.push(format!("{shown}: only in the first")),
            (None, _) => lines.push(format!("{shown}: only in the second")),
        }
    }
    lines
}
