//! Finding containers, and settling those whose monitor was killed.

use std::time::SystemTime;

use kelp_monitor::{Launch, overlays, place};
use kelp_runtime::cgroup::Cgroup;
use kelp_state::file::{self, Durability};
use kelp_state::liveness::Offline;
use kelp_state::{ContainerId, ExitRecord, Record, RunRecord, Status, liveness, name, record};

use crate::{Engine, Error, Kind};

/// 128 + SIGKILL: how a container ends whose monitor was killed.
pub(crate) const KILLED: i32 = 137;

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
            Some(offline) => self.settle_offline(record, &offline),
            None => Ok(()),
        }
    }

    /// The same, unless somebody else works on the container just now: then it stays as it is.
    pub(crate) fn try_settle(&self, record: &Record) -> Result<(), Error> {
        match liveness::try_offline(&record.runtime)? {
            Some(offline) => self.settle_offline(record, &offline),
            None => Ok(()),
        }
    }

    fn settle_offline(&self, record: &Record, _offline: &Offline) -> Result<(), Error> {
        let run = record.run()?;
        if !record.data.exists() {
            // A --rm container's monitor was quicker, and to lock it has made the directory again.
            kill_remains(record, run.as_ref());
            let _ = std::fs::remove_dir_all(&record.runtime);
            return Ok(());
        }
        let started = match &run {
            Some(run) => run.started,
            None => match record.ended_unseen() {
                Some(begun) => begun,
                None => return Ok(()),
            },
        };
        kill_remains(record, run.as_ref());
        self.note_id("died", &record.id, Some(KILLED));
        let launch: Option<Launch> =
            file::read_json(&record.data.join("launch.json")).unwrap_or_default();
        if launch.is_some_and(|launch| launch.remove) {
            // What the monitor would have done.
            return self.remove_offline(record, true, true);
        }
        // What can't be removed now goes before the next start.
        let _ = self.empty_trees(&overlays::directories(&record.data).unwrap_or_default());
        let restarts = run.as_ref().map_or(0, |run| run.restarts);
        let is_this_boot = run.as_ref().map_or_else(
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
            oom_killed: run.as_ref().is_some_and(|run| run.oom_killed),
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
/// could write what runs. The container can't be started meanwhile.
pub(crate) fn kill_remains(record: &Record, run: Option<&RunRecord>) {
    place::clear(record);
    if run.is_none() {
        place::clear_beside(record);
    }
    let Some(run) = run.filter(|run| run.boot_id == record::boot_id()) else {
        return;
    };
    if !run.cgroup.is_empty()
        && let Ok(cgroup) = Cgroup::open(&run.cgroup)
    {
        let _ = cgroup.kill();
        cgroup.remove();
    }
    kill_init(run);
}

/// The init has a parent-death signal, which a program that changes its credentials loses.
fn kill_init(run: &RunRecord) {
    use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
    let Some(pid) = Pid::from_raw(run.pid as i32) else {
        return;
    };
    let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else {
        return;
    };
    // Looked at after the pidfd was opened: the number can't change hands any more.
    if record::start_time(run.pid) == Some(run.start_time) {
        let _ = pidfd_send_signal(&pidfd, Signal::KILL);
    }
}
