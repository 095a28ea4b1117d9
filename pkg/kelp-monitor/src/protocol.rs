//! What is said between a monitor and those who start, attach to or ask it: one JSON message a
//! packet over a SOCK_SEQPACKET socket, with descriptors beside it.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::PathBuf;

use kelp_runtime::console::Size;
use kelp_runtime::message;
use kelp_state::Health;
use rustix::net::RecvFlags;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::log::Stream;

/// To the monitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// First message of whoever starts the container: go, with these streams attached.
    Start(Streams),
    /// Attach these streams.
    Attach(Streams),
    /// The size of the terminal has changed.
    Resize(Size),
    /// Somebody is about to stop the container: it is not to be started again.
    Stop,
    /// The container has been paused or goes on: the record is to say so.
    Paused(bool),
    /// The container has other limits now, and perhaps counters that it did not have before.
    Updated,
    /// Somebody is about to call the runtime that has made the container.
    Stage,
    /// A health check is to be made now.
    Check,
    /// Somebody is about to read what the last checks have found.
    WriteHealth,
}

/// Which streams come as descriptors with the message, in this order, each the end of a pipe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Streams {
    /// What the container is to read.
    pub stdin: bool,
    /// Where its output goes as well.
    pub stdout: bool,
    /// Where its complaints go as well.
    pub stderr: bool,
    /// That of the terminal that a container is started with.
    #[serde(default)]
    pub size: Option<Size>,
}

/// From the monitor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// The program runs.
    Started {
        /// The init's process id, as the monitor counts.
        pid: u32,
        /// Why the service manager could not be told so.
        #[serde(default)]
        untold: Option<String>,
    },
    /// It could not be started, or the streams can't be attached, or no longer.
    Failed {
        /// What that means for the exit code.
        kind: FailureKind,
        /// One line.
        text: String,
    },
    /// The streams are attached, or the request is done.
    Done,
    /// The mount namespace in which the runtime that has made the container is called comes along, and the user
    /// namespace that goes with it.
    Stage {
        /// Where in it what the runtime needs is.
        place: PathBuf,
    },
    /// What a health check came to.
    Checked {
        /// Whether it was passed.
        passed: bool,
        /// The state of the container now.
        health: Health,
    },
    /// What the program wrote at last and the client's pipe had no room for, to be read from the file
    /// that comes along after the pipe.
    Rest(Stream),
    /// The program has ended, nothing more of its output comes, and the record says so.
    Exited {
        /// What a shell would show.
        code: i32,
    },
}

/// What a failure means for the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// kelp's own: 125.
    Setup,
    /// Somebody else has started the container: 125.
    Started,
    /// The program can't be executed: 126.
    NotExecutable,
    /// The program is not there: 127.
    NotFound,
}

/// Sends one message.
pub fn send<T: Serialize>(
    socket: BorrowedFd<'_>,
    value: &T,
    fds: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let bytes = serde_json::to_vec(value).map_err(io::Error::other)?;
    message::send(socket, &bytes, fds)
}

/// Receives one message; `None` when the other side is gone.
pub fn receive<T: DeserializeOwned>(
    socket: BorrowedFd<'_>,
    flags: RecvFlags,
) -> io::Result<Option<(T, Vec<OwnedFd>)>> {
    let mut buffer = [0_u8; 8192];
    let (length, fds) = message::receive(socket, &mut buffer, flags)?;
    if length == 0 {
        return Ok(None);
    }
    let value = serde_json::from_slice(&buffer[..length])
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(Some((value, fds)))
}
