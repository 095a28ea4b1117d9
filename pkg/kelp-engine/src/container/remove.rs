//! `rm`: a container that does not run, or with force one that does, is taken away.

use std::path::Path;
use std::time::Duration;

use kelp_args::RestartPolicy;
use kelp_monitor::Launch;
use kelp_state::{ContainerId, Record, Status, file, liveness, name, record, trash};

use crate::container::config::Config;
use crate::container::find::kill_remains;
use crate::container::wait::Condition;
use crate::{Engine, Error};

/// How a container is removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    /// One that runs is stopped first, and a broken record is no obstacle.
    pub force: bool,
    /// How long one that was asked to stop has until it is killed; its own time by default.
    pub timeout: Option<Duration>,
    /// Its anonymous volumes go too; they always do with a `--rm` container.
    pub volumes: bool,
}

impl RemoveOptions {
    /// Whatever it does.
    pub const FORCE: Self = Self {
        force: true,
        timeout: None,
        volumes: false,
    };

    /// Whatever it does, and without waiting for it.
    pub const KILL: Self = Self {
        timeout: Some(Duration::ZERO),
        ..Self::FORCE
    };
}

impl Engine {
    /// Removes a container.
    pub fn remove_container(&self, id: &ContainerId, options: &RemoveOptions) -> Result<(), Error> {
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
            if !status.can_remove() {
                if !options.force {
                    return Err(runs(id, status));
                }
                self.end(id, &record, status, options.timeout)?;
            }
            if !record.data.exists() {
                // A --rm container's monitor was quicker.
                return Ok(());
            }
            // Unless it was started just now.
            if let Some(_offline) = liveness::offline(&record.runtime)? {
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
        let restarts = |config: Config| config.options.restart != RestartPolicy::No;
        if status == Status::Stopping && !self.config(id).is_ok_and(restarts) {
            // On its way to run, or to its end.
            let any = [Condition::Running, Condition::Exited, Condition::Created];
            let _ = self.wait_for(id, &any);
            return Ok(());
        }
        if self.stop_container(id, timeout).is_err() {
            // It has ended, or its config is damaged.
            let _ = self.kill_container(id, 9);
        }
        Ok(liveness::wait_until_gone(&record.runtime)?)
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
        kill_remains(record, record.run().unwrap_or_default().as_ref());
        self.discard(record)?;
        if let Some(config) = &config {
            name::release(&self.paths, &config.name, &record.id);
            self.note("remove", config);
            if let Some(file) = &config.options.cid_file {
                let _ = std::fs::remove_file(file);
            }
        }
        match launch {
            Some(launch) if volumes || launch.remove => self.remove_anonymous(&launch),
            _ => Ok(()),
        }
    }

    /// Removes a container's anonymous volumes, but for those that another one uses as well.
    fn remove_anonymous(&self, launch: &Launch) -> Result<(), Error> {
        let names = launch.anonymous_volumes.iter().filter_map(|path| {
            let name = path.file_name()?.to_str()?;
            (path.parent() == Some(&self.paths.volumes())).then_some(name)
        });
        for name in names {
            self.discard_volume(name)?;
        }
        Ok(())
    }

    /// Removes the record; what its users own is removed from inside its user namespace.
    pub(crate) fn discard(&self, record: &Record) -> Result<(), Error> {
        let place = trash::put_record(&self.paths, record)?;
        self.delete_discarded(&place)
    }

    /// Deletes what was put in the trash.
    pub(crate) fn delete_discarded(&self, place: &Path) -> Result<(), Error> {
        if trash::empty(place).is_ok() {
            return Ok(());
        }
        self.remove_trees(&[place.to_owned()])
    }
}

fn runs(id: &ContainerId, status: Status) -> Error {
    Error::conflict(format!(
        "cannot remove container {id} as it is {status} - running or paused containers cannot be \
         removed without force: container state improper"
    ))
}
