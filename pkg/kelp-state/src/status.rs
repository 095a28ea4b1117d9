//! The status machine: what a container is in, and what may be done with it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::record::RunRecord;

/// A container's status, in podman's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Made and never started.
    Created,
    /// Its monitor lives, its program does not run yet, or no longer.
    Stopping,
    /// Its program runs.
    Running,
    /// Its program is frozen.
    Paused,
    /// Its program has ended.
    Exited,
}

impl Status {
    /// From what the record holds.
    ///
    /// `started` says whether it was ever started.
    pub fn derive(alive: bool, run: Option<&RunRecord>, started: bool) -> Self {
        match (alive, run) {
            (true, Some(run)) if run.paused => Self::Paused,
            (true, Some(_)) => Self::Running,
            (true, None) => Self::Stopping,
            (false, _) if started => Self::Exited,
            (false, _) => Self::Created,
        }
    }

    /// Whether `start` makes sense.
    pub fn can_start(self) -> bool {
        matches!(self, Self::Created | Self::Exited)
    }

    /// Whether a signal can be sent.
    pub fn can_kill(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }

    /// Whether another process can be started inside.
    pub fn can_exec(self) -> bool {
        self == Self::Running
    }

    /// Whether it can be removed without being stopped first.
    pub fn can_remove(self) -> bool {
        matches!(self, Self::Created | Self::Exited)
    }

    /// Its word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Stopping => "stopping",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Exited => "exited",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}
