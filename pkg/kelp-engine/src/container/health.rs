//! Health checks as they are asked for: by an image, by flags, and by a change of either.

use std::time::Duration;

use kelp_monitor::attach::Connection;
pub use kelp_monitor::health::{
    Check, HealthConfig, LogDestination, OUTPUT_LIMIT, OnFailure, Startup,
};
use kelp_state::{ContainerId, Health, Record};
use serde::{Deserialize, Serialize};

use crate::{Engine, Error, Kind};

/// The usual time between two checks, and for one.
const USUAL: Duration = Duration::from_secs(30);

/// Nothing is shorter.
const SHORTEST: Duration = Duration::from_millis(1);

/// How often a check fails before the container is unhealthy.
const RETRIES: u32 = 3;

/// How many checks are remembered, and how many bytes of each.
const LOG: (u32, u32) = (5, 500);

/// What a request says of health checks; what it does not say stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HealthOptions {
    /// There are none.
    pub none: bool,
    /// The check: `CMD` and a program, or `CMD-SHELL` and a line for the shell.
    pub test: Option<Vec<String>>,
    /// The time between two; nothing for none that is made by itself.
    pub interval: Option<Duration>,
    /// How long one may take.
    pub timeout: Option<Duration>,
    /// How often it fails in a row before the container is unhealthy.
    pub retries: Option<u32>,
    /// For how long after the start failures do not count.
    pub start_period: Option<Duration>,
    /// The time between two in that.
    pub start_interval: Option<Duration>,
    /// What happens when the container becomes unhealthy.
    pub on_failure: Option<OnFailure>,
    /// A check that has to be passed first.
    pub startup: StartupOptions,
    /// How many are remembered; 0 for all.
    pub log_count: Option<u32>,
    /// Bytes of output that are remembered of each; 0 for [`OUTPUT_LIMIT`].
    pub log_size: Option<u32>,
    /// Who else hears of each.
    pub log_to: Option<LogDestination>,
}

/// What a request says of the check that has to be passed first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StartupOptions {
    /// The check, as in [`HealthOptions::test`].
    pub test: Option<Vec<String>>,
    /// The time between two.
    pub interval: Option<Duration>,
    /// How long one may take.
    pub timeout: Option<Duration>,
    /// How often in a row it has to be passed.
    pub successes: Option<u32>,
    /// How often in a row it may fail before the container is started again; 0 for as often as it likes.
    pub retries: Option<u32>,
}

/// The health check of an image: docker's, which the OCI's specification does not have. Times are in
/// nanoseconds, and 0 is the usual one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct ImageCheck {
    test: Option<Vec<String>>,
    interval: i64,
    timeout: i64,
    start_period: i64,
    start_interval: i64,
    retries: i64,
}

/// An image's config, as far as that is in it.
#[derive(Default, Deserialize)]
#[serde(default)]
struct ImageDocument {
    config: Option<ImageDocumentConfig>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct ImageDocumentConfig {
    healthcheck: Option<ImageCheck>,
}

impl ImageCheck {
    /// That of an image's config.
    pub(crate) fn of(document: &[u8]) -> Option<Self> {
        let name = b"\"Healthcheck\"";
        // Most have none, and need not be read again.
        if !document.windows(name.len()).any(|part| part == name) {
            return None;
        }
        let document = serde_json::from_slice::<ImageDocument>(document).ok()?;
        document.config?.healthcheck
    }

