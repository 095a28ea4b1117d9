//! Whose the outer end of a terminal is: with `--console-socket` that of whoever has asked for the container.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use kelp_runtime::message::{connect, send};

use crate::error::Error;

/// Who gets the outer end of a terminal.
#[derive(Debug, Default)]
pub enum Terminal {
    /// Nobody: then there can be none.
    #[default]
    Nobody,
    /// Whoever listens on a socket.
    Socket(ConsoleSocket),
    /// This process, which connects it to its own terminal.
    Own,
}

impl Terminal {
    /// Refuses what does not fit the process.
    pub(crate) fn check(&self, wanted: bool) -> Result<(), Error> {
        let why = match (self, wanted) {
            (Self::Nobody, true) => {
                "process.terminal needs --console-socket: somebody has to have the terminal"
            }
            (Self::Socket(_), false) => "--console-socket is given and process.terminal is false",
            _ => return Ok(()),
        };
        Err(Error::Invalid(why.to_owned()))
    }

    /// Hands the terminal over, or leaves it to the caller.
    pub(crate) fn take(&self, terminal: Option<OwnedFd>) -> Result<Option<OwnedFd>, Error> {
        match (self, terminal) {
            (Self::Socket(socket), Some(terminal)) => socket.give(&terminal).map(|()| None),
            (_, terminal) => Ok(terminal),
        }
    }
}

/// A socket that somebody listens on for a terminal.
#[derive(Debug)]
pub struct ConsoleSocket {
    path: PathBuf,
    connection: OwnedFd,
}

impl ConsoleSocket {
    /// Connects to it: before there is a container, so that a wrong path leaves none.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let what = || format!("connect to the console socket {}", path.display());
        let connection = connect(path).map_err(Error::io(what()))?;
        Ok(Self {
            path: path.to_owned(),
            connection,
        })
    }

    /// Hands the terminal over.
    fn give(&self, terminal: &OwnedFd) -> Result<(), Error> {
        let what = || format!("send the terminal to {}", self.path.display());
        send(self.connection.as_fd(), b"/dev/ptmx", &[terminal.as_fd()]).map_err(Error::io(what()))
    }
}
