//! Keys of health checks.

use crate::key::{Key, text};
use crate::shape::Shape;

pub(crate) const CMD: Key = text("HealthCmd", "--health-cmd", Shape::Any);
pub(crate) const INTERVAL: Key = text("HealthInterval", "--health-interval", Shape::Interval);
pub(crate) const ON_FAILURE: Key = text(
    "HealthOnFailure",
    "--health-on-failure",
    Shape::Choice(&["none", "kill", "restart", "stop"]),
);
pub(crate) const LOG_DESTINATION: Key = text(
    "HealthLogDestination",
    "--health-log-destination",
    Shape::Mode(&["local", "events_logger"]),
);
pub(crate) const MAX_LOG_COUNT: Key = text(
    "HealthMaxLogCount",
    "--health-max-log-count",
    Shape::Unsigned,
);
pub(crate) const MAX_LOG_SIZE: Key =
    text("HealthMaxLogSize", "--health-max-log-size", Shape::Unsigned);
pub(crate) const RETRIES: Key = text("HealthRetries", "--health-retries", Shape::Unsigned);
pub(crate) const START_PERIOD: Key = text(
    "HealthStartPeriod",
    "--health-start-period",
    Shape::Duration,
);
pub(crate) const TIMEOUT: Key = text("HealthTimeout", "--health-timeout", Shape::Duration);
pub(crate) const STARTUP_CMD: Key = text("HealthStartupCmd", "--health-startup-cmd", Shape::Any);
pub(crate) const STARTUP_INTERVAL: Key = text(
    "HealthStartupInterval",
    "--health-startup-interval",
    Shape::Interval,
);
pub(crate) const STARTUP_RETRIES: Key = text(
    "HealthStartupRetries",
    "--health-startup-retries",
    Shape::Unsigned,
);
pub(crate) const STARTUP_SUCCESS: Key = text(
    "HealthStartupSuccess",
    "--health-startup-success",
    Shape::Unsigned,
);
pub(crate) const STARTUP_TIMEOUT: Key = text(
    "HealthStartupTimeout",
    "--health-startup-timeout",
    Shape::Duration,
);