    /// As what a container is checked by.
    pub(crate) fn config(&self) -> Option<HealthConfig> {
        let test = self.test.clone()?;
        if !matches!(test.first().map(String::as_str), Some("CMD" | "CMD-SHELL")) {
            return None;
        }
        let span = |nanoseconds: i64| {
            u64::try_from(nanoseconds)
                .ok()
                .filter(|&span| span > 0)
                .map(|span| Duration::from_nanos(span).max(SHORTEST))
        };
        let mut config = usual(test);
        config.check.interval = Some(span(self.interval).unwrap_or(USUAL));
        config.check.timeout = span(self.timeout).unwrap_or(USUAL);
        config.start_period = span(self.start_period).unwrap_or_default();
        config.start_interval = span(self.start_interval);
        let retries = u32::try_from(self.retries).ok();
        config.retries = retries.filter(|&retries| retries > 0).unwrap_or(RETRIES);
        Some(config)
    }
}

fn usual(test: Vec<String>) -> HealthConfig {
    HealthConfig {
        check: usual_check(test),
        retries: RETRIES,
        start_period: Duration::ZERO,
        start_interval: None,
        startup: None,
        on_failure: OnFailure::None,
        log_count: LOG.0,
        log_size: LOG.1,
        log_to: LogDestination::Local,
    }
}

fn usual_check(test: Vec<String>) -> Check {
    Check {
        test,
        interval: Some(USUAL),
        timeout: USUAL,
    }
}

impl HealthOptions {
    /// What this makes of what there was.
    ///
    /// # Errors
    /// Where it changes a check and there is none.
    pub(crate) fn over(&self, before: Option<HealthConfig>) -> Result<Option<HealthConfig>, Error> {
        if self.none || self.test.as_ref().is_some_and(|test| is_none(test)) {
            return Ok(None);
        }
        if *self == Self::default() {
            return Ok(before);
        }
        let mut config = match (before, &self.test) {
            (Some(mut before), Some(test)) => {
                before.check.test.clone_from(test);
                before
            }
            (Some(before), None) => before,
            (None, Some(test)) => usual(test.clone()),
            (None, None) => {
                return Err(Error::invalid(
                    "there is no health check to change: the image has none, and --health-cmd is not given",
                ));
            }
        };
        change(&mut config.check, self.interval, self.timeout);
        set(&mut config.retries, self.retries);
        set(&mut config.start_period, self.start_period);
        let start_interval = self.start_interval.map(|interval| interval.max(SHORTEST));
        config.start_interval = start_interval.or(config.start_interval);
        set(&mut config.on_failure, self.on_failure);
        set(&mut config.log_count, self.log_count);
        set(&mut config.log_size, self.log_size);
        set(&mut config.log_to, self.log_to.clone());
        config.startup = self.startup.over(config.startup)?;
        Ok(Some(config))
    }
}

impl StartupOptions {
    fn over(&self, before: Option<Startup>) -> Result<Option<Startup>, Error> {
        if self.test.as_ref().is_some_and(|test| is_none(test)) {
            return Ok(None);
        }
        if *self == Self::default() {
            return Ok(before);
        }
        let mut startup = match (before, &self.test) {
            (Some(mut before), Some(test)) => {
                before.check.test.clone_from(test);
                before
            }
            (Some(before), None) => before,
            (None, Some(test)) => Startup {
                check: usual_check(test.clone()),
                successes: 1,
                retries: 0,
            },
            (None, None) => {
                return Err(Error::invalid(
                    "there is no startup check to change: give --health-startup-cmd as well",
                ));
            }
        };
        change(&mut startup.check, self.interval, self.timeout);
        set(&mut startup.successes, self.successes);
        set(&mut startup.retries, self.retries);
        Ok(Some(startup))
    }
}

fn is_none(test: &[String]) -> bool {
    test.first().is_none_or(|form| form == "NONE")
}

fn change(check: &mut Check, interval: Option<Duration>, timeout: Option<Duration>) {
    if let Some(interval) = interval {
        check.interval = (!interval.is_zero()).then_some(interval.max(SHORTEST));
    }
    set(&mut check.timeout, timeout);
}

fn set<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}

/// Whether a container's health can have it started again.
pub(crate) fn starts_again(config: Option<&HealthConfig>) -> bool {
    config.is_some_and(|config| {
        let startup = config.startup.as_ref();
        config.on_failure == OnFailure::Restart
            || startup.is_some_and(|startup| startup.retries > 0)
    })
}

