//! The tree that an archive describes, in memory: what the extractor would have made of it.
//!
//! It follows the rules of [`crate::unpack`] entry by entry, whatever order they come in: a later
//! entry replaces, a directory keeps what it has, whiteouts concern lower layers alone, and parents are
//! found through links of the same layer.

use std::collections::{BTreeMap, VecDeque};
use std::io::BufRead;
use std::ops::Bound;

use super::Ids;
use super::content::ContentHash;
use crate::Error;
use crate::digest::Digest;
use crate::tar::{Entry, Kind, TarReader};
use crate::unpack::archive_error;
use crate::unpack::metadata::{attributes, mode_on_disk};
use crate::unpack::path::{clean, show, split};
use crate::unpack::whiteout::{PREFIX, is_beneath_marker, is_marker, is_within_marker};

/// The root's place among the inodes.
pub(super) const ROOT: usize = 0;

/// As many links as the kernel follows in one path (path_resolution(7)).
const LINK_LIMIT: usize = 40;

/// What an archive describes.
#[derive(Debug)]
pub(super) struct Tree {
    pub(super) inodes: Vec<Inode>,
    /// Metadata of directories by the path that the archive has for them; applied at the end.
    directories: BTreeMap<Vec<u8>, Pending>,
    ids: Ids,
    /// Bytes of content, as the layer's info counts them.
    pub(super) size: u64,
    /// Entries of the archive.
    pub(super) files: u64,
}

/// Something with one or several names.
#[derive(Debug)]
pub(super) struct Inode {
    pub(super) content: Content,
    /// Its mode on disk, where that is told.
    pub(super) mode: Option<u32>,
    /// User and group, as the process sees them.
    pub(super) owner: Option<(u64, u64)>,
    pub(super) attributes: BTreeMap<Vec<u8>, Vec<u8>>,
    pub(super) opaque: bool,
}

#[derive(Debug)]
pub(super) enum Content {
    Directory(BTreeMap<Vec<u8>, usize>),
    File { size: u64, digest: Digest },
    Symlink(Vec<u8>),
    Fifo,
    Whiteout,
}

#[derive(Debug, Default)]
struct Pending {
    entry: Option<Box<Entry>>,
    opaque: bool,
}

impl Tree {
    pub(super) fn new(ids: Ids) -> Self {
        let mut tree = Self {
            inodes: Vec::new(),
            directories: BTreeMap::new(),
            ids,
            size: 0,
            files: 0,
        };
        tree.new_directory();
        tree
    }

    fn new_directory(&mut self) -> usize {
        let owner = Some(self.ids.root);
        self.push(Inode {
            content: Content::Directory(BTreeMap::new()),
            mode: Some(0o755),
            owner,
            attributes: BTreeMap::new(),
            opaque: false,
        })
    }

    fn push(&mut self, inode: Inode) -> usize {
        self.inodes.push(inode);
        self.inodes.len() - 1
    }

    /// Adds an entry, whose ids are the process's already.
    pub(super) fn add<R: BufRead>(
        &mut self,
        entry: &Entry,
        reader: &mut TarReader<R>,
    ) -> Result<(), Error> {
        let mut path = Vec::new();
        clean(&entry.path, &mut path).ok_or_else(|| lost(&entry.path))?;
        self.files += 1;
        if path.is_empty() {
            self.directory_entry(&path, entry);
            return Ok(());
        }
        if is_within_marker(&path) {
            if is_beneath_marker(&path) {
                return Ok(());
            }
            return Err(lost(&path));
        }
        let (parent, name) = split(&path);
        if is_marker(name) {
            return self.marker(parent, name);
        }
        let content = match entry.kind {
            Kind::Directory => return self.directory(&path, entry),
            Kind::HardLink => return self.hard_link(&path, entry),
            Kind::File => self.file(entry, reader)?,
            Kind::Symlink => Content::Symlink(entry.link.clone()),
            Kind::Fifo => Content::Fifo,
            Kind::CharacterDevice if (entry.major, entry.minor) == (0, 0) => Content::Whiteout,
            Kind::CharacterDevice | Kind::BlockDevice => Content::File {
                size: 0,
                digest: ContentHash::new().finish(),
            },
        };
        let inode = self.inode(content, entry);
        let inode = self.push(inode);
        self.place(&path, inode)
    }

    fn inode(&self, content: Content, entry: &Entry) -> Inode {
        let is_file = matches!(content, Content::File { .. });
        let is_whiteout = matches!(content, Content::Whiteout);
        Inode {
            mode: is_file
                .then(|| mode_on_disk(self.ids.ownership, entry))
                .or((entry.kind == Kind::Fifo).then_some(entry.mode & 0o1777)),
            owner: (!is_whiteout).then(|| self.ids.owner(entry)),
            attributes: if is_file {
                self.attributes(entry)
            } else {
                BTreeMap::new()
            },
            opaque: false,
            content,
        }
    }

