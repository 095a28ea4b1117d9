//! Health checks: a program that the monitor runs in the container again and again, whose exit code says whether
//! the container works.
//!
//! A check is a process of the monitor's own ([`probe`]), so that nothing that happens in the container keeps
//! the monitor from its poll loop. What follows from its result is told by [`course`]; [`checks`] brings both
//! into the loop.

mod checks;
mod course;
mod probe;

pub(crate) use checks::{Checks, Outcome};
pub(crate) use probe::Subject;

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// How it is found out whether a container works.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HealthConfig {
    /// The check.
    pub check: Check,
    /// How often it fails in a row before the container is unhealthy.
    pub retries: u32,
    /// For how long after the start failures do not count, unless a check was passed.
    pub start_period: Duration,
    /// The time between two checks as long as that lasts, instead of the usual one.
    pub start_interval: Option<Duration>,
    /// What has to be passed first.
    pub startup: Option<Startup>,
    /// What happens when the container becomes unhealthy.
    pub on_failure: OnFailure,
    /// How many checks are remembered; 0 for all.
    pub log_count: u32,
    /// Bytes of output that are remembered of each; 0 for [`OUTPUT_LIMIT`].
    pub log_size: u32,
    /// Who else hears of each.
    #[serde(default)]
    pub log_to: LogDestination,
}

/// Who hears of every check, and not only of what changes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogDestination {
    /// Nobody.
    #[default]
    Local,
    /// A directory, which gets a copy of what is remembered, as `<id>-healthcheck.log`.
    Directory(PathBuf),
    /// Events.
    Events,
}

/// A program that is run again and again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// `CMD`, a program and its arguments; or `CMD-SHELL` and a line for the shell.
    pub test: Vec<String>,
    /// The time from the end of one to the beginning of the next; `None` where only `healthcheck run` runs any.
    pub interval: Option<Duration>,
    /// How long one may take.
    pub timeout: Duration,
}

/// A check that is made until it is passed, before the other one is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Startup {
    /// The check.
    pub check: Check,
    /// How often in a row it has to be passed.
    pub successes: u32,
    /// How often in a row it may fail before the container is started again; 0 for as often as it likes.
    pub retries: u32,
}

/// What happens to a container that becomes unhealthy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// Nothing.
    #[default]
    None,
    /// It is killed; whether it is started again is for its restart policy.
    Kill,
    /// It is stopped and started again.
    Restart,
    /// It is stopped, and stays so.
    Stop,
}

/// The most bytes of a check's output that are remembered.
pub const OUTPUT_LIMIT: u32 = 64 << 10;

impl Check {
    /// The program and its arguments; empty where the form is none of docker's.
    fn command(&self) -> Vec<String> {
        let Some((form, rest)) = self.test.split_first() else {
            return Vec::new();
        };
        match form.as_str() {
            "CMD" => rest.to_vec(),
            "CMD-SHELL" => {
                let mut command = vec!["/bin/sh".to_owned(), "-c".to_owned()];
                command.push(rest.join(" "));
                command
            }
            _ => Vec::new(),
        }
    }
}

impl HealthConfig {
    /// Bytes of output that are remembered of a check.
    fn output_limit(&self) -> usize {
        match self.log_size {
            0 => OUTPUT_LIMIT as usize,
            size => size.min(OUTPUT_LIMIT) as usize,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_a_program_or_a_line_for_the_shell() {
        for (test, command) in [
            (&["CMD", "curl", "-f", "x"][..], &["curl", "-f", "x"][..]),
            (&["CMD-SHELL", "a | b"], &["/bin/sh", "-c", "a | b"]),
            (&["CMD"], &[]),
            (&["NONE"], &[]),
            (&[], &[]),
        ] {
            let check = Check {
                test: test.iter().map(ToString::to_string).collect(),
                interval: None,
                timeout: Duration::ZERO,
            };
            assert_eq!(check.command(), command, "{test:?}");
        }
    }
}
