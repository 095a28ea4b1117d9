//! Resolution of a path in user space, one `O_PATH` step at a time, with creation on the way.
//!
//! Every step opens one name in one directory without following a link; a link's text is put in
//! front of what is left of the path. The directories on the way stay open on a stack, and `..`
//! goes back to the one before: the kernel's `..` is never asked for, so it does not matter where a
//! directory was moved meanwhile. An absolute link empties the stack down to the root.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{
    FileType, Mode, OFlags, PROC_SUPER_MAGIC, fstat, fstatfs, mkdirat, mknodat, openat, readlinkat,
};
use rustix::io::Errno;

/// As the kernel's `MAXSYMLINKS` (path_resolution(7)).
const MAX_LINKS: u32 = 40;
/// Directories open at a time; a deeper path is refused before descriptors run out.
const MAX_DEPTH: usize = 256;
/// As the kernel's `PATH_MAX`.
const MAX_PATH: usize = 4096;
/// Rounds of opening a name that another process keeps exchanging.
const MAX_SWAPS: u32 = 64;

/// What a walk makes where nothing is.
#[derive(Clone, Copy)]
pub(super) struct Create {
    /// The mode of directories.
    pub(super) directories: u32,
    /// The mode of a regular file at the end; without it the end is a directory.
    pub(super) last: Option<u32>,
}

/// Where a walk ended. Descriptors are `O_PATH`.
pub(super) enum Found {
    Directory(OwnedFd),
    Entry(OwnedFd),
}

pub(super) struct Walk<'a> {
    root: BorrowedFd<'a>,
    stack: Vec<OwnedFd>,
    left: VecDeque<Vec<u8>>,
    /// Whether the path ends in a slash, and so in a directory.
    directory: bool,
    links: u32,
    create: Option<Create>,
}

enum Step {
    Went,
    /// A link at the end of the path, not to be followed; or a file.
    End(Vec<u8>, OwnedFd),
}

impl<'a> Walk<'a> {
    pub(super) fn new(root: BorrowedFd<'a>, path: &Path) -> Result<Self, Errno> {
        let bytes = path.as_os_str().as_bytes();
        if bytes.len() >= MAX_PATH {
            return Err(Errno::NAMETOOLONG);
        }
        if bytes.contains(&0) {
            return Err(Errno::INVAL);
        }
        Ok(Self {
            root,
            stack: Vec::new(),
            left: components(bytes).map(<[u8]>::to_vec).collect(),
            directory: needs_directory(bytes),
            links: 0,
            create: None,
        })
    }

    pub(super) fn creating(mut self, create: Create) -> Self {
        self.create = Some(create);
        self
    }

    /// Opens what is at the end with `flags`.
    pub(super) fn open(self, flags: OFlags) -> Result<OwnedFd, Errno> {
        let follow = !flags.contains(OFlags::NOFOLLOW);
        let mut walk = self;
        for _ in 0..MAX_SWAPS {
            match walk.step_to_end(follow)? {
                None if flags.contains(OFlags::PATH) => return walk.take_here(),
                None => return openat(walk.here(), ".", flags, Mode::empty()),
                // The descriptor of the walk is what was asked for.
                Some((_, fd)) if flags.contains(OFlags::PATH) => {
                    let stat = fstat(&fd)?;
                    let kind = FileType::from_raw_mode(stat.st_mode);
                    if flags.contains(OFlags::DIRECTORY) && kind != FileType::Directory {
                        return Err(Errno::NOTDIR);
                    }
                    return Ok(fd);
                }
                // Anything else is opened by its name once more, for a path through /proc may not
                // be there; a link that has taken the name since is refused, and walked.
                Some((name, _)) => {
                    let result = openat(
                        walk.here(),
                        name.as_slice(),
                        flags | OFlags::NOFOLLOW,
                        Mode::empty(),
                    );
                    match result {
                        Err(Errno::LOOP) if follow => walk.left.push_front(name),
                        result => return result,
                    }
                }
            }
        }
        Err(Errno::LOOP)
    }

    /// Walks to the end. Without `follow` a link there is the end.
    pub(super) fn resolve(mut self, follow: bool) -> Result<Found, Errno> {
        let end = self.step_to_end(follow)?;
        match end {
            None => Ok(Found::Directory(self.take_here()?)),
            Some((_, fd)) => Ok(Found::Entry(fd)),
        }
    }

