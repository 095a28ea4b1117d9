//! `wait`: until a container is in a state.

use std::fs;
use std::str::FromStr;
use std::time::SystemTime;

use kelp_state::{ContainerId, Health, Record, Status};
use rustix::fs::inotify::WatchFlags;

use crate::watch::{Watch, Woken};
use crate::{Engine, Error, Kind};

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It has been made and never started.
    Created,
    /// Its program runs.
    Running,
    /// It is frozen.
    Paused,
    /// Its program has ended.
    Exited,
    /// It is gone.
    Removing,
    /// Its health checks have found this.
    Health(Health),
}

impl FromStr for Condition {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "configured" | "created" | "initialized" => Ok(Self::Created),
            "running" => Ok(Self::Running),
            "paused" => Ok(Self::Paused),
            "exited" | "stopped" | "not-running" => Ok(Self::Exited),
            "removing" | "removed" => Ok(Self::Removing),
            "healthy" => Ok(Self::Health(Health::Healthy)),
            "unhealthy" => Ok(Self::Health(Health::Unhealthy)),
            _ => Err(Error::invalid(format!(
                "unknown container state: \"{text}\""
            ))),
        }
    }
}

impl Condition {
    fn holds(self, status: Status, record: &Record) -> bool {
        match self {
            Self::Health(health) => {
                let found = record.health().ok().flatten();
                matches!(status, Status::Running | Status::Paused)
                    && found.is_some_and(|found| found.status == health)
            }
            Self::Created => status == Status::Created,
            Self::Running => status == Status::Running,
            Self::Paused => status == Status::Paused,
            Self::Exited => status == Status::Exited,
            Self::Removing => false,
        }
    }
}

/// What changes a status: run.json comes by a rename and goes, and the file with the monitor's
/// lock, which it has open for writing, is closed when the monitor ends, however it does.
pub(crate) const CHANGES: WatchFlags = WatchFlags::MOVED_TO
    .union(WatchFlags::DELETE)
    .union(WatchFlags::CLOSE_WRITE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF);

impl Engine {
    /// Waits until a container is in one of these states; its exit code, or -1 if it has not ended.
    /// One that was never started is waited for until it has been started and has ended.
    pub fn wait_for(&self, id: &ContainerId, conditions: &[Condition]) -> Result<i32, Error> {
        self.wait_while(id, conditions, false)
    }

    /// The same; of one that `has_run`, the end ends a wait for its health.
    pub(crate) fn wait_while(
        &self,
        id: &ContainerId,
        conditions: &[Condition],
        has_run: bool,
    ) -> Result<i32, Error> {
        loop {
            if let Some(code) = self.wait_within(id, conditions, has_run, None)? {
                return Ok(code);
            }
        }
    }

    /// The same, until then at most: `None` if the time has come first.
    pub(crate) fn wait_until(
        &self,
        id: &ContainerId,
        conditions: &[Condition],
        until: Option<SystemTime>,
    ) -> Result<Option<i32>, Error> {
        self.wait_within(id, conditions, false, until)
    }

    fn wait_within(
        &self,
        id: &ContainerId,
        conditions: &[Condition],
        mut has_run: bool,
        until: Option<SystemTime>,
    ) -> Result<Option<i32>, Error> {
        let record = Record::new(&self.paths, id.clone());
        // Which nothing but the end of it ends.
        let only_exit = until.is_none()
            && conditions
                .iter()
                .all(|condition| *condition == Condition::Exited);
        let settled = |status| matches!(status, Status::Running | Status::Paused | Status::Exited);
        if only_exit && settled(self.status(id)?) {
            return self.wait_container(id).map(Some);
        }
        let of_health = |condition: &Condition| matches!(condition, Condition::Health(_));
        let only_health = conditions.iter().all(of_health);
        if only_health && self.config(id)?.health.is_none() {
            return Err(Error::invalid(format!(
                "container {} has no defined healthcheck: it will never be healthy or unhealthy",
                id.short()
            )));
        }
        fs::create_dir_all(&record.runtime)
            .map_err(Error::io(format!("create {}", record.runtime.display())))?;
        let watch = Watch::on(&record.runtime, CHANGES)?;
        loop {
            if !record.data.is_dir() {
                // A wait's own directory must not stay behind.
                let _ = fs::remove_dir(&record.runtime);
                if conditions.contains(&Condition::Removing) {
                    return Ok(Some(-1));
                }
                return Err(Error::new(
                    Kind::NotFound,
                    format!("container {} was removed: no such container", id.short()),
                ));
            }
            let status = self.status(id)?;
            if only_exit && settled(status) {
                return self.wait_container(id).map(Some);
            }
            if conditions
                .iter()
                .any(|condition| condition.holds(status, &record))
            {
                return Ok(Some(match record.exit()? {
                    Some(exit) if status == Status::Exited => exit.code,
                    _ => -1,
                }));
            }
            has_run |= matches!(status, Status::Running | Status::Paused);
            if only_health && has_run && status == Status::Exited {
                return Err(Error::conflict(format!(
                    "container {} has ended: its health is not checked any more",
                    id.short()
                )));
            }
            if watch.wait_with(None, until)? == Woken::Late {
                return Ok(None);
            }
        }
    }
}
