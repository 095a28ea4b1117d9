//! Descriptors: close_range(2), dup3(2), and those handed over at exec.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// Marks every descriptor from `first` on as close-on-exec.
pub fn cloexec_from(first: RawFd) -> io::Result<()> {
    // SAFETY: CLOSE_RANGE_CLOEXEC closes nothing; it sets a flag on descriptors of this process.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first as libc::c_uint,
            libc::c_uint::MAX,
            libc::CLOSE_RANGE_CLOEXEC,
        )
    };
    check(result)
}

/// Closes every descriptor from `first` on but these, for a process that waits and has not executed a program:
/// what it has inherited, locks of open files among it, would last as long as the wait otherwise. Allocates
/// nothing.
///
/// Values that own a descriptor that is closed must not be used after it, nor dropped.
pub fn close_but(first: RawFd, kept: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut next = first;
    loop {
        let numbers = kept.iter().map(AsRawFd::as_raw_fd);
        let kept = numbers.filter(|&number| number >= next).min();
        let last = kept.map_or(RawFd::MAX, |number| number - 1);
        if next <= last {
            let (first, last) = (next as libc::c_uint, last as libc::c_uint);
            // SAFETY: the caller uses none of these any more, and runs no destructor of one.
            check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
        }
        let Some(kept) = kept else {
            return Ok(());
        };
        next = kept + 1;
    }
}

/// Makes `target` a copy of `fd` that stays open across exec.
///
/// For a child between fork and exec: whatever `target` named before is closed.
pub fn dup_to(fd: BorrowedFd<'_>, target: RawFd) -> io::Result<()> {
    if fd.as_raw_fd() == target {
        // SAFETY: F_SETFD with no flags changes only the descriptor's close-on-exec bit.
        let result = unsafe { libc::fcntl(target, libc::F_SETFD, 0) };
        return check(libc::c_long::from(result));
    }
    // SAFETY: dup2 is given one borrowed descriptor and a number; see the doc about the number.
    let result = unsafe { libc::dup2(fd.as_raw_fd(), target) };
    check(libc::c_long::from(result))
}

/// Takes ownership of a descriptor that this process was started with, and sets close-on-exec.
///
/// Returns `EBADF` if nothing is open there. Each number may be taken once.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: fcntl on a number that may not be open fails with EBADF and has no other effect.
    let result = unsafe { libc::fcntl(number, libc::F_SETFD, libc::FD_CLOEXEC) };
    check(libc::c_long::from(result))?;
    // SAFETY: the descriptor is open, and was put there by the process that exec'ed this one for
    // it to own.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

pub(crate) fn check(result: libc::c_long) -> io::Result<()> {
    if result == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Whether there is something to read, without waiting for it.
pub fn has_input(fd: BorrowedFd<'_>) -> bool {
    look(fd, PollFlags::IN).contains(PollFlags::IN)
}

/// Whether the other end of a connection has been closed.
pub fn has_gone(fd: BorrowedFd<'_>) -> bool {
    look(fd, PollFlags::empty()).contains(PollFlags::HUP)
}

/// Waits until there is something to read, or a pidfd's process has ended, at most for a time; whether it is so.
pub fn wait_input(fd: BorrowedFd<'_>, limit: Duration) -> io::Result<bool> {
    let end = Instant::now() + limit;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let left = Timespec {
            tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        match poll(
            &mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)],
            Some(&left),
        ) {
            Err(rustix::io::Errno::INTR) => {}
            ready => return Ok(ready? > 0),
        }
    }
}

fn look(fd: BorrowedFd<'_>, events: PollFlags) -> PollFlags {
    let mut fds = [PollFd::from_borrowed_fd(fd, events)];
    match poll(&mut fds, Some(&Timespec::default())) {
        Ok(_) => fds[0].revents(),
        Err(_) => PollFlags::empty(),
    }
}
