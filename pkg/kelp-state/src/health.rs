//! What the health checks of a container have found, as its monitor writes it down: in the runtime directory
//! while it runs, and with its record when it has ended.

use std::fmt;
use std::fs;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::file::{self, Durability};
use crate::record::Record;

const FILE: &str = "health.json";

/// Whether a container works.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// No check has told yet.
    #[default]
    Starting,
    /// The last check that counted was passed.
    Healthy,
    /// As many checks in a row as the container was given have failed.
    Unhealthy,
}

impl Health {
    /// podman's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
        }
    }
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Health {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let all = [Self::Starting, Self::Healthy, Self::Unhealthy];
        all.into_iter()
            .find(|health| health.as_str() == text)
            .ok_or(())
    }
}

/// What the checks have found, in docker's and podman's form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HealthRecord {
    /// What follows from that.
    pub status: Health,
    /// How many have failed since the last one that was passed.
    pub failing_streak: u32,
    /// The last ones, the latest at the end.
    pub log: Vec<HealthCheck>,
}

/// One check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct HealthCheck {
    /// When it began: RFC 3339, in UTC.
    pub start: String,
    /// When it had ended.
    pub end: String,
    /// The exit code of its program; -1 if that took too long.
    pub exit_code: i32,
    /// What that wrote, as far as it is kept.
    pub output: String,
}

impl Record {
    /// What the checks of a container that runs have found, or had when it ended; `None` if there were none.
    pub fn health(&self) -> Result<Option<HealthRecord>, Error> {
        match file::read_json(&self.runtime.join(FILE))? {
            Some(health) => Ok(Some(health)),
            None => file::read_json(&self.data.join(FILE)),
        }
    }

    /// Writes that of a container that runs.
    pub fn write_health(&self, health: &HealthRecord) -> Result<(), Error> {
        file::write_json(&self.runtime.join(FILE), health, Durability::None)
    }

    /// Writes that of one that has ended, which counts from then on.
    pub fn keep_health(&self, health: &HealthRecord) -> Result<(), Error> {
        file::write_json(&self.data.join(FILE), health, Durability::None)?;
        let _ = fs::remove_file(self.runtime.join(FILE));
        Ok(())
    }

    /// Forgets what was found before: the container is checked no more.
    pub fn forget_health(&self) {
        for directory in [&self.runtime, &self.data] {
            let _ = fs::remove_file(directory.join(FILE));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_have_podmans_words() {
        for health in [Health::Starting, Health::Healthy, Health::Unhealthy] {
            assert_eq!(health.to_string().parse(), Ok(health));
            let word = serde_json::to_string(&health).unwrap();
            assert_eq!(word, format!("\"{health}\""));
        }
        assert_eq!("well".parse::<Health>(), Err(()));
    }

    #[test]
    fn what_was_found_lasts_longer_than_the_run() {
        let directory = tempfile::tempdir().unwrap();
        let record = Record {
            id: crate::ContainerId::random(),
            data: directory.path().join("data"),
            runtime: directory.path().join("runtime"),
            had_begun: true,
        };
        for directory in [&record.data, &record.runtime] {
            fs::create_dir(directory).unwrap();
        }
        assert_eq!(record.health().unwrap(), None);
        let mut health = HealthRecord::default();
        record.write_health(&health).unwrap();
        assert_eq!(record.health().unwrap(), Some(health.clone()));
        health.status = Health::Healthy;
        record.keep_health(&health).unwrap();
        assert_eq!(record.health().unwrap(), Some(health));
        assert!(!record.runtime.join(FILE).exists());
        record.forget_health();
        assert_eq!(record.health().unwrap(), None);
    }
}
