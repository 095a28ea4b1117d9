//! Signals by number: masks, signalfd(2), and sending to a pidfd.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::fd::check;

/// A set of signals.
#[derive(Clone, Copy)]
pub struct SignalSet(libc::sigset_t);

impl SignalSet {
    /// No signal.
    pub fn empty() -> Self {
        // SAFETY: sigset_t is an array of integers, for which all zeroes is valid.
        let mut set = unsafe { std::mem::zeroed() };
        // SAFETY: set is a valid place for a sigset_t.
        unsafe { libc::sigemptyset(&raw mut set) };
        Self(set)
    }

    /// These signals.
    pub fn of(signals: &[i32]) -> Self {
        let mut set = Self::empty();
        for &signal in signals {
            // SAFETY: set.0 was initialised by sigemptyset; a bad number is refused with EINVAL.
            unsafe { libc::sigaddset(&raw mut set.0, signal) };
        }
        set
    }
}

/// Replaces the calling thread's signal mask.
pub fn set_mask(set: &SignalSet) {
    // SAFETY: set.0 is initialised, and a null old set is allowed.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, &raw const set.0, std::ptr::null_mut()) };
}

/// Blocks `set` and returns a descriptor, non-blocking and close-on-exec, that becomes readable
/// when one of them is pending.
pub fn signalfd(set: &SignalSet) -> io::Result<OwnedFd> {
    // SAFETY: set.0 is initialised, and a null old set is allowed.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, &raw const set.0, std::ptr::null_mut()) };
    // SAFETY: set.0 is initialised; -1 asks for a new descriptor.
    let fd =
        unsafe { libc::signalfd(-1, &raw const set.0, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
    check(libc::c_long::from(fd))?;
    // SAFETY: signalfd returned a new descriptor, which nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Reads one pending signal's number from a signalfd; `None` when there is none.
pub fn read_signal(fd: BorrowedFd<'_>) -> io::Result<Option<i32>> {
    let mut info = [0_u8; size_of::<libc::signalfd_siginfo>()];
    match rustix::io::read(fd, &mut info) {
        Ok(read) if read == info.len() => {
            let number = u32::from_ne_bytes([info[0], info[1], info[2], info[3]]);
            Ok(Some(number as i32))
        }
        Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Sends a signal by number (real-time ones too); 0 only checks that the process is there.
pub fn pidfd_send(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: no pointer is passed but a null siginfo, which the kernel fills in itself.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    check(result)
}

/// Ends this process as a signal would have: default action, then the signal itself.
pub fn die_of(signal: i32) {
    // SAFETY: SIG_DFL runs no code.
    unsafe { libc::signal(signal, libc::SIG_DFL) };
    set_mask(&SignalSet::empty());
    // SAFETY: raise takes a number and no pointer.
    unsafe { libc::raise(signal) };
}

/// SIGCHLD
pub const SIGCHLD: i32 = libc::SIGCHLD;

/// Blocks every signal that can be blocked, for [`wait`].
pub fn wait_set() -> io::Result<SignalSet> {
    let mut set = SignalSet::empty();
    // SAFETY: set.0 is a valid sigset_t.
    check(libc::c_long::from(unsafe {
        libc::sigfillset(&raw mut set.0)
    }))?;
    set_mask(&set);
    Ok(set)
}

/// Waits for one of the blocked signals; `None` when interrupted.
pub fn wait(set: &SignalSet) -> Option<i32> {
    let mut signal = 0;
    // SAFETY: set.0 is initialised and signal is a valid place.
    let result = unsafe { libc::sigwait(&raw const set.0, &raw mut signal) };
    (result == 0).then_some(signal)
}

/// Who has sent a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The kernel, as for a key of a terminal.
    Kernel,
    /// A process.
    Process,
}

/// Waits for one of the blocked signals, and says who has sent it; `None` when interrupted.
pub fn wait_with_origin(set: &SignalSet) -> Option<(i32, Origin)> {
    // SAFETY: siginfo_t consists of integers and pointers, for which all zeroes is valid.
    let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
    // SAFETY: set.0 is initialised and info is a valid place.
    let signal = unsafe { libc::sigwaitinfo(&raw const set.0, &raw mut info) };
    let origin = match info.si_code {
        libc::SI_KERNEL => Origin::Kernel,
        _ => Origin::Process,
    };
    (signal > 0).then_some((signal, origin))
}

/// Sends a signal by number to a child that has not been reaped.
pub fn kill(pid: rustix::process::Pid, signal: i32) -> io::Result<()> {
    // SAFETY: kill takes two numbers.
    check(libc::c_long::from(unsafe {
        libc::kill(pid.as_raw_nonzero().get(), signal)
    }))
}
