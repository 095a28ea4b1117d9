//! Programs that were killed and have not ended: they hang in the kernel.
//!
//! A process that waits for a file system or a device whose other end does not answer ends by no signal (state D of
//! proc_pid_stat(5)), and process 1 of a pid namespace ends after all others in it. Nobody can do anything about that
//! from here. The container stays as it is, and its monitor finishes the record when the program ends after all: a
//! record that was removed would leave a process, mounts and a cgroup of which nobody knows.
//!
//! Who is on its way out may be in that state as well: the kernel writes what it had not written, its last file
//! system is unmounted and so synced, memory is given back. That is given more time.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use kelp_state::{ContainerId, RunRecord};
use kelp_sys::stat::Stat;

use crate::container::signal::ends_within;
use crate::container::top::pids;
use crate::{Error, Kind};

/// How long a program that was killed may take to end.
pub(crate) const KILL_TIME: Duration = Duration::from_secs(5);

/// How much longer it may where nothing of it hangs: a slow disk has much to write.
const LAST_WORK: Duration = Duration::from_mins(1);

/// For how long a process that is not on its way out has to be seen in state D to be called hanging: others are for
/// moments.
const HANG_TIME: Duration = Duration::from_secs(1);

/// Whether a program that was killed, and has not ended in [`KILL_TIME`], ends after all.
pub(crate) fn ends_late(run: &RunRecord, init: &OwnedFd) -> Result<bool, Error> {
    let begun = Instant::now();
    // Those that have hung at every look since then.
    let (mut hanging, mut since) = (Vec::new(), begun);
    while begun.elapsed() < LAST_WORK {
        if ends_within(init, Duration::from_millis(100))? {
            return Ok(true);
        }
        let now = pids(run).unwrap_or_default().into_iter();
        let now: Vec<_> = now.filter(|&pid| hangs_on(pid)).collect();
        hanging.retain(|pid| now.contains(pid));
        if hanging.is_empty() {
            (hanging, since) = (now, Instant::now());
        } else if since.elapsed() >= HANG_TIME {
            return Ok(false);
        }
    }
    Ok(false)
}

/// The error of a container that was killed and has not ended, with the process that it waits for.
pub(crate) fn hangs(id: &ContainerId, run: &RunRecord) -> Error {
    let id = id.short();
    let processes = pids(run).unwrap_or_default();
    let text = match processes.into_iter().find(|&pid| is_uninterruptible(pid)) {
        Some(pid) => format!(
            "container {id} was killed and has not ended: process {pid} hangs in the kernel until the file system or \
             the device that it waits for answers, or is taken away"
        ),
        None => format!(
            "container {id} was killed and has not ended yet: process {} is still there, try again later",
            run.pid
        ),
    };
    Error::new(Kind::Failed, text)
}

/// Whether a process waits in the kernel, and is not on its way out.
fn hangs_on(pid: u32) -> bool {
    Stat::of(pid).is_ok_and(|stat| stat.state() == Some('D') && stat.is_exiting() != Some(true))
}

fn is_uninterruptible(pid: u32) -> bool {
    Stat::of(pid).is_ok_and(|stat| stat.state() == Some('D'))
}