    /// Goes on to the end: a directory, which is then [`Walk::here`], or an entry of it.
    fn step_to_end(&mut self, follow: bool) -> Result<Option<(Vec<u8>, OwnedFd)>, Errno> {
        while let Some(name) = self.left.pop_front() {
            match name.as_slice() {
                b".." => {
                    self.stack.pop();
                }
                _ => {
                    if let Step::End(name, fd) = self.step(name, follow)? {
                        return Ok(Some((name, fd)));
                    }
                }
            }
        }
        Ok(None)
    }

    fn step(&mut self, name: Vec<u8>, follow: bool) -> Result<Step, Errno> {
        let fd = self.open_or_create(&name)?;
        let last = self.left.is_empty();
        match FileType::from_raw_mode(fstat(&fd)?.st_mode) {
            FileType::Directory => {
                if self.stack.len() >= MAX_DEPTH {
                    return Err(Errno::NAMETOOLONG);
                }
                self.stack.push(fd);
                Ok(Step::Went)
            }
            FileType::Symlink if last && !follow && !self.directory => Ok(Step::End(name, fd)),
            FileType::Symlink => {
                self.follow(&fd)?;
                Ok(Step::Went)
            }
            _ if last && !self.directory => Ok(Step::End(name, fd)),
            _ => Err(Errno::NOTDIR),
        }
    }

    /// Puts a link's text in front of what is left.
    fn follow(&mut self, link: &OwnedFd) -> Result<(), Errno> {
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(Errno::LOOP);
        }
        let target = readlinkat(link, "", Vec::new())?.into_bytes();
        if target.is_empty() {
            return Err(Errno::NOENT);
        }
        if is_magic(link, &target)? {
            return Err(Errno::LOOP);
        }
        if target.first() == Some(&b'/') {
            self.stack.clear();
        }
        if self.left.is_empty() {
            self.directory |= needs_directory(&target);
        }
        for component in components(&target).rev() {
            self.left.push_front(component.to_vec());
        }
        Ok(())
    }

    fn open_or_create(&self, name: &[u8]) -> Result<OwnedFd, Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        for _ in 0..MAX_SWAPS {
            match (openat(self.here(), name, flags, Mode::empty()), self.create) {
                (Err(Errno::NOENT), Some(create)) => match self.make(name, create) {
                    // Made by another process meanwhile: it is looked at like what was there.
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error),
                },
                (result, _) => return result,
            }
        }
        Err(Errno::NOENT)
    }

    fn make(&self, name: &[u8], create: Create) -> Result<(), Errno> {
        match create.last {
            Some(mode) if self.left.is_empty() && !self.directory => mknodat(
                self.here(),
                name,
                FileType::RegularFile,
                Mode::from_raw_mode(mode),
                0,
            ),
            _ => mkdirat(self.here(), name, Mode::from_raw_mode(create.directories)),
        }
    }

    fn take_here(mut self) -> Result<OwnedFd, Errno> {
        match self.stack.pop() {
            Some(directory) => Ok(directory),
            None => open_directory(self.root),
        }
    }

    fn here(&self) -> BorrowedFd<'_> {
        self.stack.last().map_or(self.root, AsFd::as_fd)
    }
}

/// The names of a path; empty ones and `.` are not steps.
fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = &[u8]> {
    path.split(|&byte| byte == b'/')
        .filter(|name| !name.is_empty() && *name != b".")
}

/// Whether a path can only name a directory: it ends in a slash or in `/.`.
fn needs_directory(path: &[u8]) -> bool {
    path.ends_with(b"/") || path.ends_with(b"/.")
}

/// Whether a link of procfs leads to an object and not to a path: its text then only describes the
/// object, by an absolute path or as `kind:[number]` (proc_pid_fd(5)).
fn is_magic(link: &OwnedFd, target: &[u8]) -> Result<bool, Errno> {
    let describes = target.first() == Some(&b'/') || target.contains(&b':');
    Ok(describes && fstatfs(link)?.f_type == PROC_SUPER_MAGIC)
}

fn open_directory(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    openat(
        fd,
        ".",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
}
