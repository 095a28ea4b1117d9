//! The terminal of a container: a pair from the container's own devpts.
//!
//! The init opens the pair, makes the inner end its controlling terminal, and sends the outer end to
//! the parent. Nothing is opened by path in a tree that the container could have changed: the
//! master comes from the devpts mount that kelp has just made, the other end from an ioctl on the
//! master (ioctl_tty(2), TIOCGPTPEER).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, fstat, fstatfs, major, minor, openat};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use serde::{Deserialize, Serialize};

use crate::error::{Failure, Step};
use crate::mounts::attach;
use crate::rootfd::Root;

/// statfs(2)
const DEVPTS_SUPER_MAGIC: rustix::fs::FsWord = 0x1cd1;

/// The size of a terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Size {
    /// Its lines.
    pub rows: u16,
    /// Characters a line.
    pub columns: u16,
}

impl From<Winsize> for Size {
    fn from(size: Winsize) -> Self {
        Self {
            rows: size.ws_row,
            columns: size.ws_col,
        }
    }
}

/// Opens a terminal's inner end, from the outer one.
fn open_inner(outer: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    ioctl_tiocgptpeer(outer, flags)
}

/// The same, for who keeps the terminal open beside the program; `None` if it can't be had.
pub fn inner_end(outer: BorrowedFd<'_>) -> Option<OwnedFd> {
    open_inner(outer).ok()
}

/// Both ends of a terminal.
pub(crate) struct Console {
    /// The parent's end.
    pub(crate) master: OwnedFd,
    /// The container's end.
    pub(crate) slave: OwnedFd,
}

impl Console {
    /// Opens a pair beneath `root`, whose /dev/pts is mounted, of this size if one is given.
    pub(crate) fn open(root: &Root, size: Option<Size>) -> Result<Self, Failure> {
        let what = || "open a terminal in the container's /dev/pts".to_owned();
        let pts = root
            .open(
                Path::new("/dev/pts"),
                OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            )
            .step(what)?;
        let master = openat(
            &pts,
            "ptmx",
            OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC | OFlags::NOFOLLOW,
            Mode::empty(),
        )
        .step(what)?;
        // A running container may have put something else there.
        let stat = fstat(&master).step(what)?;
        let is_devpts = fstatfs(&master).step(what)?.f_type == DEVPTS_SUPER_MAGIC;
        if !is_devpts || (major(stat.st_rdev), minor(stat.st_rdev)) != (5, 2) {
            return Err(Failure::setup(
                "the container's /dev/pts/ptmx is no terminal multiplexer",
            ));
        }
        if let Some(size) = size {
            set_size(&master, size).step(what)?;
        }
        unlockpt(&master).step(what)?;
        let slave = open_inner(master.as_fd()).step(what)?;
        Ok(Self { master, slave })
    }

    /// Shows the container's end as /dev/console.
    pub(crate) fn mount(&self, root: &Root) -> Result<(), Failure> {
        let what = || "mount /dev/console".to_owned();
        let tree = open_tree(
            &self.slave,
            "",
            OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC
                | OpenTreeFlags::AT_EMPTY_PATH,
        )
        .step(what)?;
        let place = Self::place(root).step(what)?;
        attach(tree.as_fd(), place.as_fd()).step(what)
    }

    /// /dev/console itself, made if it is missing. Where that is a link the mount would go to what the
    /// image chose (CVE-2025-52565): `ELOOP`.
    fn place(root: &Root) -> std::io::Result<OwnedFd> {
        let (directory, name) = root.parent(Path::new("/dev/console"))?;
        let open = |flags| {
            let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            openat(&directory, &name, flags, Mode::from_raw_mode(0o600))
        };
        match open(OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY) {
            Err(Errno::EXIST) => {}
            made => return Ok(made?),
        }
        let place = open(OFlags::PATH)?;
        if FileType::from_raw_mode(fstat(&place)?.st_mode) == FileType::Symlink {
            return Err(Errno::LOOP.into());
        }
        Ok(place)
    }

    /// Makes the container's end the calling process's terminal and its standard streams; it becomes the
    /// user's, who may open it once more by its name.
    pub(crate) fn adopt(&self, user: u32) -> Result<(), Failure> {
        let what = || "take the terminal".to_owned();
        if user != 0 {
            let user = rustix::process::Uid::from_raw(user);
            rustix::fs::fchown(&self.slave, Some(user), None).step(what)?;
        }
        rustix::process::setsid().step(what)?;
        rustix::process::ioctl_tiocsctty(&self.slave).step(what)?;
        for number in 0..3 {
            kelp_sys::fd::dup_to(self.slave.as_fd(), number).step(what)?;
        }
        Ok(())
    }
}

/// Sets the size of a terminal.
pub fn set_size(terminal: impl AsFd, size: Size) -> rustix::io::Result<()> {
    let size = Winsize {
        ws_row: size.rows,
        ws_col: size.columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    tcsetwinsize(terminal, size)
}