    fn attributes(&self, entry: &Entry) -> BTreeMap<Vec<u8>, Vec<u8>> {
        attributes(self.ids.ownership, entry)
            .0
            .into_iter()
            .map(|(name, value)| (name.to_vec(), value.into_owned()))
            .collect()
    }

    fn file<R: BufRead>(
        &mut self,
        entry: &Entry,
        reader: &mut TarReader<R>,
    ) -> Result<Content, Error> {
        let mut hash = ContentHash::new();
        self.size += reader.remaining();
        let whole = [crate::tar::sparse::Segment {
            offset: 0,
            length: reader.remaining(),
        }];
        for segment in entry.sparse.as_deref().unwrap_or(&whole) {
            let (mut offset, mut left) = (segment.offset, segment.length);
            while left > 0 {
                let bytes = reader.content().map_err(archive_error)?;
                let count = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                hash.add(offset, &bytes[..count]);
                reader.consume(count);
                offset += count as u64;
                left -= count as u64;
            }
        }
        Ok(Content::File {
            size: entry.size,
            digest: hash.finish(),
        })
    }

    /// Gives an inode a name, in the place of what has it.
    fn place(&mut self, path: &[u8], inode: usize) -> Result<(), Error> {
        let (parent, name) = split(path);
        let parent = self.parent(parent)?;
        self.make_way(path, parent, name);
        self.names(parent).insert(name.to_vec(), inode);
        Ok(())
    }

    fn names(&mut self, directory: usize) -> &mut BTreeMap<Vec<u8>, usize> {
        match &mut self.inodes[directory].content {
            Content::Directory(names) => names,
            _ => unreachable!("only directories are found as parents"),
        }
    }

    fn child(&self, directory: usize, name: &[u8]) -> Option<usize> {
        match &self.inodes[directory].content {
            Content::Directory(names) => names.get(name).copied(),
            _ => None,
        }
    }

    fn is_directory(&self, inode: usize) -> bool {
        matches!(self.inodes[inode].content, Content::Directory(_))
    }

    fn is_whiteout(&self, inode: usize) -> bool {
        matches!(self.inodes[inode].content, Content::Whiteout)
    }

    fn make_way(&mut self, path: &[u8], parent: usize, name: &[u8]) {
        let Some(old) = self.names(parent).remove(name) else {
            return;
        };
        if self.is_directory(old) {
            self.forget(path);
        }
    }

    /// Forgets what was to be set of a directory that is gone, and of all beneath it.
    fn forget(&mut self, path: &[u8]) {
        self.directories.remove(path);
        let first = [path, b"/"].concat();
        let beneath = (Bound::Included(first.clone()), Bound::Unbounded);
        let paths: Vec<_> = self
            .directories
            .range(beneath)
            .map(|(path, _)| path.clone())
            .take_while(|path| path.starts_with(&first))
            .collect();
        for path in paths {
            self.directories.remove(&path);
        }
    }

    fn directory_entry(&mut self, path: &[u8], entry: &Entry) {
        // Without what may be long and says nothing of a directory.
        let entry = Entry {
            path: Vec::new(),
            link: Vec::new(),
            ..entry.clone()
        };
        self.directories.entry(path.to_vec()).or_default().entry = Some(Box::new(entry));
    }

    fn set_opaque(&mut self, path: &[u8]) {
        self.directories.entry(path.to_vec()).or_default().opaque = true;
    }

    fn directory(&mut self, path: &[u8], entry: &Entry) -> Result<(), Error> {
        let (parent, name) = split(path);
        let parent = self.parent(parent)?;
        let old = self.child(parent, name);
        if old.is_none_or(|old| !self.is_directory(old)) {
            self.make_way(path, parent, name);
            let made = self.new_directory();
            self.names(parent).insert(name.to_vec(), made);
            if old.is_some() {
                self.set_opaque(path);
            }
        }
        self.directory_entry(path, entry);
        Ok(())
    }

    fn hard_link(&mut self, path: &[u8], entry: &Entry) -> Result<(), Error> {
        let mut target = Vec::new();
        clean(&entry.link, &mut target).ok_or_else(|| lost(&entry.link))?;
        let (parent, name) = split(path);
        let parent = self.parent(parent)?;
        let (target_parent, target_name) = split(&target);
        let target = self
            .resolve(target_parent, false)
            .and_then(|directory| self.child(directory, target_name))
            .ok_or_else(|| lost(&entry.link))?;
        if self.child(parent, name) != Some(target) {
            self.make_way(path, parent, name);
            self.names(parent).insert(name.to_vec(), target);
        }
        Ok(())
    }

