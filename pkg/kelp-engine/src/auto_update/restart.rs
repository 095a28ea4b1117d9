//! A unit that is started again, and whether what it runs then works.

use std::time::{Duration, SystemTime};

use kelp_image::Digest;
use kelp_state::{Health, Record};
use kelp_systemd::JobResult;

use super::Candidate;
use super::decide::{Restarted, UnitState, restarted, time_to_be_healthy};
use super::policy::UNIT;
use crate::container::Config;
use crate::container::wait::Condition;
use crate::{Engine, Error, Kind};

/// The longest that a restart may take. Units say themselves how long they have to stop and to start, and systemd
/// ends the job then; this is for those that have all the time in the world.
const JOB_LIMIT: Duration = Duration::from_hours(1);

/// For how long a container without health checks has to run after its start.
const SETTLING: Duration = Duration::from_secs(5);

/// Why a unit does not run as it should after a restart.
#[derive(Debug)]
pub(super) struct Failure {
    /// What went wrong.
    pub(super) why: String,
    /// Whether somebody else has a hand in the unit: then it is not started again.
    pub(super) is_taken: bool,
}

impl From<String> for Failure {
    fn from(why: String) -> Self {
        Self {
            why,
            is_taken: false,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        error.line().into()
    }
}

impl Engine {
    /// How a unit is, which systemd has to know.
    pub(super) fn unit_state(&self, unit: &str) -> Result<UnitState, Error> {
        self.units()?.parts(unit)?.ok_or_else(|| {
            Error::new(
                Kind::NotFound,
                format!("systemd knows no unit {unit}, in which the container should run"),
            )
        })
    }

    /// Starts a unit again, which was so before, and waits until its containers, each with the image that it is to
    /// be made of, are known to work. See [`SETTLING`] and [`super::decide::HEALTH_LIMIT`] for how long that takes.
    pub(super) fn restart_unit(
        &self,
        unit: &str,
        before: &UnitState,
        containers: &[(&Candidate, &Digest)],
    ) -> Result<(), Failure> {
        let result = self.units()?.restart(unit, JOB_LIMIT)?;
        match restarted(&result) {
            Restarted::Done => {}
            Restarted::Failed => return Err(told(unit, &result).into()),
            Restarted::Taken => {
                return Err(Failure {
                    why: told(unit, &result),
                    is_taken: true,
                });
            }
        }
        let started = SystemTime::now();
        let state = self.unit_state(unit)?;
        if state.has_done(before) {
            return Ok(());
        }
        check(unit, &state, before)?;
        for (container, image) in containers {
            let Some(config) = self.successor(unit, container) else {
                return Err(gone(unit, &container.name).into());
            };
            if config.image_id != image.hex() {
                return Err(format!(
                    "{unit} runs container {} with another image than {} stands for: the unit has to make a new \
                     container each time, as kelp run --replace does",
                    config.name, container.image
                )
                .into());
            }
            self.wait_until_it_works(unit, &config, started)?;
        }
        Ok(check(unit, &self.unit_state(unit)?, before)?)
    }

    /// The container that has come in the place of another in its unit: the one with its name, or else one that was
    /// asked for by the same name of an image.
    fn successor(&self, unit: &str, container: &Candidate) -> Option<Config> {
        let mut found = None;
        for listed in self.list_containers(false) {
            let summary = listed.summary;
            if summary.labels.get(UNIT).is_none_or(|of| of != unit) {
                continue;
            }
            let Ok(Some(config)) = Config::read(&self.paths, &summary.id) else {
                continue;
            };
            if config.name == container.name {
                return Some(config);
            }
            if config.options.image == container.image {
                found.get_or_insert(config);
            }
        }
        found
    }

    /// Waits until a container that has been started works: it is healthy, or runs for a while where it has no
    /// checks.
    fn wait_until_it_works(
        &self,
        unit: &str,
        config: &Config,
        started: SystemTime,
    ) -> Result<(), String> {
        let name = &config.name;
        let record = Record::new(&self.paths, config.id.clone());
        let Some(time) = time_to_be_healthy(config.health.as_ref()) else {
            let until = Some(started + SETTLING);
            return match self.wait_until(&config.id, &[Condition::Exited], until) {
                Ok(None) => match record.run() {
                    Ok(Some(run)) if run.restarts > 0 => {
                        Err(format!("container {name} had to be started again"))
                    }
                    _ => Ok(()),
                },
                Ok(Some(code)) => Err(format!("container {name} has ended with {code}")),
                Err(error) if error.kind() == Kind::NotFound => Err(gone(unit, name)),
                Err(error) => Err(error.line()),
            };
        };
        let health = [Health::Healthy, Health::Unhealthy].map(Condition::Health);
        match self.wait_until(&config.id, &health, Some(started + time)) {
            Ok(None) => Err(format!("container {name} is not healthy after {time:?}")),
            Ok(Some(_)) => match record.health() {
                Ok(Some(found)) if found.status == Health::Unhealthy => {
                    Err(format!("container {name} is unhealthy"))
                }
                Ok(_) => Ok(()),
                Err(error) => Err(Error::from(error).line()),
            },
            Err(error) if error.kind() == Kind::NotFound => Err(gone(unit, name)),
            Err(error) => Err(error.line()),
        }
    }
}

/// That a container has ended, which removes one of a unit that makes it anew.
fn gone(unit: &str, container: &str) -> String {
    format!("{unit} runs no container {container}")
}

fn told(unit: &str, result: &JobResult) -> String {
    match result {
        JobResult::Canceled => format!("the restart of {unit} was canceled by somebody else"),
        JobResult::Timeout => format!("the restart of {unit} took too long (timeout)"),
        JobResult::Dependency => {
            format!("{unit} was not started, because what it needs failed (dependency)")
        }
        result => format!("the restart of {unit} has come to \"{result}\""),
    }
}

fn check(unit: &str, state: &UnitState, before: &UnitState) -> Result<(), String> {
    if state.is_well(before) {
        return Ok(());
    }
    Err(format!(
        "{unit} is {}/{} after its restart",
        state.active, state.sub
    ))
}
