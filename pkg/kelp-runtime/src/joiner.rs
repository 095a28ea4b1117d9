//! A process in a pid or user namespace that is there already.
//!
//! setns(2) with a pid namespace moves nobody: it says where children will be. One who enters it in a
//! user namespace of its own can't go back, nor can one who enters a user namespace: so the caller
//! forks a joiner, which enters, clones the process as the caller's child (`CLONE_PARENT`), and ends.
//! The caller waits for the process, and its own other children stay where it is itself.

use std::os::fd::{AsFd, BorrowedFd};

use kelp_sys::clone::{Child, CloneFlags, clone3};
use kelp_sys::process::wait_pidfd;
use rustix::net::RecvFlags;
use rustix::process::Pid;

use crate::error::{Error, Failure};
use crate::launch::{GO, Guarded, pair};
use crate::message::{receive, send};
use crate::process::wait_for_go;

/// Where a joiner begins.
#[derive(Clone, Copy, Default)]
pub(crate) struct Beginning<'a> {
    /// Its cgroup, where that is not the caller's.
    pub(crate) cgroup: Option<BorrowedFd<'a>>,
    /// What is done with it, by number, while it is still a process like the caller.
    pub(crate) before: Option<&'a dyn Fn(u32) -> Result<(), String>>,
}

/// Runs `join` in a joiner, which speaks to the caller by the descriptor that it gets; the process that it has
/// cloned. `program` is what errors are about.
///
/// The caller must have one thread.
pub(crate) fn through_joiner(
    program: &str,
    beginning: Beginning<'_>,
    join: impl FnOnce(BorrowedFd<'_>) -> Result<Child, Failure>,
) -> Result<Child, Error> {
    // The joiner has a socket of its own: the process may speak before the joiner does.
    let (told, teller) = pair()?;
    let mut told = Some(told);
    let joiner = clone3(CloneFlags::empty(), beginning.cgroup, || {
        // Its copy would keep it from seeing that the caller's is closed.
        drop(told.take());
        let joined = match beginning.before {
            Some(_) => wait_for_go(teller.as_fd()).and_then(|_| join(teller.as_fd())),
            None => join(teller.as_fd()),
        };
        match joined {
            // The joiner itself has stayed among the caller's process numbers. What tells a pidfd's number is a
            // file in /proc that a caller which has entered a user namespace may not read before Linux 5.14.
            Ok(child) => {
                let number = child.pid.as_raw_nonzero().get().to_ne_bytes();
                i32::from(send(teller.as_fd(), &number, &[child.pidfd.as_fd()]).is_err())
            }
            Err(failure) => {
                let _ = send(teller.as_fd(), &failure.to_bytes(), &[]);
                1
            }
        }
    });
    let joiner = Guarded::new(joiner.map_err(Error::io("fork"))?);
    let told = told.expect("the joiner took its own copy");
    drop(teller);
    if let Some(before) = beginning.before {
        before(joiner.pid.as_raw_nonzero().get().unsigned_abs()).map_err(Error::Init)?;
        // A failed send means that it is gone, and has said nothing.
        let _ = send(told.as_fd(), &[GO], &[]);
    }
    let joiner = joiner.release();
    wait_pidfd(joiner.pidfd.as_fd()).map_err(Error::io("wait for the joiner"))?;
    let mut buffer = [0_u8; 4096];
    // Whatever it had to say has been said. Where it was killed, nothing was, and the process that it
    // may have cloned holds the other end open.
    let (length, mut fds) =
        receive(told.as_fd(), &mut buffer, RecvFlags::DONTWAIT).unwrap_or_default();
    let number = buffer.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes));
    match (fds.pop(), number.and_then(Pid::from_raw)) {
        (Some(pidfd), Some(pid)) => Ok(Child { pid, pidfd }),
        _ if length == 0 => Err(Error::Init("the joiner was killed".to_owned())),
        _ => Err(Failure::to_error(&buffer[..length], program)),
    }
}
