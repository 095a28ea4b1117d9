//! `rm`: a container that does not run, or with force one that does, is taken away.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use kelp_monitor::Launch;
use kelp_monitor::attach::Connection;
use kelp_state::file::{self, Durability};
use kelp_state::shown::{Place, Seen};
use kelp_state::{ContainerId, Record, Status, liveness, name, record, trash};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::container::config::Config;
use crate::container::find::{GLANCE, kill_remains};
use crate::container::hang::hangs;
use crate::container::signal::{StopRequest, Stopped, may_start_again};
use crate::container::wait::CHANGES;
use crate::watch::{Watch, Woken};
use crate::{Engine, Error, Kind};

/// How a container is removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    /// One that runs is stopped first, and a broken record is no obstacle.
    pub force: bool,
    /// How long one that was asked to stop has until it is killed; its own time by default.
    pub timeout: Option<Duration>,
    /// Its anonymous volumes go too; they always do with a `--rm` container.
    pub volumes: bool,
    /// Also if other containers need it.
    pub needed: bool,
    /// Also if it is the infra container of a pod.
    pub with_pod: bool,
}

/// For how long somebody else who works on the container is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Until a start, or an end, is taken to hang; what a monitor that is killed at its end leaves would be
/// there until the next prune.
const SHORTEST: Duration = Duration::from_secs(2);

impl RemoveOptions {
    /// Whatever it does.
    pub const FORCE: Self = Self {
        force: true,
        timeout: None,
        volumes: false,
        needed: false,
        with_pod: false,
    };

    /// Whatever it does, and without waiting for it.
    pub const KILL: Self = Self {
        timeout: Some(Duration::ZERO),
        needed: true,
        with_pod: true,
        ..Self::FORCE
    };
}

impl Engine {
    /// Removes a container.
    pub fn remove_container(&self, id: &ContainerId, options: &RemoveOptions) -> Result<(), Error> {
        if !options.with_pod
            && let Some(pod) = self.infra_of(id)
        {
            return Err(Error::new(
                Kind::Failed,
                format!(
                    "container {id} is the infra container of pod {pod} and cannot be removed without removing \
                     the pod: kelp pod rm {}",
                    pod.short()
                ),
            ));
        }
        if !options.needed {
            self.check_unneeded(id)?;
        }
        let record = Record::new(&self.paths, id.clone());
        loop {
            let status = match self.status(id) {
                // Force is for broken records as well.
                Err(_) if options.force && !record.is_alive() => Status::Exited,
                status => status?,
            };
            let is_being_made = record::is_being_made(&record.data);
            if is_being_made && !record.is_finished() {
                // Its name is reserved, and that is all there is of it.
                return Err(kelp_state::Error::NotFound(id.to_string()).into());
            }
            if is_being_made && !options.force {
                return Err(Error::conflict(format!(
                    "cannot remove container {id} as it is just being started: container state \
                     improper"
                )));
            }
            if !status.can_remove() && !options.force {
                // Its program may have ended, and the record not say so yet.
                let settled = match status {
                    Status::Running | Status::Paused => self.settled_status(id)?,
                    status => status,
                };
                if !settled.can_remove() {
                    return Err(runs(id, settled));
                }
            } else if !status.can_remove() {
                self.end(id, &record, status, options.timeout)?;
            }
            if !record.data.exists() {
                // A --rm container's monitor was quicker.
                return Ok(());
            }
            // Unless it was started just now.
            if let Some(_offline) = liveness::offline_within(&record.runtime, PATIENCE)? {
                if !options.needed {
                    // Somebody may have come to need it meanwhile.
                    self.check_unneeded(id)?;
                }
                return self.remove_offline(&record, options.force, options.volumes);
            }
        }
    }

    /// Waits until a container that is not at rest is.
    fn end(
        &self,
        id: &ContainerId,
        record: &Record,
        status: Status,
        timeout: Option<Duration>,
    ) -> Result<(), Error> {
        if status == Status::Stopping {
            return self.end_stopping(id, record, timeout);
        }
        let request = StopRequest {
            timeout,
            ..StopRequest::default()
        };
        match self.end_program(id, request) {
            Ok(stopped) => {
                if stopped != Stopped::AtRest
                    && let Ok(config) = self.config(id)
                {
                    self.note("stop", &config);
                }
            }
            // Its config is damaged.
            Err(_) => drop(self.kill_container(id, 9)),
        }
        if !self.monitor_ends(record)? {
            kill_monitor(record)?;
            liveness::wait_until_gone(&record.runtime)?;
        }
        Ok(())
    }

    /// Waits until a container is no longer on its way to run, or to its end, and kills one that does
    /// not get there.
    fn end_stopping(
        &self,
        id: &ContainerId,
        record: &Record,
        timeout: Option<Duration>,
    ) -> Result<(), Error> {
        let config = self.config(id).ok();
        let monitor = Connection::open(&record.runtime).ok();
        if let (Some(monitor), Some(_)) =
            (&monitor, config.as_ref().filter(|it| may_start_again(it)))
        {
            // It may be between two runs.
            monitor.ask_to_stop();
        }
        let own = config.map(|config| Duration::from_secs(config.stop_timeout));
        let time = timeout.or(own).unwrap_or_default().max(SHORTEST);
        let until = SystemTime::now().checked_add(time);
        if !self.has_arrived(record, until)? {
            kill_monitor(record)?;
            liveness::wait_until_gone(&record.runtime)?;
        }
        Ok(())
    }

