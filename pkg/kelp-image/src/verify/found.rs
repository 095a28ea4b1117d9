//! Comparing the tree on disk with what its archive describes, by descriptor and following no link.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use kelp_copy::{Trail, names};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, SeekFrom, Stat, fstat, openat, readlinkat, seek, statat,
};
use rustix::io::{Errno, pread};

use super::Differences;
use super::attributes::{Attributes, has_acl};
use super::content::ContentHash;
use super::expected::{Content, Inode, ROOT, Tree};
use crate::Error;
use crate::digest::Digest;
use crate::unpack::path::show;
use crate::unpack::whiteout::{OPAQUE_MARKER, PREFIX, is_opaque_at, is_whiteout};

/// Bytes of a file that are read at a time.
const BUFFER: usize = 256 << 10;

/// The unit of `st_blocks` (stat(3type)).
const BLOCK: u64 = 512;

const OPEN: OFlags = OFlags::RDONLY
    .union(OFlags::NOFOLLOW)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY)
    .union(OFlags::CLOEXEC);

/// Compares the tree beneath `root`; what differs is added to `differences`.
pub(super) fn compare(
    tree: &Tree,
    root: OwnedFd,
    attributes: &mut Attributes,
    differences: &mut Differences,
) -> Result<(), Error> {
    let mut comparison = Comparison {
        tree,
        attributes,
        differences,
        path: Vec::new(),
        places: HashMap::new(),
        buffer: vec![0; BUFFER],
    };
    comparison.walk(root)
}

struct Comparison<'a> {
    tree: &'a Tree,
    attributes: &'a mut Attributes,
    differences: &'a mut Differences,
    path: Vec<u8>,
    /// Where on disk each of the tree's inodes was found first, and by which path.
    places: HashMap<usize, ((u64, u64), Vec<u8>)>,
    buffer: Vec<u8>,
}

/// A directory that is being compared.
struct Level {
    /// Names that are on disk and in the archive, and are still to be compared.
    names: Vec<(Vec<u8>, usize)>,
    /// Names that a marker says are gone from the layers below.
    markers: BTreeSet<Vec<u8>>,
    /// How long the directory's path is.
    length: usize,
}

