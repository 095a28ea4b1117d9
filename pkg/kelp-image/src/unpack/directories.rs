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
use super::walker::Walker;
use super::whiteout;
use crate::Error;
use crate::tar::{Entry, Kind};

/// Directories by their clean paths.
#[derive(Debug, Default)]
pub(super) struct Directories(BTreeMap<Vec<u8>, Directory>);

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
            ..entry.clone()
        };
        let directory = self.0.entry(path.to_vec()).or_default();
        directory.entry = Some(Box::new(entry));
        directory.mode_on_disk = mode_on_disk;
        directory.implicit = false;
    }

    /// Notes a directory that the archive has files in but no entry of.
    pub(super) fn add_implicit(&mut self, path: &[u8], umask: u32, owner: (u64, u64)) {
        let entry = Entry {
            kind: Kind::Directory,
            mode: 0o755,
            uid: owner.0,
            gid: owner.1,
            ..Entry::default()
        };
        self.add(path, &entry, Some(0o755 & !umask));
        if let Some(directory) = self.0.get_mut(path) {
            directory.implicit = true;
        }
    }

    /// Notes that what lower layers have in a directory is hidden.
    pub(super) fn set_opaque(&mut self, path: &[u8]) {
        self.0.entry(path.to_vec()).or_default().opaque = true;
    }

    /// Forgets a directory that was removed, and all beneath it.
    pub(super) fn remove(&mut self, path: &[u8]) {
        self.0.remove(path);
        let first = [path, b"/"].concat();
        let beneath = (Bound::Included(first.clone()), Bound::Unbounded);
        let paths: Vec<_> = self
            .0
            .range(beneath)
            .map(|(path, _)| path.clone())
            .take_while(|path| path.starts_with(&first))
            .collect();
        for path in paths {
            self.0.remove(&path);
        }
    }

    /// Sets everything, children before their parents; returns how many attributes could not be set.
    pub(super) fn apply(self, walker: &mut Walker, metadata: &Metadata) -> Result<u64, Error> {
        let mut skipped = 0;
        for (path, directory) in self.0.iter().rev() {
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
    fn removal_takes_what_is_beneath_and_nothing_else() {
        let mut directories = Directories::default();
        for path in ["a", "a/b", "a/b/c", "a-b", "ab", "a0", "b"] {
            directories.add_implicit(path.as_bytes(), 0, (0, 0));
        }
        directories.remove(b"a");
        let left: Vec<_> = directories.0.keys().map(Vec::as_slice).collect();
        assert_eq!(left, [&b"a-b"[..], b"a0", b"ab", b"b"]);
    }
}
