//! Finding containers, and settling those whose monitor was killed.

use std::os::fd::OwnedFd;
use std::time::{Duration, SystemTime};

use kelp_monitor::{Launch, overlays, place};
use kelp_runtime::cgroup::Cgroup;
use kelp_state::file::{self, Durability};
use kelp_state::liveness::Offline;
use kelp_state::{ContainerId, ExitRecord, Record, RunRecord, Status, liveness, name, record};

use crate::container::hang::{KILL_TIME, hangs};
use crate::container::signal::ends_within;
use crate::{Engine, Error, Kind};

/// 128 + SIGKILL: how a container ends whose monitor was killed.
pub(crate) const KILLED: i32 = 137;

/// How long a list waits for what was killed, and who removes what somebody has waited for.
pub(crate) const GLANCE: Duration = Duration::from_millis(300);

impl Engine {
    /// The container that a name, an id or the beginning of one means.
    pub fn find_container(&self, text: &str) -> Result<ContainerId, Error> {
        Ok(name::find(&self.paths, text)?)
    }

    /// A container's status; one whose monitor was killed is settled first.
    pub fn status(&self, id: &ContainerId) -> Result<Status, Error> {
        let record = Record::new(&self.paths, id.clone());
        if is_lost(&record, record.run()?.as_ref()) {
            self.settle(&record)?;
        }
        Ok(record.status()?)
    }

    /// What runs in the container that `text` means.
    pub fn running(&self, text: &str) -> Result<RunRecord, Error> {
        let id = self.find_container(text)?;
        let record = Record::new(&self.paths, id.clone());
        match record.run()? {
            Some(run) if record.is_alive() => Ok(run),
            _ => Err(Error::new(
                Kind::Conflict,
                format!(
                    "can only use a running container: {} is {}",
                    id.short(),
                    record.status()?
                ),
            )),
        }
    }

    /// Finishes the record of a container whose monitor was killed, or whose boot has ended: what is
    /// left of it is killed, and its exit written, or its record removed if that was asked for.
    ///
    /// Nobody can start it meanwhile, or what was just started would be killed.
    pub(crate) fn settle(&self, record: &Record) -> Result<(), Error> {
        match liveness::offline(&record.runtime)? {
            Some(offline) => match self.settle_offline(record, &offline, KILL_TIME)? {
                Some(run) => Err(hangs(&record.id, &run)),
                None => Ok(()),
            },
            None => Ok(()),
        }
    }

    /// The same, unless somebody else works on the container just now, or what was killed hangs: then it stays as it
    /// is.
    pub(crate) fn try_settle(&self, record: &Record) -> Result<(), Error> {
        match liveness::try_offline(&record.runtime)? {
            Some(offline) => self.settle_offline(record, &offline, GLANCE).map(drop),
            None => Ok(()),
        }
    }

    /// What was killed and has not ended when `time` has passed; then nothing is written.
    fn settle_offline(
        &self,
        record: &Record,
        _offline: &Offline,
        time: Duration,
    ) -> Result<Option<RunRecord>, Error> {
        let run = record.run()?;
        if !record.data.exists() {
            // A --rm container's monitor was quicker, and to lock it has made the directory again.
            if kill_remains(record, run.as_ref(), time) {
                let _ = std::fs::remove_dir_all(&record.runtime);
            }
            return Ok(None);
        }
        let started = match &run {
            Some(run) => run.started,
            None => match record.ended_unseen() {
                Some(begun) => begun,
                None => return Ok(None),
            },
        };
        if !kill_remains(record, run.as_ref(), time) {
            return Ok(run);
        }
        self.note_id("died", &record.id, Some(KILLED));
        let launch: Option<Launch> =
            file::read_json(&record.data.join("launch.json")).unwrap_or_default();
        let pod = launch.as_ref().and_then(|launch| launch.pod.clone());
        if launch.is_some_and(|launch| launch.remove) {
            // What the monitor would have done.
            self.remove_offline(record, true, true)?;
        } else {
            self.write_lost_exit(record, run.as_ref(), started)?;
        }
        if let Some(pod) = &pod {
            kelp_monitor::pod::look(&self.paths, pod);
        }
        Ok(None)
    }

    /// Writes the end of what was lost.
    fn write_lost_exit(
        &self,
        record: &Record,
        run: Option<&RunRecord>,
        started: SystemTime,
    ) -> Result<(), Error> {
        // What can't be removed now goes before the next start.
        let _ = self.empty_trees(&overlays::directories(&record.data).unwrap_or_default());
        let restarts = run.map_or(0, |run| run.restarts);
        let is_this_boot = run.map_or_else(
            || record.began_in_this_boot(),
            |run| run.boot_id == record::boot_id(),
        );
        let error = if is_this_boot {
            "the container's monitor was killed"
        } else {
            "the machine was restarted"
        };
        let exit = ExitRecord {
            code: KILLED,
            oom_killed: run.is_some_and(|run| run.oom_killed),
            started: Some(started),
            finished: SystemTime::now(),
            error: error.to_owned(),
            stopped: false,
            interrupted: !is_this_boot,
            restarts,
        };
        Ok(record.write_exit(&exit, Durability::None)?)
    }
}

/// Whether a container was started, and ended without anybody who could have written that. The lock is
/// looked at only where `run` is there: it is free then only if the monitor was killed.
pub(crate) fn is_lost(record: &Record, run: Option<&RunRecord>) -> bool {
    match run {
        Some(_) => !record.is_alive(),
        None => record.ended_unseen().is_some(),
    }
}

/// Kills and removes what a monitor that was killed has left: it may have been killed before it
/// could write what runs. The container can't be started meanwhile. Whether all has ended before `time` has passed:
/// else the cgroup stays, by which what hangs is known.
pub(crate) fn kill_remains(record: &Record, run: Option<&RunRecord>, time: Duration) -> bool {
    let lives = run.filter(|run| run.boot_id == record::boot_id());
    let cgroup = lives
        .filter(|run| !run.cgroup.is_empty())
        .and_then(|run| Cgroup::open(&run.cgroup).ok());
    if let Some(cgroup) = &cgroup {
        let _ = cgroup.kill();
    }
    let init = lives.and_then(kill_init);
    // One that has the host's pid namespace ends before the others.
    let ended = init.is_none_or(|init| ends_within(&init, time).unwrap_or(true))
        && cgroup
            .as_ref()
            .is_none_or(|cgroup| cgroup.empties_within(time));
    if !ended {
        return false;
    }
    place::clear(record);
    if run.is_none() {
        place::clear_beside(record);
    }
    if let Some(cgroup) = cgroup {
        cgroup.remove();
    }
    true
}

/// The init has a parent-death signal, which a program that changes its credentials loses. What was killed.
fn kill_init(run: &RunRecord) -> Option<OwnedFd> {
    use rustix::process::{Signal, pidfd_send_signal};
    let pidfd = run.open_init()?;
    let _ = pidfd_send_signal(&pidfd, Signal::KILL);
    Some(pidfd)
}
