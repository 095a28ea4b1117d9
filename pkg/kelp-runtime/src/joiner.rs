//! A process in a pid or user namespace that is there already.
//!
//! setns(2) with a pid namespace moves nobody: it says where children will be. One who enters it in a
//! user namespace of its own can't go back, nor can one who enters a user namespace: so the caller
//! forks a joiner, which enters, clones the process as the caller's child (`CLONE_PARENT`), and ends.
//! The caller waits for the process, and its own other children stay where it is itself.

use std::os::fd::{AsFd, BorrowedFd};

use kelp_sys::clone::{Child, CloneFlags, clone3};
use kelp_sys::process::{pid_of, wait_pidfd};
use rustix::net::RecvFlags;

use crate::error::{Error, Failure};
use crate::launch::pair;
use crate::message::{receive, send};

/// Runs `join` in a joiner that starts in `cgroup`; the process that it has cloned. `program` is what
/// errors are about.
///
/// The caller must have one thread.
pub(crate) fn through_joiner(
    program: &str,
    cgroup: Option<BorrowedFd<'_>>,
    join: impl FnOnce() -> Result<Child, Failure>,
) -> Result<Child, Error> {
    // The joiner has a socket of its own: the process may speak before the joiner does.
    let (told, teller) = pair()?;
    let joiner = clone3(CloneFlags::empty(), cgroup, || match join() {
        Ok(child) => i32::from(send(teller.as_fd(), b"p", &[child.pidfd.as_fd()]).is_err()),
        Err(failure) => {
            let _ = send(teller.as_fd(), &failure.to_bytes(), &[]);
            1
        }
    })
    .map_err(Error::io("fork"))?;
    drop(teller);
    wait_pidfd(joiner.pidfd.as_fd()).map_err(Error::io("wait for the joiner"))?;
    let mut buffer = [0_u8; 4096];
    // Whatever it had to say has been said. Where it was killed, nothing was, and the process that it
    // may have cloned holds the other end open.
    let (length, mut fds) =
        receive(told.as_fd(), &mut buffer, RecvFlags::DONTWAIT).unwrap_or_default();
    match fds.pop() {
        Some(pidfd) => Ok(Child {
            pid: pid_of(pidfd.as_fd())
                .ok_or_else(|| Error::Init("the new process is not in /proc".to_owned()))?,
            pidfd,
        }),
        None if length == 0 => Err(Error::Init("the joiner was killed".to_owned())),
        None => Err(Failure::to_error(&buffer[..length], program)),
    }
}
