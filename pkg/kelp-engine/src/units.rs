//! Units of the user's systemd, or the system's for root: for those that are generated of Quadlet files.

use std::time::Duration;

use kelp_systemd::{JobResult, Manager};

use crate::Engine;
use crate::auto_update::UnitState;
use crate::error::Error;

/// A connection to the manager.
#[derive(Debug)]
pub struct Units(Manager);

impl Engine {
    /// Connects to the user's systemd.
    pub fn units(&self) -> Result<Units, Error> {
        Manager::connect(self.paths.session())
            .map(Units)
            .map_err(|error| Error::caused_by("connect to the user's systemd", error))
    }

    /// Stops a unit of the user's systemd, and waits until it is stopped.
    pub fn stop_unit(&self, unit: &str) -> Result<(), Error> {
        let stopped = self.units()?.0.stop(unit);
        stopped.map_err(|error| Error::caused_by(&format!("stop {unit}"), error))
    }
}

impl Units {
    /// Has systemd run its generators and read its units anew.
    pub fn reload(&mut self) -> Result<(), Error> {
        let reloaded = self.0.reload();
        reloaded.map_err(|error| Error::caused_by("have systemd read its units anew", error))
    }

    /// How a unit is, as `active/running`; nothing if systemd does not know it.
    pub fn state(&mut self, unit: &str) -> Result<Option<String>, Error> {
        let state = self.parts(unit)?;
        Ok(state.map(|UnitState { active, sub }| format!("{active}/{sub}")))
    }

    /// The same in its parts.
    pub(crate) fn parts(&mut self, unit: &str) -> Result<Option<UnitState>, Error> {
        let state = self.0.state(unit);
        let [load, active, sub] =
            state.map_err(|error| Error::caused_by(&format!("ask systemd for {unit}"), error))?;
        Ok((load != "not-found").then_some(UnitState { active, sub }))
    }

    /// Stops a unit and starts it again; what that has come to when it has ended.
    pub(crate) fn restart(&mut self, unit: &str, limit: Duration) -> Result<JobResult, Error> {
        let result = self.0.restart(unit, limit);
        result.map_err(|error| Error::caused_by(&format!("restart {unit}"), error))
    }

    /// Which of these services run, of a template (`web@.service`) all instances: what is being started, stopped
    /// or loaded anew runs as well.
    pub fn running(&mut self, services: &[String]) -> Result<Vec<String>, Error> {
        if services.is_empty() {
            return Ok(Vec::new());
        }
        let patterns: Vec<_> = services.iter().map(|service| pattern(service)).collect();
        let patterns: Vec<_> = patterns.iter().map(String::as_str).collect();
        let units = self.0.list(&patterns);
        let units = units.map_err(|error| Error::caused_by("ask systemd what runs", error))?;
        let running = units.into_iter().filter(|(_, active)| is_running(active));
        Ok(running.map(|(name, _)| name).collect())
    }
}

/// Whether a unit's `ActiveState` leaves anything to stop.
fn is_running(active: &str) -> bool {
    !matches!(active, "inactive" | "failed")
}

/// The pattern (glob(7)) that a service's name fits, or the instances of a template.
fn pattern(service: &str) -> String {
    let mut pattern = String::new();
    for char in service.chars() {
        if matches!(char, '*' | '?' | '[' | '\\') {
            pattern.push('\\');
        }
        pattern.push(char);
    }
    match pattern.strip_suffix("@.service") {
        Some(prefix) => format!("{prefix}@*.service"),
        None => pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_is_found_by_its_name_and_a_template_by_its_instances() {
        for (service, expected) in [
            ("web.service", "web.service"),
            ("web@1.service", "web@1.service"),
            ("web@.service", "web@*.service"),
            (r"a\x2db@.service", r"a\\x2db@*.service"),
        ] {
            assert_eq!(pattern(service), expected);
        }
    }

    #[test]
    fn only_what_has_stopped_does_not_run() {
        for (active, expected) in [
            ("active", true),
            ("reloading", true),
            ("activating", true),
            ("deactivating", true),
            ("refreshing", true),
            ("maintenance", true),
            ("inactive", false),
            ("failed", false),
        ] {
            assert_eq!(is_running(active), expected, "{active}");
        }
    }
}
