//! kelp's own program, which containers must not write (CVE-2019-5736).
//!
//! Whoever enters a container can be made to execute `/proc/self/exe`, which is this program. A process
//! beside it keeps the file open, and writes it as soon as nobody executes it any more, if its user owns it.
//! So where that may be, it is executed anew from a mount that is read-only and belongs to no mount
//! namespace: nobody can make it writable again.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use kelp_sys::clone::{CloneFlags, clone3};
use kelp_sys::exec::{CStringArray, fexecve};
use kelp_sys::mount_attr::{MountAttr, RDONLY, mount_setattr};
use kelp_sys::process::{Exit, wait_pidfd};
use rustix::fs::{
    Access, AtFlags, CWD, Mode, OFlags, StatVfsMountFlags, accessat, fstat, fstatvfs, stat,
};
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::net::RecvFlags;
use rustix::process::geteuid;

use crate::error::Error;
use crate::launch::pair;
use crate::message::{receive, send};

const ITSELF: &str = "/proc/self/exe";

/// Makes sure that no container can write this program; it may be executed anew for that, so this comes before
/// anything that can't be done twice.
///
/// `holder` is a process that lives as long as the container: while it executes the program too, the kernel
/// lets nobody write it.
pub fn protect(holder: Option<u32>) -> Result<(), Error> {
    replace(holder).map_err(Error::io("keep containers from writing this program"))
}

/// The file that this process was executed from, to be executed and not read.
pub(crate) fn open() -> Result<OwnedFd, Error> {
    open_itself().map_err(Error::io(format!("open {ITSELF}")))
}

fn open_itself() -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    Ok(rustix::fs::open(ITSELF, flags, Mode::empty())?)
}

fn replace(holder: Option<u32>) -> io::Result<()> {
    let program = open_itself()?;
    let own = fstat(&program)?;
    // An owner can make it writable.
    let is_reachable = own.st_uid == geteuid().as_raw()
        || accessat(CWD, ITSELF, Access::WRITE_OK, AtFlags::EACCESS).is_ok();
    if !is_reachable {
        return Ok(());
    }
    if is_read_only(program.as_fd())? {
        return name_again();
    }
    let is_it = |pid: u32| {
        stat(format!("/proc/{pid}/exe"))
            .is_ok_and(|found| (found.st_dev, found.st_ino) == (own.st_dev, own.st_ino))
    };
    if holder.is_some_and(is_it) {
        return Ok(());
    }
    let path = std::fs::read_link(ITSELF)?;
    let mount = read_only(&path).or_else(|_| read_only_by_child(&path))?;
    let found = fstat(&mount)?;
    if (found.st_dev, found.st_ino) != (own.st_dev, own.st_ino) {
        let text = format!("{} was replaced just now: try again", path.display());
        return Err(io::Error::other(text));
    }
    // Else it would be executed again and again.
    if !is_read_only(mount.as_fd())? {
        return Err(io::Error::other("its mount can be written"));
    }
    let argv = std::env::args_os().map(|word| CString::new(word.into_vec()));
    let envp = std::env::vars_os()
        .map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()));
    Err(fexecve(
        mount.as_fd(),
        &CStringArray::new(argv.collect::<Result<_, _>>()?),
        &CStringArray::new(envp.collect::<Result<_, _>>()?),
    ))
}

/// Takes the name that the command line has: after an execution from a descriptor it is the descriptor's number.
fn name_again() -> io::Result<()> {
    let name = std::env::args_os().next().unwrap_or_default();
    let name = Path::new(&name).file_name().unwrap_or_default();
    rustix::thread::set_name(&CString::new(name.as_bytes())?)?;
    Ok(())
}

fn is_read_only(file: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(fstatvfs(file)?.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// A mount of a file alone, which nothing but this descriptor holds.
fn read_only(path: &Path) -> io::Result<OwnedFd> {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    let mount = open_tree(CWD, path, flags)?;
    let attr = MountAttr {
        set: RDONLY,
        ..MountAttr::default()
    };
    mount_setattr(mount.as_fd(), false, attr, None)?;
    Ok(mount)
}

/// The same where only a child in namespaces of its own may mount.
fn read_only_by_child(path: &Path) -> io::Result<OwnedFd> {
    let (told, teller) = pair().map_err(io::Error::other)?;
    let flags = CloneFlags::NEWUSER.with(CloneFlags::NEWNS);
    let child = clone3(flags, None, || match read_only(path) {
        Ok(mount) => i32::from(send(teller.as_fd(), b"m", &[mount.as_fd()]).is_err()),
        Err(error) => error.raw_os_error().unwrap_or(1),
    })
    .map_err(|error| io::Error::other(kelp_userns::error::forbidden(&error)))?;
    drop(teller);
    let (_, mut fds) = receive(told.as_fd(), &mut [0; 1], RecvFlags::empty())?;
    let end = wait_pidfd(child.pidfd.as_fd())?;
    fds.pop().ok_or_else(|| match end {
        Exit::Code(code) => io::Error::from_raw_os_error(code),
        Exit::Signal(_) => io::Error::other("a child was killed"),
    })
}
