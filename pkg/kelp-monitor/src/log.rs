//! Where a container's output is kept: a file, systemd's journal, or nowhere.

mod journal;
mod k8s_file;

use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::{Instant, SystemTime};

use kelp_state::ContainerId;
use serde::{Deserialize, Serialize};

pub use journal::{END, Journal, OF, Origin, SOCKET as JOURNAL, STDERR, end_mark, is_there};
pub use k8s_file::K8sFile;
pub(crate) use k8s_file::rfc3339;

use crate::launch::{Launch, LogDriver};

/// Which of the two a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output, or a terminal.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Writes a container's log. Nothing of it waits: a log that takes nothing now keeps what it was given,
/// and says what it waits for.
#[derive(Debug)]
pub enum LogWriter {
    /// Keeps nothing.
    Nothing,
    /// In a file.
    File(K8sFile),
    /// In systemd's journal.
    Journal(Box<Journal>),
}

impl LogWriter {
    /// Opens the log that the container is to have.
    ///
    /// # Errors
    /// If there is a file that is not a regular one, or no journal.
    pub fn open(launch: &Launch, id: &ContainerId) -> io::Result<Self> {
        Ok(match launch.log.driver {
            LogDriver::K8sFile => Self::File(K8sFile::open(&launch.log)?),
            LogDriver::Journald => {
                let of = Origin {
                    id,
                    name: &launch.name,
                    image: &launch.image,
                    log: &launch.log,
                };
                Self::Journal(Box::new(Journal::open(Path::new(JOURNAL), &of)?))
            }
            LogDriver::None | LogDriver::Passthrough | LogDriver::PassthroughTty => Self::Nothing,
        })
    }

    /// Whether anything is kept.
    pub fn keeps(&self) -> bool {
        !matches!(self, Self::Nothing)
    }

    /// Adds output as it came. What can't be written, as on a full disk, is lost, and the container
    /// goes on: nobody would want it killed for its log.
    pub fn keep(&mut self, stream: Stream, bytes: &[u8]) {
        match self {
            Self::Nothing => {}
            Self::File(file) => file.keep(stream, bytes),
            Self::Journal(journal) => journal.keep(stream, bytes),
        }
    }

    /// Ends a run of the program that began at this time: also a last line that it did not end, so that the
    /// next start begins its own.
    pub fn finish(&mut self, began: SystemTime) {
        match self {
            Self::Nothing => {}
            Self::File(file) => {
                let _ = file.finish();
            }
            Self::Journal(journal) => journal.finish(began),
        }
    }

    /// Whether it has to take what it was given before it is given more.
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self, Self::Journal(journal) if journal.is_waiting())
    }

    /// What is to be written to before [`Self::go_on`].
    pub(crate) fn awaited(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Journal(journal) => journal.awaited(),
            Self::Nothing | Self::File(_) => None,
        }
    }

    /// When it is time for [`Self::go_on`].
    pub(crate) fn due(&self) -> Option<Instant> {
        match self {
            Self::Journal(journal) => journal.due(),
            Self::Nothing | Self::File(_) => None,
        }
    }

    /// Writes more of what waits.
    pub(crate) fn go_on(&mut self) {
        if let Self::Journal(journal) = self {
            journal.go_on();
        }
    }

    /// Gives the memory of the last burst back.
    pub(crate) fn rest(&mut self) {
        match self {
            Self::Nothing => {}
            Self::File(file) => file.rest(),
            Self::Journal(journal) => journal.rest(),
        }
    }
}
