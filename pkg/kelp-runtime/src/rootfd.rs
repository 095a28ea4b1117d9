//! Paths that come from a container, resolved by descriptor beneath its root.
//!
//! A path of an image or a container is never given to a plain open(2): a link in it could lead to
//! the host, and could be put there between a check and the use. Here the kernel resolves it with
//! the container's directory as root (openat2(2), `RESOLVE_IN_ROOT`): absolute links and `..` stay
//! inside, as they do for the container itself, so `/var/run -> /run` works; and links that are
//! not text (`/proc/N/fd`, `/proc/N/root`) are refused.
//!
//! Where openat2 is missing or blocked by a filter, and where directories are to be made on the
//! way, which the kernel has no call for, [`walk`] resolves the path one component at a time.
//!
//! The pathrs crate offers the same in 14,000 lines and three crates more, most of it a C interface
//! and a hardened procfs of its own, for it reopens files through /proc, which init does not have
//! for a part of its life. What is needed here is this file and the next.

mod walk;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat2};
use rustix::io::Errno;

use walk::{Create, Found, Walk};

/// How often the kernel is asked again when a rename during the resolution made it give up.
const RETRIES: usize = 32;

/// A directory that paths are resolved in as if it were `/`.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
    /// False where openat2 is known to be of no use; tests set it so.
    kernel: bool,
}

impl Root {
    /// Takes the root's descriptor, which may be an `O_PATH` one.
    pub fn new(fd: OwnedFd) -> Self {
        Self { fd, kernel: true }
    }

    /// Opens a directory of the host as a root; its path is trusted.
    pub fn open_host(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self::new(rustix::fs::open(path, flags, Mode::empty())?))
    }

    /// Opens what is at `path`. Descriptors are close-on-exec whatever `flags` say.
    ///
    /// Links are followed inside the root; with `NOFOLLOW` the last one is not, which is `ELOOP`,
    /// or the link itself if the flags have `PATH` too. A fifo or device blocks the caller unless
    /// the flags have `NONBLOCK` or `PATH`.
    ///
    /// # Errors
    /// Those of open(2) and openat2(2). `EINVAL` for flags that create a file: see
    /// [`Root::create_file`].
    pub fn open(&self, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
        Ok(self.try_open(path, flags)?)
    }

    fn try_open(&self, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
        if flags.intersects(OFlags::CREATE | OFlags::TMPFILE.difference(OFlags::DIRECTORY)) {
            return Err(Errno::INVAL);
        }
        let flags = flags | OFlags::CLOEXEC;
        if self.kernel {
            let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
            for _ in 0..RETRIES {
                match openat2(&self.fd, in_root(path), flags, Mode::empty(), resolve) {
                    // A rename or mount elsewhere on the system, while a `..` was resolved.
                    Err(Errno::AGAIN) => {}
                    // No such call, or a filter in front of it; if the file itself was the
                    // reason, the walk ends the same way.
                    Err(Errno::NOSYS | Errno::PERM) => break,
                    result => return result,
                }
            }
        }
        Walk::new(self.fd.as_fd(), path)?.open(flags)
    }

    /// Opens the directory `path`, and makes it and what is missing on the way to it.
    ///
    /// Links on the way are followed inside the root, also those whose target is missing, which is
    /// then made. The mode is subject to the umask. Returns an `O_PATH` descriptor.
    ///
    /// # Errors
    /// `ENOTDIR` where something else is in the way, and those of mkdir(2).
    pub fn mkdir_all(&self, path: &Path, mode: u32) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match self.try_open(path, flags) {
            Err(Errno::NOENT) => {}
            result => return Ok(result?),
        }
        let create = Create {
            directories: mode,
            last: None,
        };
        match Walk::new(self.fd.as_fd(), path)?
            .creating(create)
            .resolve(true)?
        {
            Found::Directory(fd) => Ok(fd),
            Found::Entry(_) => Err(Errno::NOTDIR.into()),
        }
    }

    /// Makes an empty regular file and the directories on the way to it (mode 0755), unless
    /// something is there already.
    ///
    /// The last component may be a link too: the file is made where it points to, inside the
    /// root, as for an image whose `/etc/resolv.conf` leads into a `/run` that is still empty.
    /// Returns an `O_PATH` descriptor of what is there: look at its type before use.
    pub fn create_file(&self, path: &Path, mode: u32) -> io::Result<OwnedFd> {
        let create = Create {
            directories: 0o755,
            last: Some(mode),
        };
        let walk = Walk::new(self.fd.as_fd(), path)?.creating(create);
        Ok(match walk.resolve(true)? {
            Found::Directory(fd) | Found::Entry(fd) => fd,
        })
    }

    /// Opens the directory that holds the last component of `path`, and gives that component's
    /// name, for calls that act on a name: unlinkat(2), renameat(2), mknodat(2), symlinkat(2).
    ///
    /// # Errors
    /// `EINVAL` if the path ends in no name (`/`, `.`, `..`).
    pub fn parent(&self, path: &Path) -> io::Result<(OwnedFd, OsString)> {
        // file_name() would look through a trailing `.`, which open(2) does not.
        let ends_in_dot = path.as_os_str().as_encoded_bytes().ends_with(b"/.");
        let name = path.file_name().filter(|_| !ends_in_dot);
        let name = name.ok_or(Errno::INVAL)?.to_owned();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let parent = self.try_open(path.parent().unwrap_or(Path::new("")), flags)?;
        Ok((parent, name))
    }

    /// Reads a regular file of at most `limit` bytes.
    ///
    /// # Errors
    /// `InvalidData` for anything but a regular file and for one that is larger; a fifo is not
    /// waited for (CVE-2024-9676), and an endless file is not read to its end.
    pub fn read_file(&self, path: &Path, limit: usize) -> io::Result<Vec<u8>> {
        let fd = self.try_open(
            path,
            OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC,
        )?;
        if FileType::from_raw_mode(fstat(&fd)?.st_mode) != FileType::RegularFile {
            return Err(invalid("it is not a regular file"));
        }
        let mut content = Vec::new();
        // The size that stat tells is the file system's claim; the limit is on what is read.
        File::from(fd)
            .take(limit as u64 + 1)
            .read_to_end(&mut content)?;
        if content.len() > limit {
            return Err(invalid("it is too large"));
        }
        Ok(content)
    }
}

/// The root's own directory.
impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// An empty path names the root here; for openat2 it names nothing.
fn in_root(path: &Path) -> &Path {
    if path.as_os_str().is_empty() {
        Path::new("/")
    } else {
        path
    }
}

#[cfg(test)]
mod tests;
