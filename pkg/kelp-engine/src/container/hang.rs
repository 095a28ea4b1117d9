//! Programs that were killed and have not ended: they hang in the kernel.
//!
//! A process that waits for a file system or a device whose other end does not answer ends by no signal (state D of
//! proc_pid_stat(5)), and process 1 of a pid namespace ends after all others in it. Nobody can do anything about that
//! from here. The container stays as it is, and its monitor finishes the record when the program ends after all: a
//! record that was removed would leave a process, mounts and a cgroup of which nobody knows.

use std::time::Duration;

use kelp_state::{ContainerId, RunRecord};
use kelp_sys::stat::Stat;

use crate::container::top::pids;
use crate::{Error, Kind};

/// How long a program that was killed may take to end: a large one has much memory to give back.
pub(crate) const KILL_TIME: Duration = Duration::from_secs(5);

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

fn is_uninterruptible(pid: u32) -> bool {
    Stat::of(pid).is_ok_and(|stat| stat.state() == Some('D'))
}
