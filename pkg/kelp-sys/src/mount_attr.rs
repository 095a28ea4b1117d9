//! mount_setattr(2), which rustix does not have.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::fd::check;

/// What [`mount_setattr`] changes; bits of `MOUNT_ATTR_*` and `MS_*` from the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MountAttr {
    /// `MOUNT_ATTR_*` to set.
    pub set: u64,
    /// `MOUNT_ATTR_*` to clear.
    pub clear: u64,
    /// One of `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, `MS_UNBINDABLE`, or 0 for no change.
    pub propagation: u64,
}

/// `MOUNT_ATTR_RDONLY`
pub const RDONLY: u64 = 0x1;
/// `MOUNT_ATTR_NOSUID`
pub const NOSUID: u64 = 0x2;
/// `MOUNT_ATTR_NODEV`
pub const NODEV: u64 = 0x4;
/// `MOUNT_ATTR_NOEXEC`
pub const NOEXEC: u64 = 0x8;
/// `MOUNT_ATTR__ATIME`: the mask of the access time modes
pub const ATIME: u64 = 0x70;
/// `MOUNT_ATTR_NOATIME`
pub const NOATIME: u64 = 0x10;
/// `MOUNT_ATTR_STRICTATIME`
pub const STRICTATIME: u64 = 0x20;
/// `MOUNT_ATTR_NODIRATIME`
pub const NODIRATIME: u64 = 0x80;
/// `MOUNT_ATTR_NOSYMFOLLOW`
pub const NOSYMFOLLOW: u64 = 0x0020_0000;
/// `MOUNT_ATTR_IDMAP`
pub const IDMAP: u64 = 0x0010_0000;
/// `MS_UNBINDABLE`
pub const MS_UNBINDABLE: u64 = libc::MS_UNBINDABLE;
/// `MS_PRIVATE`
pub const MS_PRIVATE: u64 = libc::MS_PRIVATE;
/// `MS_SLAVE`
pub const MS_SLAVE: u64 = libc::MS_SLAVE;
/// `MS_SHARED`
pub const MS_SHARED: u64 = libc::MS_SHARED;

/// Changes the attributes of the mount at `mount`, and of all below it if `recursive`.
///
/// `userns` is the user namespace of an `IDMAP`.
pub fn mount_setattr(
    mount: BorrowedFd<'_>,
    recursive: bool,
    attr: MountAttr,
    userns: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let raw = libc::mount_attr {
        attr_set: attr.set,
        attr_clr: attr.clear,
        propagation: attr.propagation,
        userns_fd: userns.map_or(0, |fd| fd.as_raw_fd() as u64),
    };
    let mut flags = libc::AT_EMPTY_PATH;
    if recursive {
        flags |= libc::AT_RECURSIVE;
    }
    // SAFETY: the path is an empty C string, which AT_EMPTY_PATH allows; raw lives across the call
    // and its size is given.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const raw,
            size_of::<libc::mount_attr>(),
        )
    };
    check(result)
}