    fn marker(&mut self, parent: &[u8], marker: &[u8]) -> Result<(), Error> {
        let directory = self.parent(parent)?;
        let name = match &marker[PREFIX.len()..] {
            b".wh..opq" => {
                self.set_opaque(parent);
                return Ok(());
            }
            other if other.starts_with(PREFIX) => return Ok(()),
            name => name,
        };
        match self.child(directory, name) {
            None => {
                let whiteout = self.push(Inode {
                    content: Content::Whiteout,
                    mode: None,
                    owner: None,
                    attributes: BTreeMap::new(),
                    opaque: false,
                });
                self.names(directory).insert(name.to_vec(), whiteout);
            }
            Some(found) if self.is_directory(found) => {
                let mut path = parent.to_vec();
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(name);
                self.set_opaque(&path);
            }
            Some(_) => {}
        }
        Ok(())
    }

    fn parent(&mut self, path: &[u8]) -> Result<usize, Error> {
        self.resolve(path, true).ok_or_else(|| lost(path))
    }

    /// The directory at a clean path; with `create`, missing ones are made.
    fn resolve(&mut self, path: &[u8], create: bool) -> Option<usize> {
        let mut here = ROOT;
        let mut end = 0;
        for name in path
            .split(|&byte| byte == b'/')
            .filter(|name| !name.is_empty())
        {
            end += name.len() + usize::from(end > 0);
            here = match self.child(here, name) {
                Some(found) if self.is_directory(found) => found,
                Some(found) if create && self.is_whiteout(found) => {
                    self.set_opaque(&path[..end]);
                    self.implied(here, &path[..end])
                }
                Some(_) => self.follow(&path[..end])?,
                None if create => self.implied(here, &path[..end]),
                None => return None,
            };
        }
        Some(here)
    }

    /// Makes a directory that the archive has files in but no entry of.
    fn implied(&mut self, parent: usize, path: &[u8]) -> usize {
        let made = self.new_directory();
        self.names(parent).insert(split(path).1.to_vec(), made);
        if let Some(pending) = self.directories.get_mut(path) {
            pending.entry = None;
        }
        made
    }

    /// A directory whose path has symbolic links in it, from the root on.
    fn follow(&self, path: &[u8]) -> Option<usize> {
        let push = |pending: &mut VecDeque<Vec<u8>>, text: &[u8]| {
            for name in text.split(|&byte| byte == b'/').rev() {
                if !matches!(name, b"" | b".") {
                    pending.push_front(name.to_vec());
                }
            }
        };
        let mut pending = VecDeque::new();
        push(&mut pending, path);
        let mut passed = Vec::new();
        let mut links = 0;
        while let Some(name) = pending.pop_front() {
            if name == b".." {
                passed.pop();
                continue;
            }
            let found = self.child(passed.last().copied().unwrap_or(ROOT), &name)?;
            match &self.inodes[found].content {
                Content::Directory(_) => passed.push(found),
                Content::Symlink(target) => {
                    links += 1;
                    if links > LINK_LIMIT {
                        return None;
                    }
                    if target.starts_with(b"/") {
                        passed.clear();
                    }
                    push(&mut pending, target);
                }
                _ => return None,
            }
        }
        Some(passed.pop().unwrap_or(ROOT))
    }

    /// Gives directories what was to be set at the end.
    pub(super) fn finish(&mut self) {
        let directories = std::mem::take(&mut self.directories);
        for (path, pending) in directories.iter().rev() {
            let (parent, name) = split(path);
            let found = if path.is_empty() {
                Some(ROOT)
            } else {
                self.resolve(parent, false)
                    .and_then(|parent| self.child(parent, name))
            };
            let Some(found) = found.filter(|&found| self.is_directory(found)) else {
                continue;
            };
            self.inodes[found].opaque |= pending.opaque;
            if let Some(entry) = &pending.entry {
                let (mode, owner) = (
                    mode_on_disk(self.ids.ownership, entry),
                    self.ids.owner(entry),
                );
                let attributes = self.attributes(entry);
                let inode = &mut self.inodes[found];
                inode.mode = Some(mode);
                inode.owner = Some(owner);
                inode.attributes = attributes;
            }
        }
    }
}

fn lost(path: &[u8]) -> Error {
    Error::Archive(format!(
        "{}: its place in the archive can't be found",
        show(path)
    ))
}
