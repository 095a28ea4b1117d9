//! Finding directories beneath a root, by descriptor.
//!
//! Every component is opened by itself and without following symbolic links, so no path leads out of
//! the root whatever else happens in it meanwhile. A link in the middle of a path is read and
//! followed by hand: `/` in it is the root, and `..` stops there.
//!
//! The directories on the way to the last one asked for stay open. Archives list a directory's files
//! one after another, and these cost no resolution at all.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, mkdirat, openat, readlinkat, statat};
use rustix::io::Errno;

/// As many links as the kernel follows in one path (path_resolution(7)).
const LINK_LIMIT: usize = 40;

/// Deeper directories than this are not kept open, except the last one and every [`OPEN_STEP`]th: from one to
/// the next above it is then never far, however deep they are.
const OPEN_LIMIT: usize = 100;
const OPEN_STEP: usize = 64;

/// The mode, less the umask, of directories that an archive has files in but no entry of.
pub(crate) const IMPLICIT_MODE: u32 = 0o755;

const DIRECTORY: OFlags = OFlags::PATH
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Told the path of each directory that had to be made.
pub(crate) type Created<'a> = &'a mut dyn FnMut(&[u8]);

/// Resolves directories beneath a root and remembers the last one.
#[derive(Debug)]
pub(crate) struct Walker {
    root: OwnedFd,
    /// The clean path of the last directory, whose components are `levels`.
    path: Vec<u8>,
    levels: Vec<Level>,
}

#[derive(Debug)]
struct Level {
    /// Where the component ends in `path`.
    end: usize,
    directory: Option<OwnedFd>,
}

impl Walker {
    /// Walks beneath `root`.
    pub(crate) fn new(root: OwnedFd) -> Self {
        Self {
            root,
            path: Vec::new(),
            levels: Vec::new(),
        }
    }

    /// Forgets what was found, after a directory or a link was removed.
    pub(crate) fn forget(&mut self) {
        self.levels.clear();
        self.path.clear();
    }

