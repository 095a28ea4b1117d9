//! Descriptors: close_range(2), dup3(2), and those handed over at exec.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

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

/// Closes every descriptor but this one, for a child that only waits: what it has inherited, locks of
/// open files among it, would last as long as the child otherwise.
pub fn close_others(fd: BorrowedFd<'_>) -> io::Result<()> {
    let number = fd.as_raw_fd() as libc::c_uint;
    let close = |first: libc::c_uint, last: libc::c_uint| {
        if first > last {
            return Ok(());
        }
        // SAFETY: the caller is a child that uses no descriptor but the one that is left open, and
        // runs no destructor of another.
        check(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })
    };
    close(number + 1, libc::c_uint::MAX)?;
    number.checked_sub(1).map_or(Ok(()), |last| close(0, last))
}

/// Closes every descriptor from `first` on but these, for a process that has not yet executed its program and
/// waits: what it has inherited would last as long as the wait otherwise.
pub fn close_but(first: RawFd, kept: &[BorrowedFd<'_>]) -> io::Result<()> {
    let mut numbers: Vec<_> = kept.iter().map(AsRawFd::as_raw_fd).collect();
    numbers.retain(|&number| number >= first);
    numbers.sort_unstable();
    let mut next = first;
    for number in numbers.into_iter().chain([RawFd::MAX]) {
        if next < number {
            let (from, to) = (next as libc::c_uint, (number - 1) as libc::c_uint);
            // SAFETY: the caller uses none of these any more, and runs no destructor of one.
            check(unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) })?;
        }
        next = number.saturating_add(1);
    }
    Ok(())
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

/// Closes every descriptor from `first` on. Values that own one must not be used after it: for a
/// process that only waits and exits.
pub fn close_from(first: RawFd) -> io::Result<()> {
    // SAFETY: close_range takes two numbers; see the doc about what the caller may use after it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first as libc::c_uint,
            libc::c_uint::MAX,
            0,
        )
    };
    check(result)
}

/// Whether there is something to read, without waiting for it.
pub fn has_input(fd: BorrowedFd<'_>) -> bool {
    look(fd, PollFlags::IN).contains(PollFlags::IN)
}

/// Whether the other end of a connection has been closed.
pub fn has_gone(fd: BorrowedFd<'_>) -> bool {
    look(fd, PollFlags::empty()).contains(PollFlags::HUP)
}

fn look(fd: BorrowedFd<'_>, events: PollFlags) -> PollFlags {
    let mut fds = [PollFd::from_borrowed_fd(fd, events)];
    match poll(&mut fds, Some(&Timespec::default())) {
        Ok(_) => fds[0].revents(),
        Err(_) => PollFlags::empty(),
    }
}
