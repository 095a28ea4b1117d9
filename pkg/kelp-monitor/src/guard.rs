//! The process that takes a container of another runtime along when its monitor is killed.
//!
//! A container of kelp's own has a parent-death signal for that (prctl(2)), which a process can only set
//! for itself. A process of another runtime does not, so this one waits beside it. It is a copy of the
//! monitor with nothing open but a socket and the container's cgroup, and does nothing until the monitor
//! has gone.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use kelp_runtime::cgroup::Cgroup;
use kelp_runtime::launch::{Guarded, pair};
use kelp_runtime::message::{receive, send};
use kelp_sys::clone::{CloneFlags, clone3};
use kelp_sys::fd::{close_but, wait_input};
use rustix::net::RecvFlags;
use rustix::process::{PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal};

use crate::error::Error;

/// How long a monitor that is killed may take to be gone: it takes mounts along.
const MONITORS_TIME: Duration = Duration::from_secs(10);

/// The guard of one run. Dropping it ends the guard, and nothing else.
#[derive(Debug)]
pub(crate) struct Guard {
    // Before the socket: that the other end is closed means that the monitor has been killed.
    _process: Guarded,
    socket: OwnedFd,
}

impl Guard {
    /// Starts it, before there is anything to be taken along.
    pub(crate) fn start(cgroup: Option<&Cgroup>) -> Result<Self, Error> {
        let (socket, theirs) = pair()?;
        let own = pidfd_open(getpid(), PidfdFlags::empty());
        let own = own.map_err(Error::io("open a pidfd of the monitor"))?;
        let process = clone3(CloneFlags::empty(), None, || {
            let mut kept = vec![theirs.as_fd(), own.as_fd()];
            kept.extend(cgroup.map(AsFd::as_fd));
            if close_but(0, &kept).is_ok() {
                wait(theirs.as_fd(), own.as_fd(), cgroup);
            }
            0
        });
        let process = process.map_err(Error::io("fork"))?;
        Ok(Self {
            _process: Guarded::new(process),
            socket,
        })
    }

    /// Names the container's first process: it need not be in a cgroup.
    pub(crate) fn watch(&self, init: BorrowedFd<'_>) {
        // One that has gone is known by its absence only when it is needed.
        let _ = send(self.socket.as_fd(), b"p", &[init]);
    }
}

fn wait(socket: BorrowedFd<'_>, monitor: BorrowedFd<'_>, cgroup: Option<&Cgroup>) {
    let mut init = None;
    let mut buffer = [0_u8; 1];
    while let Ok((1.., mut fds)) = receive(socket, &mut buffer, RecvFlags::empty()) {
        init = fds.pop().or(init);
    }
    // It closes its end before it lets go of its lock: who sees the end of the program finds no monitor
    // either.
    let _ = wait_input(monitor, MONITORS_TIME);
    if let Some(cgroup) = cgroup {
        let _ = cgroup.kill();
    }
    // With the first process go all others, unless they are in the host's namespace.
    if let Some(init) = init {
        let _ = pidfd_send_signal(init, Signal::KILL);
    }
}