impl Engine {
    /// Has the monitor of a container that runs make a health check now: whether it was passed, and the
    /// container's state after it.
    pub fn check_health(&self, id: &ContainerId) -> Result<(bool, Health), Error> {
        let config = self.config(id)?;
        let name = &config.name;
        if config.health.is_none() {
            return Err(Error::new(
                Kind::Invalid,
                format!(
                    "container {name} has no defined healthcheck: create it with --health-cmd, or give it one \
                     with kelp update --health-cmd"
                ),
            ));
        }
        if !self.status(id)?.can_kill() {
            return Err(Error::conflict(format!(
                "container {name} is not running: its health can't be checked"
            )));
        }
        let record = Record::new(&self.paths, id.clone());
        let monitor = Connection::open(&record.runtime)
            .map_err(Error::io("connect to the container's monitor"))?;
        Ok(monitor.check()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_images_check_is_docker_s() {
        let document =
            br#"{"config": {"Healthcheck": {"Test": ["CMD-SHELL", "x"], "Interval": 5000000000,
            "StartInterval": 1000000, "Retries": 0}}}"#;
        let config = ImageCheck::of(document).unwrap().config().unwrap();
        assert_eq!(config.check.test, ["CMD-SHELL", "x"]);
        assert_eq!(config.check.interval, Some(Duration::from_secs(5)));
        assert_eq!(config.check.timeout, USUAL);
        assert_eq!(config.start_interval, Some(Duration::from_millis(1)));
        assert_eq!(config.retries, RETRIES);
        for none in [
            &br#"{"config": {"Healthcheck": {"Test": ["NONE"]}}}"#[..],
            br#"{"config": {"Healthcheck": {"Interval": 1}}}"#,
            br#"{"config": {"Healthcheck": {"Test": []}}}"#,
        ] {
            assert_eq!(ImageCheck::of(none).unwrap().config(), None);
        }
        for none in [
            &b"{}"[..],
            br#"{"config": null, "x": "Healthcheck"}"#,
            br#"{"config": {"Healthcheck": null}}"#,
            br#"{"config": {"Healthcheck": 7}}"#,
        ] {
            assert_eq!(ImageCheck::of(none), None);
        }
    }

    #[test]
    fn flags_go_over_the_image() {
        let image = usual(words(&["CMD", "image"]));
        let nothing = HealthOptions::default();
        assert_eq!(
            nothing.over(Some(image.clone())).unwrap(),
            Some(image.clone())
        );
        assert_eq!(nothing.over(None).unwrap(), None);
        let asked = HealthOptions {
            interval: Some(Duration::from_secs(1)),
            retries: Some(7),
            on_failure: Some(OnFailure::Kill),
            log_to: Some(LogDestination::Events),
            ..HealthOptions::default()
        };
        let config = asked.over(Some(image.clone())).unwrap().unwrap();
        assert_eq!(config.check.test, ["CMD", "image"]);
        assert_eq!(config.check.interval, Some(Duration::from_secs(1)));
        assert_eq!((config.retries, config.on_failure), (7, OnFailure::Kill));
        assert_eq!(config.log_to, LogDestination::Events);
        let error = asked.over(None).unwrap_err().to_string();
        assert!(error.contains("--health-cmd"), "{error}");
        for none in [
            HealthOptions {
                none: true,
                ..asked.clone()
            },
            HealthOptions {
                test: Some(words(&["NONE"])),
                ..HealthOptions::default()
            },
        ] {
            assert_eq!(none.over(Some(image.clone())).unwrap(), None);
        }
        let manual = HealthOptions {
            interval: Some(Duration::ZERO),
            ..HealthOptions::default()
        };
        let config = manual.over(Some(image)).unwrap().unwrap();
        assert_eq!(config.check.interval, None);
    }

    #[test]
    fn a_startup_check_is_one_of_its_own() {
        let asked = |startup| HealthOptions {
            test: Some(words(&["CMD", "x"])),
            startup,
            ..HealthOptions::default()
        };
        let startup = StartupOptions {
            test: Some(words(&["CMD", "y"])),
            successes: Some(3),
            ..StartupOptions::default()
        };
        let config = asked(startup).over(None).unwrap().unwrap();
        let startup = config.startup.as_ref().unwrap();
        assert_eq!(startup.check.test, ["CMD", "y"]);
        assert_eq!((startup.successes, startup.retries), (3, 0));
        assert!(!starts_again(Some(&config)));
        let without = StartupOptions {
            retries: Some(1),
            ..StartupOptions::default()
        };
        let error = asked(without.clone()).over(None).unwrap_err().to_string();
        assert!(error.contains("--health-startup-cmd"), "{error}");
        let again = asked(without).over(Some(config)).unwrap();
        assert!(starts_again(again.as_ref()));
    }
}