    /// Whether a container gets where it is on its way to, before the time has come.
    fn has_arrived(&self, record: &Record, until: Option<SystemTime>) -> Result<bool, Error> {
        let watch = match Watch::on(&record.runtime, CHANGES) {
            Err(_) if !record.runtime.exists() => return Ok(true),
            watch => watch?,
        };
        let stopping = |status: Result<Status, _>| status.is_ok_and(|it| it == Status::Stopping);
        while record.data.is_dir() && stopping(self.status(&record.id)) {
            if watch.wait_with(None, until)? == Woken::Late {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes a container that the caller keeps from being started.
    pub(crate) fn remove_offline(
        &self,
        record: &Record,
        force: bool,
        volumes: bool,
    ) -> Result<(), Error> {
        let config = match Config::read(&self.paths, &record.id) {
            Err(_) if force => None,
            result => result?,
        };
        let launch: Option<Launch> =
            file::read_json(&record.data.join("launch.json")).unwrap_or_default();
        let mounted = Place::of_container(&self.paths.data, &record.id);
        if !force && let Seen::By(process) = mounted.seen()? {
            return Err(Error::conflict(format!(
                "container {} is mounted by `kelp mount` where process {process} is: unmount it there \
                 (kelp umount), or use --force",
                record.id.short()
            )));
        }
        let run = record.run().unwrap_or_default();
        if !kill_remains(record, run.as_ref(), GLANCE)
            && let Some(run) = run
        {
            return Err(hangs(&record.id, &run));
        }
        mounted.forget();
        let place = trash::put_record(&self.paths, record)?;
        let synced = if launch.as_ref().is_some_and(|launch| launch.remove) {
            Ok(())
        } else {
            // Reported removed, it does not come back after a power cut.
            file::sync_removal(&self.paths.containers()).map_err(Error::io("remove a record"))
        };
        self.delete_discarded(&place)?;
        if let Some(config) = &config {
            name::release(&self.paths, &config.name, &record.id);
            self.note("remove", config);
            if let Some(file) = &config.options.cid_file {
                let _ = fs::remove_file(file);
            }
            if let Some(pod) = config
                .options
                .pod
                .as_ref()
                .and_then(|it| it.pod.parse().ok())
            {
                kelp_state::pod::forget(&self.paths, &pod, &record.id);
            }
        }
        match launch {
            Some(launch) if volumes || launch.remove => self.remove_anonymous(&launch)?,
            _ => {}
        }
        synced
    }

    /// Removes a container's anonymous volumes, but for those that another one uses as well.
    fn remove_anonymous(&self, launch: &Launch) -> Result<(), Error> {
        let names = launch.anonymous_volumes.iter().filter_map(|path| {
            let name = path.file_name()?.to_str()?;
            (path.parent() == Some(&self.paths.volumes())).then_some(name)
        });
        for name in names {
            self.discard_volume(name, Durability::None)?;
        }
        Ok(())
    }

    /// Removes the record; what its users own is removed from inside its user namespace.
    pub(crate) fn discard(&self, record: &Record) -> Result<(), Error> {
        let place = trash::put_record(&self.paths, record)?;
        self.delete_discarded(&place)
    }

    /// Deletes what was put in the trash, or was left where it is for want of space.
    pub(crate) fn delete_discarded(&self, place: &Path) -> Result<(), Error> {
        if trash::empty(place).is_ok() {
            return Ok(());
        }
        self.remove_trees(&[place.to_owned()])
    }
}

/// Kills the monitor of a container whose start hangs; its init goes with it, and its cgroup with the
/// record.
pub(crate) fn kill_monitor(record: &Record) -> Result<(), Error> {
    let id = record.id.short();
    let what = || format!("kill the monitor of container {id}");
    let Ok(connection) = Connection::open(&record.runtime) else {
        if !record.is_alive() {
            return Ok(());
        }
        if let Some(monitor) = recorded_monitor(record) {
            return kelp_sys::signal::pidfd_send(monitor.as_fd(), 9).map_err(Error::io(what()));
        }
        // It has no socket yet, and has started nothing.
        return Err(Error::conflict(format!(
            "container {id} is about to be started, and waits for another kelp command that works on \
             it: try again when that has ended"
        )));
    };
    if let Some(monitor) = connection.monitor().map_err(Error::io(what()))? {
        kelp_sys::signal::pidfd_send(monitor.as_fd(), 9).map_err(Error::io(what()))?;
    }
    Ok(())
}

/// A monitor that lets nobody in, by the number in the record: that is its own if the process has the file open of
/// which a monitor has the lock. One that has entered the user namespace itself shows nobody what it has open: it is
/// known by what it was asked to do.
fn recorded_monitor(record: &Record) -> Option<OwnedFd> {
    let run = record.run().ok()??;
    let pidfd = pidfd_open(Pid::from_raw(run.monitor as i32)?, PidfdFlags::empty()).ok()?;
    let identity = |path: &Path| {
        let found = fs::metadata(path).ok()?;
        Some((found.dev(), found.ino()))
    };
    let lock = identity(&record.runtime.join("alive"))?;
    // Looked at after the pidfd was opened: it is the process that has the number, or one that has ended.
    let is_its = match fs::read_dir(format!("/proc/{}/fd", run.monitor)) {
        Ok(mut descriptors) => {
            descriptors.any(|entry| entry.is_ok_and(|entry| identity(&entry.path()) == Some(lock)))
        }
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            let line = fs::read(format!("/proc/{}/cmdline", run.monitor)).ok()?;
            let words: Vec<_> = line.split(|&byte| byte == 0).collect();
            words.get(1..4) == Some(&[b"internal", b"monitor", record.id.as_str().as_bytes()])
        }
        Err(_) => false,
    };
    is_its.then_some(pidfd)
}

fn runs(id: &ContainerId, status: Status) -> Error {
    Error::conflict(format!(
        "cannot remove container {id} as it is {status} - running or paused containers cannot be \
         removed without force: container state improper"
    ))
}