impl Comparison<'_> {
    fn walk(&mut self, root: OwnedFd) -> Result<(), Error> {
        let failed = |error| Error::io("read an extracted layer")(error);
        let stat = fstat(&root).map_err(Error::io("look at an extracted layer"))?;
        self.look(&stat, &self.tree.inodes[ROOT]);
        let mut levels = vec![self.enter(root.as_fd(), ROOT, false)?];
        let mut trail = Trail::new(root).map_err(failed)?;
        while let Some(level) = levels.last_mut() {
            self.path.truncate(level.length);
            let Some((name, inode)) = level.names.pop() else {
                levels.pop();
                trail.leave().map_err(failed)?;
                continue;
            };
            if level.length > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(&name);
            let hidden = level.markers.contains(&name);
            let entered = self
                .entry(trail.here(), &name, inode)
                .map_err(|errno| Error::io(format!("read {}", show(&self.path)))(errno))?;
            if let Some(directory) = entered {
                levels.push(self.enter(directory.as_fd(), inode, hidden)?);
                trail.enter(directory).map_err(failed)?;
            }
        }
        Ok(())
    }

    /// Compares what a directory is and which names it has. `hidden` is whether a marker beside it does
    /// what the opaque mark would.
    fn enter(
        &mut self,
        directory: BorrowedFd<'_>,
        inode: usize,
        hidden: bool,
    ) -> Result<Level, Error> {
        let expected = &self.tree.inodes[inode];
        let nothing = BTreeMap::new();
        let children = match &expected.content {
            Content::Directory(children) => children,
            _ => &nothing,
        };
        let found = names(directory).map_err(Error::io("read an extracted layer"))?;
        let found: BTreeSet<Vec<u8>> = found.into_iter().map(CString::into_bytes).collect();
        let is_opaque = is_opaque_at(directory) || found.contains(OPAQUE_MARKER) || hidden;
        if expected.opaque != is_opaque {
            self.differ(if is_opaque {
                "hides what is below, and should not"
            } else {
                "does not hide what is below"
            });
        }
        self.compare_attributes(directory, expected)
            .map_err(|errno| Error::io(format!("read {}", show(&self.path)))(errno))?;
        let mut level = Level {
            names: Vec::new(),
            markers: found
                .iter()
                .filter_map(|name| Some(name.strip_prefix(PREFIX)?.to_vec()))
                .collect(),
            length: self.path.len(),
        };
        for (name, &child) in children {
            let is_whiteout = matches!(self.tree.inodes[child].content, Content::Whiteout);
            if found.contains(name) {
                level.names.push((name.clone(), child));
            } else if !(is_whiteout && level.markers.contains(name)) {
                self.differ_in(name, "is missing");
            }
        }
        for name in &found {
            let meant = name.strip_prefix(PREFIX).unwrap_or(name);
            if name != OPAQUE_MARKER && !children.contains_key(meant) {
                self.differ_in(name, "is not in the archive");
            }
        }
        // The last one is compared first.
        level.names.reverse();
        Ok(level)
    }

    /// Compares what has a name; a directory that is to be entered.
    fn entry(
        &mut self,
        at: BorrowedFd<'_>,
        name: &[u8],
        inode: usize,
    ) -> rustix::io::Result<Option<OwnedFd>> {
        let tree = self.tree;
        let expected = &tree.inodes[inode];
        let stat = statat(at, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let (is, should) = (kind(&stat), expected.kind());
        if is != should {
            self.differ(format!("is {is} instead of {should}"));
            return Ok(None);
        }
        self.look(&stat, expected);
        match &expected.content {
            Content::Directory(_) => {
                return openat(at, name, OPEN | OFlags::DIRECTORY, Mode::empty()).map(Some);
            }
            Content::Symlink(target) => {
                let found = readlinkat(at, name, Vec::new())?;
                if found.as_bytes() != target {
                    let (found, target) = (show(found.as_bytes()), show(target));
                    self.differ(format!("leads to {found} instead of {target}"));
                }
            }
            Content::File { size, digest } => {
                if self.is_first(&stat, inode) {
                    let file = openat(at, name, OPEN, Mode::empty())?;
                    self.file(&file, &stat, *size, digest)?;
                    self.compare_attributes(file.as_fd(), expected)?;
                }
            }
            Content::Fifo | Content::Whiteout => {
                self.is_first(&stat, inode);
            }
        }
        Ok(None)
    }

    /// Whether this is the first name of a file; a later one must be of the same.
    fn is_first(&mut self, stat: &Stat, inode: usize) -> bool {
        let place = (stat.st_dev, stat.st_ino);
        let Some((first, path)) = self.places.get(&inode) else {
            self.places.insert(inode, (place, self.path.clone()));
            return true;
        };
        if *first == place {
            return false;
        }
        let path = show(path);
        self.differ(format!("is no longer one file with {path}"));
        true
    }

    /// Compares mode and owner.
    fn look(&mut self, stat: &Stat, expected: &Inode) {
        let mut found = stat.st_mode & 0o7777;
        if matches!(expected.content, Content::Fifo) {
            found &= 0o1777;
        }
        // A list gives the bits of the group another meaning.
        let compared = if has_acl(&expected.attributes) {
            0o7000
        } else {
            0o7777
        };
        if let Some(mode) = expected.mode
            && mode & compared != found & compared
        {
            self.differ(format!("has mode {found:04o} instead of {mode:04o}"));
        }
        let owner = (u64::from(stat.st_uid), u64::from(stat.st_gid));
        if let Some(expected) = expected.owner
            && expected != owner
        {
            let (uid, gid) = owner;
            self.differ(format!(
                "belongs to {uid}:{gid} instead of {}:{}",
                expected.0, expected.1
            ));
        }
    }

    fn file(
        &mut self,
        file: &OwnedFd,
        stat: &Stat,
        size: u64,
        digest: &Digest,
    ) -> rustix::io::Result<()> {
        let found = stat.st_size.cast_unsigned();
        if found != size {
            self.differ(format!("has {found} bytes instead of {size}"));
        } else if self.content(file, stat)? != *digest {
            self.differ("has other content");
        }
        Ok(())
    }

    fn content(&mut self, file: &OwnedFd, stat: &Stat) -> rustix::io::Result<Digest> {
        let mut hash = ContentHash::new();
        let size = stat.st_size.cast_unsigned();
        let is_sparse = stat.st_blocks.cast_unsigned() * BLOCK < size;
        let mut at = 0;
        while at < size {
            let mut end = size;
            if is_sparse {
                at = match seek(file, SeekFrom::Data(at)) {
                    Ok(start) => start,
                    // A hole to the end.
                    Err(Errno::NXIO) => break,
                    // No holes are known.
                    Err(_) => at,
                };
                end = seek(file, SeekFrom::Hole(at)).unwrap_or(size).min(size);
            }
            while at < end {
                let limit = self
                    .buffer
                    .len()
                    .min(usize::try_from(end - at).unwrap_or(BUFFER));
                match pread(file, &mut self.buffer[..limit], at) {
                    Ok(0) => return Ok(hash.finish()),
                    Ok(read) => {
                        hash.add(at, &self.buffer[..read]);
                        at += read as u64;
                    }
                    Err(Errno::INTR) => {}
                    Err(errno) => return Err(errno),
                }
            }
        }
        Ok(hash.finish())
    }

    fn compare_attributes(
        &mut self,
        file: BorrowedFd<'_>,
        expected: &Inode,
    ) -> rustix::io::Result<()> {
        let is_directory = matches!(expected.content, Content::Directory(_));
        for what in self
            .attributes
            .compare(file, &expected.attributes, is_directory)?
        {
            self.differ(what);
        }
        Ok(())
    }

    fn differ(&mut self, what: impl Into<String>) {
        self.differences.add(&self.path, what.into());
    }

    fn differ_in(&mut self, name: &[u8], what: &str) {
        let slash: &[u8] = if self.path.is_empty() { b"" } else { b"/" };
        self.differences
            .add(&[&self.path, slash, name].concat(), what.to_owned());
    }
}

impl Inode {
    fn kind(&self) -> &'static str {
        match self.content {
            Content::Directory(_) => DIRECTORY,
            Content::File { .. } => FILE,
            Content::Symlink(_) => "a symbolic link",
            Content::Fifo => "a pipe",
            Content::Whiteout => "a whiteout",
        }
    }
}

const DIRECTORY: &str = "a directory";
const FILE: &str = "a file";

fn kind(stat: &Stat) -> &'static str {
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => DIRECTORY,
        FileType::RegularFile => FILE,
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a pipe",
        _ if is_whiteout(stat) => "a whiteout",
        FileType::Socket => "a socket",
        _ => "a device",
    }
}
