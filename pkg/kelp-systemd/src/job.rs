//! Jobs: what systemd does when a unit is to change its state.

use std::fmt;

use crate::manager::{Error, Manager, PATIENCE};

/// A request that has been sent.
#[derive(Debug)]
pub struct Job {
    pub(crate) manager: Manager,
    pub(crate) serial: u32,
}

/// How a job has ended (org.freedesktop.systemd1(5), JobRemoved).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JobResult {
    /// It did what it was for.
    Done,
    /// The unit failed.
    Failed,
    /// Somebody has asked for something else before it was done.
    Canceled,
    /// It took too long.
    Timeout,
    /// A unit that has to come before it failed.
    Dependency,
    /// There was nothing to be done in the unit's state.
    Skipped,
    /// What this version does not know.
    Other(String),
}

impl JobResult {
    pub(crate) fn of(word: &str) -> Self {
        match word {
            "done" => Self::Done,
            "failed" => Self::Failed,
            "canceled" => Self::Canceled,
            "timeout" => Self::Timeout,
            "dependency" => Self::Dependency,
            "skipped" => Self::Skipped,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// In systemd's words.
impl fmt::Display for JobResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Canceled => "canceled",
            Self::Timeout => "timeout",
            Self::Dependency => "dependency",
            Self::Skipped => "skipped",
            Self::Other(word) => word,
        })
    }
}

impl Job {
    /// Waits until the scope is there and the process in it.
    pub fn wait(mut self) -> Result<(), Error> {
        match self.manager.result_of(self.serial, PATIENCE)? {
            JobResult::Done => Ok(()),
            result => Err(Error::Failed(result)),
        }
    }
}
