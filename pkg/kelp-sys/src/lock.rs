//! Locks on bytes of a file that belong to the open file (F_OFD_SETLK, fcntl(2)): another open file
//! of the same process conflicts with them, a copy of the descriptor shares them, and they end with
//! the last copy. Unlike flock(2) they can be asked about without being taken.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::fd::check;

/// How a byte is locked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Together with other shared locks; the file must be open for reading.
    Shared,
    /// Alone; the file must be open for writing.
    Exclusive,
}

fn lock(kind: libc::c_int, byte: u32) -> libc::flock {
    // SAFETY: flock is made of integers, for which zero is valid; l_pid has to be zero.
    let mut lock: libc::flock = unsafe { std::mem::zeroed() };
    lock.l_type = kind as libc::c_short;
    lock.l_whence = libc::SEEK_SET as libc::c_short;
    lock.l_start = byte.into();
    lock.l_len = 1;
    lock
}

fn number(kind: Kind) -> libc::c_int {
    match kind {
        Kind::Shared => libc::F_RDLCK,
        Kind::Exclusive => libc::F_WRLCK,
    }
}

fn control(file: BorrowedFd<'_>, command: libc::c_int, lock: &mut libc::flock) -> io::Result<()> {
    // SAFETY: the commands of this module read a flock, or read and write one; the pointer is valid
    // for both.
    let result = unsafe { libc::fcntl(file.as_raw_fd(), command, std::ptr::from_mut(lock)) };
    check(libc::c_long::from(result))
}

/// Locks a byte, which need not exist; whether nobody else's lock was in the way.
pub fn try_lock(file: BorrowedFd<'_>, byte: u32, kind: Kind) -> io::Result<bool> {
    match control(file, libc::F_OFD_SETLK, &mut lock(number(kind), byte)) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => {
            Ok(false)
        }
        result => result.map(|()| true),
    }
}

/// Locks a byte, which need not exist, once nobody else's lock is in the way.
pub fn wait(file: BorrowedFd<'_>, byte: u32, kind: Kind) -> io::Result<()> {
    loop {
        match control(file, libc::F_OFD_SETLKW, &mut lock(number(kind), byte)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Gives a byte up.
pub fn unlock(file: BorrowedFd<'_>, byte: u32) -> io::Result<()> {
    let mut lock = lock(libc::F_UNLCK, byte);
    control(file, libc::F_OFD_SETLK, &mut lock)
}

/// Whether another open file has any lock on a byte. Takes none.
pub fn is_locked(file: BorrowedFd<'_>, byte: u32) -> io::Result<bool> {
    let mut lock = lock(libc::F_WRLCK, byte);
    control(file, libc::F_OFD_GETLK, &mut lock)?;
    Ok(i32::from(lock.l_type) != libc::F_UNLCK)
}
