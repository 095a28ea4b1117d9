//! Waiting for a process by its pidfd.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// It returned or called exit(3) with this code.
    Code(i32),
    /// A signal ended it.
    Signal(i32),
}

impl Exit {
    /// The code a shell shows: the process's own, or 128 and the signal's number.
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(signal) => 128 + signal,
        }
    }
}

/// The process that a pidfd stands for, as the caller counts (proc_pid_fdinfo(5), "pidfd"); `None` if
/// it has been reaped.
pub fn pid_of(pidfd: BorrowedFd<'_>) -> Option<Pid> {
    let path = format!("/proc/self/fdinfo/{}", pidfd.as_raw_fd());
    let text = std::fs::read_to_string(path).ok()?;
    let pid = text.lines().find_map(|line| line.strip_prefix("Pid:"))?;
    // One that has been reaped has the number -1.
    let number = pid.trim().parse().ok().filter(|&number: &i32| number > 0)?;
    Pid::from_raw(number)
}

/// Gives freed memory of the heap back to the kernel, for a process that is about to idle:
/// malloc_trim(3).
pub fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it has no precondition; the allocator takes its own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Sets the execution domain of this process, by which the kernel tells programs what machine it is:
/// personality(2).
pub fn set_personality(persona: u32) -> io::Result<()> {
    // SAFETY: it takes a number and changes nothing in this process's memory.
    match unsafe { libc::personality(persona.into()) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Waits until the child ends, and reaps it.
pub fn wait_pidfd(pidfd: BorrowedFd<'_>) -> io::Result<Exit> {
    loop {
        match waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED) {
            Ok(Some(status)) => {
                return Ok(match (status.exit_status(), status.terminating_signal()) {
                    (Some(code), _) => Exit::Code(code),
                    (None, Some(signal)) => Exit::Signal(signal),
                    (None, None) => Exit::Signal(libc::SIGKILL),
                });
            }
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
