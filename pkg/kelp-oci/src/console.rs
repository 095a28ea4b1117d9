//! `--console-socket`: whoever has asked for the container gets the outer end of its terminal.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use kelp_runtime::message::send;
use rustix::net::{SocketAddrUnix, SocketType, connect};

use crate::create::socket;
use crate::error::Error;

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
        let socket = socket(SocketType::STREAM).map_err(Error::io(what()))?;
        let address = SocketAddrUnix::new(path).map_err(Error::io(what()))?;
        connect(&socket, &address).map_err(Error::io(what()))?;
        Ok(Self {
            path: path.to_owned(),
            connection: socket,
        })
    }

    /// Hands the terminal over.
    pub(crate) fn give(&self, terminal: &OwnedFd) -> Result<(), Error> {
        let what = || format!("send the terminal to {}", self.path.display());
        send(self.connection.as_fd(), b"/dev/ptmx", &[terminal.as_fd()]).map_err(Error::io(what()))
    }
}
