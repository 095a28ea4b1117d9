//! What directories get at the end.
//!
//! A file made in a directory changes its times, a mode may forbid making files in it, and setgid
//! would hand its group on; so owners, modes, attributes and times wait until all else is done.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{Mode, OFlags, futimens, openat};
use rustix::io::Errno;

use super::entry::operation;
use super::metadata::{Metadata, times};
use super::path::split;
use super::walker::{IMPLICIT_MODE, Walker};
use super::whiteout;
use crate::Error;
use crate::tar::{Entry, Kind};

/// The most bytes that are remembered of directories: enough for some three million. Each is remembered by its
/// whole path, so directories that have no entries of their own may take many times what their archive has.
const LIMIT: usize = 1 << 30;

/// Directories by their clean paths.
#[derive(Debug, Default)]
pub(super) struct Directories {
    known: BTreeMap<Vec<u8>, Directory>,
    /// About how many bytes were remembered so far.
    bytes: usize,
}

#[derive(Debug, Default)]
struct Directory {
    /// Metadata alone; `None` for one that only an opaque marker is known of.
    entry: Option<Box<Entry>>,
    mode_on_disk: Option<u32>,
    /// Whether the archive never gave it an entry, and so no time.
    implicit: bool,
    opaque: bool,
}

const OPEN: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

impl Directories {
    /// Notes a directory's entry; a later one counts.
    pub(super) fn add(&mut self, path: &[u8], entry: &Entry, mode_on_disk: Option<u32>) {
        let entry = Entry {
            path: Vec::new(),
            // A directory has none, whatever the archive says.
            link: Vec::new(),
            ..entry.clone()
        };
        let attributes = entry
            .xattrs
            .iter()
            .map(|(name, value)| size_of::<(Vec<u8>, Vec<u8>)>() + name.len() + value.len());
        self.bytes += path.len() + size_of::<(Directory, Entry)>() + attributes.sum::<usize>();
        let directory = self.known.entry(path.to_vec()).or_default();
        directory.entry = Some(Box::new(entry));
        directory.mode_on_disk = mode_on_disk;
        directory.implicit = false;
    }

    /// Notes a directory that the archive has files in but no entry of.
    pub(super) fn add_implicit(&mut self, path: &[u8], umask: u32, owner: (u64, u64)) {
        let entry = Entry {
            kind: Kind::Directory,
            mode: IMPLICIT_MODE,
            uid: owner.0,
            gid: owner.1,
            ..Entry::default()
        };
        self.add(path, &entry, Some(IMPLICIT_MODE & !umask));
        if let Some(directory) = self.known.get_mut(path) {
            directory.implicit = true;
        }
    }

    /// Whether there is room for more.
    pub(super) fn check(&self) -> Result<(), Error> {
        if self.bytes > LIMIT {
            return Err(Error::Archive(
                "the archive's directories are too many, or too deep".to_owned(),
            ));
        }
        Ok(())
    }

    /// Notes that what lower layers have in a directory is hidden.
    pub(super) fn set_opaque(&mut self, path: &[u8]) {
        self.bytes += path.len() + size_of::<Directory>();
        self.known.entry(path.to_vec()).or_default().opaque = true;
    }

    /// Forgets a directory that was removed, and all beneath it.
    pub(super) fn remove(&mut self, path: &[u8]) {
        self.known.remove(path);
        let first = [path, b"/"].concat();
        let beneath = (Bound::Included(first.clone()), Bound::Unbounded);
        let paths: Vec<_> = self
            .known
            .range(beneath)
            .map(|(path, _)| path.clone())
            .take_while(|path| path.starts_with(&first))
            .collect();
        for path in paths {
            self.known.remove(&path);
        }
    }

    /// Sets everything, children before their parents; returns how many attributes could not be set.
    pub(super) fn apply(self, walker: &mut Walker, metadata: &Metadata) -> Result<u64, Error> {
        let mut skipped = 0;
        for (path, directory) in self.known.iter().rev() {
            let (parent, name) = split(path);
            let at = match walker.directory(parent, None) {
                // Reached by way of a link that is gone.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                at => at.map_err(|errno| operation("open the directory", parent, errno))?,
            };
            match directory.finish(at, name, metadata) {
                Ok(count) => skipped += count,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(errno) => {
                    return Err(match &directory.entry {
                        Some(entry) => metadata.error(path, entry, errno),
                        None => operation("set the metadata of", path, errno),
                    });
                }
            }
        }
        Ok(skipped)
    }
}

impl Directory {
    fn finish(
        &self,
        at: BorrowedFd<'_>,
        name: &[u8],
        metadata: &Metadata,
    ) -> rustix::io::Result<u64> {
        let must_open = match &self.entry {
            Some(entry) => metadata.must_open(entry, self.mode_on_disk),
            None => false,
        };
        if self.implicit && !self.opaque && !must_open {
            return match &self.entry {
                Some(entry) => metadata.apply_owner_to_name(at, name, entry),
                None => Ok(()),
            }
            .map(|()| 0);
        }
        if !must_open && !self.opaque && !name.is_empty() {
            if let Some(entry) = &self.entry {
                metadata.apply_to_name(at, name, entry)?;
            }
            return Ok(0);
        }
        let name = if name.is_empty() { b"." } else { name };
        let opened = openat(at, name, OPEN, Mode::empty())?;
        if self.opaque {
            whiteout::make_opaque(opened.as_fd())?;
        }
        let Some(entry) = &self.entry else {
            return Ok(0);
        };
        let skipped = metadata.apply_to_directory(opened.as_fd(), entry, self.mode_on_disk)?;
        if !self.implicit {
            futimens(&opened, &times(entry))?;
        }
        Ok(skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut directories = Directories::default();
        directories.add_implicit(b"usr", 0, (0, 0));
        let least = directories.bytes;
        assert!(least < 1000, "{least}");
        // Half a name is above each of its directories, on average.
        directories.add_implicit(&[b'd'; 8000], 0, (0, 0));
        assert!(directories.bytes > least + 8000);
        directories.bytes = LIMIT - 1000;
        directories.check().unwrap();
        directories.add_implicit(&[b'e'; 8000], 0, (0, 0));
        assert_eq!(
            directories.check().unwrap_err().to_string(),
            "the archive's directories are too many, or too deep"
        );
    }

    #[test]
    fn removal_takes_what_is_beneath_and_nothing_else() {
        let mut directories = Directories::default();
        for path in ["a", "a/b", "a/b/c", "a-b", "ab", "a0", "b"] {
            directories.add_implicit(path.as_bytes(), 0, (0, 0));
        }
        directories.remove(b"a");
        let left: Vec<_> = directories.known.keys().map(Vec::as_slice).collect();
        assert_eq!(left, [&b"a-b"[..], b"a0", b"ab", b"b"]);
    }

    #[test]
    fn what_is_remembered_is_counted() {
        let mut directories = Directories::default();
        let entry = Entry {
            kind: Kind::Directory,
            path: vec![b'p'; 1 << 20],
            link: vec![b'l'; 1 << 20],
            xattrs: vec![(b"user.x".to_vec(), Vec::new()); 1000],
            ..Entry::default()
        };
        directories.add(b"etc", &entry, None);
        let kept = directories.known[&b"etc"[..]].entry.as_ref().unwrap();
        assert!(kept.path.is_empty() && kept.link.is_empty());
        assert!(directories.bytes > 1000 * size_of::<(Vec<u8>, Vec<u8>)>());
        let before = directories.bytes;
        directories.set_opaque(&[b'o'; 10_000]);
        assert!(directories.bytes > before + 10_000);
    }
}
