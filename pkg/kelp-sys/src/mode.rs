//! Modes of files by name: fchmodat2(2).

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::fd::check;

/// The same number for every architecture that Rust has Linux for (the kernel's syscall.tbl files); libc
/// lacks it for some.
const FCHMODAT2: libc::c_long = 452;

/// Changes the mode of what has `name` in a directory; `EOPNOTSUPP` if that is a symbolic link, which
/// has none and is not followed. `ENOSYS` before Linux 6.6.
pub fn chmod_no_follow(at: BorrowedFd<'_>, name: &CStr, mode: u32) -> io::Result<()> {
    // SAFETY: the name is a C string that lives across the call; the rest are numbers.
    let result = unsafe {
        libc::syscall(
            FCHMODAT2,
            at.as_raw_fd(),
            name.as_ptr(),
            mode,
            libc::AT_SYMLINK_NOFOLLOW,
        )
    };
    check(result)
}
