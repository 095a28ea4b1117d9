//! The end of a pod whose exit policy is `stop`: the last member that ends has its infra container stopped.
//!
//! There is no daemon that could see that, so the monitor of each member looks around once it has ended: its lock is
//! free by then. It waits for the pod's lock for itself alone, so it looks when nobody makes or starts a member, and of
//! two that end at once the second one finds nobody; to stop what is stopped already changes nothing. That wait has no
//! end of its own, and needs none: a monitor that waits has told everybody of the end, and has no lock that anybody
//! waits for, while whoever has the pod's lock never waits for the process of a monitor, but for its locks.
//!
//! What starts members looks too ([`Entered`]), for those that never had a monitor or whose monitor was killed, and
//! does not wait: it may be a part of something that has the pod's lock. Who has that looks later: so nothing is
//! missed. Nor does it wait for the end of the infra container: a process of its own keeps the lock until then, so that
//! who starts a member next does not find the infra container on its way out.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use kelp_state::pod::PodLock;
use kelp_state::{ContainerId, Error, Paths, Record, pod};
use kelp_sys::clone::{CloneFlags, clone3};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

use crate::attach::Connection;

const SIGTERM: i32 = 15;

/// For how long the infra container is waited for, so that who starts a member next does not find it on its way out.
const PATIENCE: Timespec = Timespec {
    tv_sec: 15,
    tv_nsec: 0,
};

/// The pod of a container, as far as its monitor has to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// Its id.
    pub id: ContainerId,
    /// Its infra container, if that is to end with the last other one.
    pub ends: Option<ContainerId>,
}

/// Ends the pod, if nothing runs in it but what has to end with the last member, once nobody makes or starts one.
/// Whoever calls this is the monitor of a member, and has ended.
pub fn leave(paths: &Paths, pod: &Pod) {
    let Some(infra) = &pod.ends else { return };
    let Ok(_closed) = pod::close(paths, &pod.id) else {
        return;
    };
    if is_over(paths, pod)
        && let Some(monitor) = end(&Record::new(paths, infra.clone()))
    {
        wait_for(&monitor);
    }
}

/// The same without waiting: left to who makes or starts a member just now, if somebody does.
pub fn look(paths: &Paths, pod: &Pod) {
    let Some(infra) = &pod.ends else { return };
    let Ok(Some(closed)) = pod::try_close(paths, &pod.id) else {
        return;
    };
    if is_over(paths, pod)
        && let Some(monitor) = end(&Record::new(paths, infra.clone()))
    {
        let _ = keep_until_gone(&closed, &monitor);
    }
}

/// Whether none of the others runs.
fn is_over(paths: &Paths, pod: &Pod) -> bool {
    let mut others = pod::members(paths, &pod.id).into_iter();
    !others.any(|id| Some(&id) != pod.ends.as_ref() && Record::new(paths, id).is_alive())
}

/// Has a monitor end its program, as at the end of a session, but for good; its process, if it has heard.
pub(crate) fn end(record: &Record) -> Option<OwnedFd> {
    let monitor = Connection::open(&record.runtime).ok()?;
    if !monitor.stop() {
        return None;
    }
    let process = monitor.monitor().ok().flatten()?;
    kelp_sys::signal::pidfd_send(process.as_fd(), SIGTERM).ok()?;
    Some(process)
}

fn wait_for(process: &OwnedFd) {
    let mut fds = [PollFd::new(process, PollFlags::IN)];
    let _ = rustix::io::retry_on_intr(|| poll(&mut fds, Some(&PATIENCE)));
}

/// Has a process of its own hold the lock as long as another one lives: a lock of flock(2) is of the open file.
fn keep_until_gone(lock: &PodLock, process: &OwnedFd) -> io::Result<()> {
    clone3(CloneFlags::empty(), None, || {
        // Nothing in here allocates: there may be other threads. A signal for this one's group is not for that one.
        let _ = rustix::process::setsid();
        if kelp_sys::fd::close_but(0, &[lock.as_fd(), process.as_fd()]).is_ok() {
            wait_for(process);
        }
        0
    })
    .map(drop)
}

/// Keeps a pod from being removed or ended, and looks afterwards, on whatever way out, whether it has to end.
#[derive(Debug)]
pub struct Entered<'a> {
    paths: &'a Paths,
    pod: Pod,
    lock: Option<PodLock>,
    looks: bool,
}

impl<'a> Entered<'a> {
    /// Looks afterwards, and has to be said [`Entered::enter`] to before it keeps anything.
    pub fn begin(paths: &'a Paths, pod: Pod) -> Self {
        Self {
            paths,
            pod,
            lock: None,
            looks: true,
        }
    }

    /// For who starts nothing: looks afterwards only if something runs now, besides what ends with the last member. It
    /// may end without a monitor that could look.
    pub fn beside(paths: &'a Paths, pod: Pod, lock: PodLock) -> Self {
        let looks = pod.ends.is_some() && !is_over(paths, &pod);
        Self {
            paths,
            pod,
            lock: Some(lock),
            looks,
        }
    }

    /// Keeps the pod; waits for who ends or removes it.
    ///
    /// # Errors
    /// [`Error::NoSuchPod`] if there is none.
    pub fn enter(&mut self) -> Result<(), Error> {
        self.lock = Some(pod::enter(self.paths, &self.pod.id)?);
        Ok(())
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.lock = None;
        if self.looks {
            look(self.paths, &self.pod);
        }
    }
}