    /// Opens the directory at a clean path. With `create`, missing directories are made, and
    /// their paths are handed to it.
    pub(crate) fn directory(
        &mut self,
        path: &[u8],
        create: Option<Created<'_>>,
    ) -> rustix::io::Result<BorrowedFd<'_>> {
        if path != self.path {
            self.walk(path, create)?;
        }
        Ok(self.last())
    }

    fn last(&self) -> BorrowedFd<'_> {
        match self.levels.last() {
            Some(Level {
                directory: Some(directory),
                ..
            }) => directory.as_fd(),
            _ => self.root.as_fd(),
        }
    }

    fn walk(&mut self, path: &[u8], mut create: Option<Created<'_>>) -> rustix::io::Result<()> {
        self.keep_common(path);
        let mut start = self.path.len();
        while start < path.len() {
            if start > 0 {
                start += 1;
            }
            let rest = &path[start..];
            let length = rest.iter().position(|&byte| byte == b'/');
            let end = start + length.unwrap_or(rest.len());
            let name = &path[start..end];
            let directory = match openat(self.last(), name, DIRECTORY, Mode::empty()) {
                Ok(directory) => directory,
                Err(Errno::NOENT) if create.is_some() => {
                    mkdirat(self.last(), name, Mode::from_raw_mode(IMPLICIT_MODE))?;
                    if let Some(created) = &mut create {
                        created(&path[..end]);
                    }
                    openat(self.last(), name, DIRECTORY, Mode::empty())?
                }
                Err(Errno::NOTDIR | Errno::LOOP) => self.follow(&path[..end])?,
                Err(error) => return Err(error),
            };
            self.path.clear();
            self.path.extend_from_slice(&path[..end]);
            if self.levels.len() > OPEN_LIMIT
                && !self.levels.len().is_multiple_of(OPEN_STEP)
                && let Some(level) = self.levels.last_mut()
            {
                level.directory = None;
            }
            self.levels.push(Level {
                end,
                directory: Some(directory),
            });
            start = end;
        }
        Ok(())
    }

    /// Goes up to the deepest open directory that is on the way to `path`.
    fn keep_common(&mut self, path: &[u8]) {
        let on_the_way = |level: &Level| {
            path.len() >= level.end
                && path[..level.end] == self.path[..level.end]
                && matches!(path.get(level.end), None | Some(b'/'))
        };
        let mut keep = self.levels.iter().take_while(|l| on_the_way(l)).count();
        while keep > 0 && self.levels[keep - 1].directory.is_none() {
            keep -= 1;
        }
        self.levels.truncate(keep);
        self.path
            .truncate(self.levels.last().map_or(0, |level| level.end));
    }

    /// Opens a directory whose path has symbolic links in it, from the root on.
    fn follow(&self, path: &[u8]) -> rustix::io::Result<OwnedFd> {
        let mut pending: VecDeque<Vec<u8>> = VecDeque::new();
        let push = |pending: &mut VecDeque<Vec<u8>>, text: &[u8]| {
            for component in text.split(|&byte| byte == b'/').rev() {
                if !component.is_empty() && component != b"." {
                    pending.push_front(component.to_owned());
                }
            }
        };
        push(&mut pending, path);
        let mut links = 0;
        // The directories from the root's child on: what `..` goes back to is what was passed, not
        // what the kernel says the parent is by now.
        let mut passed: Vec<OwnedFd> = Vec::new();
        while let Some(name) = pending.pop_front() {
            if name == b".." {
                passed.pop();
                continue;
            }
            let at = passed.last().unwrap_or(&self.root);
            let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let found = openat(at, name.as_slice(), flags, Mode::empty())?;
            let stat = statat(&found, c"", AtFlags::EMPTY_PATH)?;
            match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => passed.push(found),
                FileType::Symlink => {
                    links += 1;
                    if links > LINK_LIMIT || passed.len() > 4 * OPEN_LIMIT {
                        return Err(Errno::LOOP);
                    }
                    let target = readlinkat(&found, c"", Vec::new())?;
                    if target.as_bytes().starts_with(b"/") {
                        passed.clear();
                    }
                    push(&mut pending, target.as_bytes());
                }
                _ => return Err(Errno::NOTDIR),
            }
        }
        match passed.pop() {
            Some(directory) => Ok(directory),
            None => rustix::io::fcntl_dupfd_cloexec(&self.root, 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, symlink};
    use std::path::Path;

    use super::*;

    fn beneath(root: &Path) -> Walker {
        Walker::new(rustix::fs::open(root, DIRECTORY, Mode::empty()).unwrap())
    }

    fn inode(fd: BorrowedFd<'_>) -> u64 {
        rustix::fs::fstat(fd).unwrap().st_ino
    }

    #[test]
    fn links_stay_beneath_the_root() {
        let outside = tempfile::tempdir().unwrap();
        let root = outside.path().join("root");
        fs::create_dir_all(root.join("run/lock")).unwrap();
        fs::create_dir_all(root.join("var")).unwrap();
        fs::create_dir_all(outside.path().join("run")).unwrap();
        symlink("/run", root.join("var/run")).unwrap();
        symlink("../../../../run", root.join("var/up")).unwrap();
        symlink("run/lock", root.join("var/lock")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        symlink("nowhere", root.join("dangling")).unwrap();
        symlink("/", root.join("top")).unwrap();
        fs::write(root.join("file"), "").unwrap();
        let mut walker = beneath(&root);
        for (path, real) in [
            ("", "."),
            ("run", "run"),
            ("var/run", "run"),
            ("var/run/lock", "run/lock"),
            ("var/up/lock", "run/lock"),
            ("var/lock", "run/lock"),
            ("top/top/var", "var"),
            ("var", "var"),
        ] {
            let found = inode(walker.directory(path.as_bytes(), None).unwrap());
            let expected = fs::metadata(root.join(real)).unwrap().ino();
            assert_eq!(found, expected, "{path}");
        }
        for (path, error) in [
            ("loop", Errno::LOOP),
            ("dangling/a", Errno::NOENT),
            ("file/a", Errno::NOTDIR),
            ("none", Errno::NOENT),
        ] {
            assert_eq!(walker.directory(path.as_bytes(), None).unwrap_err(), error);
        }
    }

    #[test]
    fn very_deep_paths_take_few_descriptors() {
        let root = tempfile::tempdir().unwrap();
        let mut walker = beneath(root.path());
        let mut made = 0;
        let deep = vec!["d"; 1500].join("/");
        let mut count = |_: &[u8]| made += 1;
        walker.directory(deep.as_bytes(), Some(&mut count)).unwrap();
        assert_eq!(made, 1500);
        let open = walker.levels.iter().filter(|l| l.directory.is_some());
        assert!(open.count() <= OPEN_LIMIT + 2 + 1500 / OPEN_STEP);
        let shallower = &deep.as_bytes()[..deep.len() - 2];
        let fresh = inode(beneath(root.path()).directory(shallower, None).unwrap());
        assert_eq!(inode(walker.directory(shallower, None).unwrap()), fresh);
        drop(walker);
        let fd = rustix::fs::open(root.path(), DIRECTORY, Mode::empty()).unwrap();
        crate::remove::remove_at(&fd, b"d").unwrap();
    }
}
