//! The way down into a tree of any depth, of which only the last part is open.
//!
//! A directory above that is reached again by `..`, and must be the one that it was: who else can
//! rename directories in the tree leads nobody out of it.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, Mode, fstat, openat, unlinkat};
use rustix::io::Errno;

use crate::DIRECTORY;

/// How many directories are open at most.
const OPEN: usize = 32;

/// The directories from the top of a tree to one in it.
#[derive(Debug)]
pub struct Trail {
    levels: Vec<Level>,
}

#[derive(Debug)]
struct Level {
    /// Device and inode.
    identity: (u64, u64),
    directory: Option<OwnedFd>,
}

impl Trail {
    /// Begins at the top, which is open for reading.
    pub fn new(top: OwnedFd) -> io::Result<Self> {
        let mut trail = Self { levels: Vec::new() };
        trail.enter(top)?;
        Ok(trail)
    }

    /// The last directory; none is left after the top was.
    pub fn here(&self) -> BorrowedFd<'_> {
        let last = self.levels.last().and_then(|last| last.directory.as_ref());
        last.expect("the last directory is kept open").as_fd()
    }

    /// Goes on to a directory that is in the last one.
    pub fn enter(&mut self, directory: OwnedFd) -> io::Result<()> {
        self.levels.push(Level {
            identity: identity(directory.as_fd())?,
            directory: Some(directory),
        });
        if let Some(above) = self.levels.len().checked_sub(OPEN + 1) {
            self.levels[above].directory = None;
        }
        Ok(())
    }

    /// Goes back to the directory above, and gives away the last one.
    pub fn leave(&mut self) -> io::Result<OwnedFd> {
        let left = self.levels.pop().and_then(|level| level.directory);
        let left = left.expect("the last directory is kept open");
        if let Some(above) = self.levels.last_mut()
            && above.directory.is_none()
        {
            let found = openat(&left, c"..", DIRECTORY, Mode::empty())?;
            if identity(found.as_fd())? != above.identity {
                return Err(io::Error::other("a directory was moved meanwhile"));
            }
            above.directory = Some(found);
        }
        Ok(left)
    }
}

fn identity(directory: BorrowedFd<'_>) -> io::Result<(u64, u64)> {
    let stat = fstat(directory)?;
    Ok((stat.st_dev, stat.st_ino))
}

/// The names of all that a directory has.
pub fn names(directory: impl AsFd) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name: &CStr = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

/// Removes all that a directory has.
pub fn empty(directory: BorrowedFd<'_>) -> io::Result<()> {
    let mut trail = Trail::new(openat(directory, ".", DIRECTORY, Mode::empty())?)?;
    let mut left = vec![(c"".to_owned(), names(trail.here())?)];
    while let Some((own, names_left)) = left.last_mut() {
        let Some(name) = names_left.pop() else {
            let own = std::mem::take(own);
            left.pop();
            trail.leave()?;
            if !left.is_empty() {
                unlinkat(trail.here(), &own, AtFlags::REMOVEDIR)?;
            }
            continue;
        };
        match unlinkat(trail.here(), &name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR) => {
                let child = openat(trail.here(), &name, DIRECTORY, Mode::empty())?;
                left.push((name, names(&child)?));
                trail.enter(child)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
