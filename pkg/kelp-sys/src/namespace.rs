//! ioctl_ns(2): what a namespace descriptor tells about itself.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::fd::check;

const NS_GET_PARENT: libc::c_ulong = 0xb702;
const NS_GET_NSTYPE: libc::c_ulong = 0xb703;
const NS_GET_OWNER_UID: libc::c_ulong = 0xb704;

/// The user id (in the caller's user namespace) of the process that made this user namespace.
pub fn owner_uid(userns: BorrowedFd<'_>) -> io::Result<u32> {
    let mut uid: libc::uid_t = 0;
    // SAFETY: NS_GET_OWNER_UID stores one uid_t at the pointer, which is valid for it.
    let result = unsafe { libc::ioctl(userns.as_raw_fd(), NS_GET_OWNER_UID as _, &raw mut uid) };
    check(libc::c_long::from(result))?;
    Ok(uid)
}

/// The parent of a user or pid namespace.
///
/// # Errors
/// `EPERM` if the parent is outside of the caller's own namespace.
pub fn parent(namespace: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: NS_GET_PARENT takes no argument.
    let fd = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_PARENT as _) };
    check(libc::c_long::from(fd))?;
    // SAFETY: the ioctl returned a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Whether a descriptor is of the user namespace that the calling process is in.
pub fn is_own(userns: BorrowedFd<'_>) -> io::Result<bool> {
    let own = rustix::fs::stat("/proc/self/ns/user")?;
    let given = rustix::fs::fstat(userns)?;
    Ok((own.st_dev, own.st_ino) == (given.st_dev, given.st_ino))
}

/// Enters a user namespace, unless the calling process is in it already, which the kernel takes for an
/// error (setns(2)). The process has one thread.
pub fn enter_user(userns: BorrowedFd<'_>) -> io::Result<()> {
    match move_into_link_name_space(userns, Some(LinkNameSpaceType::User)) {
        Err(Errno::INVAL) if is_own(userns)? => Ok(()),
        entered => Ok(entered?),
    }
}

/// Gives the calling thread a mount namespace of its own, a copy of the one it was in. In a user
/// namespace that is not the old one's, no mount made in it shows outside (mount_namespaces(7)).
pub fn unshare_mounts() -> io::Result<()> {
    // SAFETY: CLONE_NEWNS changes what paths mean, and touches no memory. It unshares the thread's
    // working directory and root too, which are only values of the kernel's.
    let result = unsafe { libc::unshare(libc::CLONE_NEWNS) };
    check(libc::c_long::from(result))
}

/// Gives the children that the calling thread will make a time namespace of their own. Until the first of
/// them is there, its offsets can be set (time_namespaces(7)).
pub fn unshare_time() -> io::Result<()> {
    // SAFETY: CLONE_NEWTIME concerns children that are yet to be, and touches no memory.
    let result = unsafe { libc::unshare(0x80) };
    check(libc::c_long::from(result))
}

/// Which kind of namespace a descriptor is of, as a `CLONE_NEW*` bit.
///
/// # Errors
/// `ENOTTY` if it is of none.
pub fn kind(namespace: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: NS_GET_NSTYPE takes no argument.
    let kind = unsafe { libc::ioctl(namespace.as_raw_fd(), NS_GET_NSTYPE as _) };
    check(libc::c_long::from(kind))?;
    Ok(kind.cast_unsigned())
}
