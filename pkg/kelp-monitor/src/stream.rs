//! One output stream: from the container to the log and to whoever is attached.
//!
//! With one client tee(2) gives the client the pages that the log is then written from; with none
//! the log alone is written; with neither the pages are dropped. With several, each gets a copy.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::pipe::{SpliceFlags, splice, tee};

use crate::log::{LogWriter, Stream};

const CHUNK: usize = 64 * 1024;

/// An output of the container.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) source: OwnedFd,
    pub(crate) stream: Stream,
    /// Whether the source is a terminal, which tee and splice can't read.
    pub(crate) terminal: bool,
    /// Ends of the attached clients' pipes, each with its client's number.
    pub(crate) clients: Vec<(u64, OwnedFd)>,
    /// Whether it waits for the full pipe of its only client.
    pub(crate) blocked: bool,
    /// Whether nothing more can come.
    pub(crate) ended: bool,
}

/// What became of one turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Bytes were moved; there may be more.
    Moved,
    /// Nothing to move now.
    Idle,
    /// The stream has ended.
    Ended,
}

impl Output {
    pub(crate) fn new(source: OwnedFd, stream: Stream, terminal: bool) -> Self {
        Self {
            source,
            stream,
            terminal,
            clients: Vec::new(),
            blocked: false,
            ended: false,
        }
    }

    /// Moves what is there, at most one chunk.
    pub(crate) fn turn(&mut self, log: &mut LogWriter, buffer: &mut Vec<u8>) -> io::Result<Turn> {
        self.blocked = false;
        if self.terminal || self.clients.len() > 1 {
            return self.copy(log, buffer);
        }
        match (self.clients.first(), log.keeps()) {
            (Some(_), true) => self.tee(log, buffer),
            (Some(_), false) => self.splice(),
            (None, _) => self.copy(log, buffer),
        }
    }

    fn tee(&mut self, log: &mut LogWriter, buffer: &mut Vec<u8>) -> io::Result<Turn> {
        let (number, client) = &self.clients[0];
        match tee(&self.source, client, 4 * CHUNK, SpliceFlags::NONBLOCK) {
            Ok(0) => Ok(Turn::Ended),
            Ok(copied) => {
                let mut left = copied;
                while left > 0 {
                    buffer.resize(left.min(CHUNK), 0);
                    let read = match rustix::io::read(&self.source, &mut *buffer) {
                        Err(Errno::INTR) => continue,
                        result => result?,
                    };
                    log.keep(self.stream, &buffer[..read]);
                    left -= read;
                }
                Ok(Turn::Moved)
            }
            Err(Errno::AGAIN) => {
                self.blocked = has_data(self.source.as_fd());
                Ok(Turn::Idle)
            }
            Err(Errno::PIPE) => {
                let number = *number;
                self.drop_client(number);
                Ok(Turn::Moved)
            }
            Err(Errno::INTR) => Ok(Turn::Moved),
            Err(error) => Err(error.into()),
        }
    }

    fn splice(&mut self) -> io::Result<Turn> {
        let (number, client) = &self.clients[0];
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        match splice(&self.source, None, client, None, 16 * CHUNK, flags) {
            Ok(0) => Ok(Turn::Ended),
            Ok(_) | Err(Errno::INTR) => Ok(Turn::Moved),
            Err(Errno::AGAIN) => {
                self.blocked = has_data(self.source.as_fd());
                Ok(Turn::Idle)
            }
            Err(Errno::PIPE) => {
                let number = *number;
                self.drop_client(number);
                Ok(Turn::Moved)
            }
            Err(error) => Err(error.into()),
        }
    }

    fn copy(&mut self, log: &mut LogWriter, buffer: &mut Vec<u8>) -> io::Result<Turn> {
        buffer.resize(CHUNK, 0);
        let read = match rustix::io::read(&self.source, &mut *buffer) {
            // A terminal whose last user has gone reads as an error.
            Ok(0) | Err(Errno::IO) => return Ok(Turn::Ended),
            Ok(read) => read,
            Err(Errno::AGAIN) => return Ok(Turn::Idle),
            Err(Errno::INTR) => return Ok(Turn::Moved),
            Err(error) => return Err(error.into()),
        };
        self.clients
            .retain(|(_, client)| write_all(client.as_fd(), &buffer[..read]).is_ok());
        log.keep(self.stream, &buffer[..read]);
        Ok(Turn::Moved)
    }

    pub(crate) fn drop_client(&mut self, number: u64) {
        self.clients.retain(|(other, _)| *other != number);
    }
}

fn has_data(fd: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::from_borrowed_fd(fd, PollFlags::IN)];
    let now = rustix::time::Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    poll(&mut fds, Some(&now)).is_ok_and(|ready| ready > 0)
        && fds[0].revents().contains(PollFlags::IN)
}

/// Writes all of it to a descriptor that does not block, waiting where it is full.
pub(crate) fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::AGAIN) => {
                poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::OUT)], None)?;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// The container's standard input, and the client that it comes from.
#[derive(Debug)]
pub(crate) struct Input {
    /// The end that the container reads the other side of; gone once the input has ended.
    pub(crate) sink: Option<OwnedFd>,
    pub(crate) terminal: bool,
    pub(crate) client: Option<(u64, OwnedFd)>,
    /// Whether the container's pipe is full.
    pub(crate) blocked: bool,
    /// Whether the input of a first client that ends is the end for the container.
    pub(crate) once: bool,
}

impl Input {
    /// Moves what is there.
    pub(crate) fn turn(&mut self) -> io::Result<()> {
        self.blocked = false;
        let (Some((_, client)), Some(sink)) = (&self.client, &self.sink) else {
            return Ok(());
        };
        let moved = if self.terminal {
            copy_some(client.as_fd(), sink.as_fd())
        } else {
            let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
            splice(client, None, sink, None, 16 * CHUNK, flags)
        };
        match moved {
            Ok(0) => {
                self.client = None;
                if self.once && !self.terminal {
                    self.sink = None;
                }
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => self.blocked = has_data(client.as_fd()),
            // The container has closed its input.
            Err(Errno::PIPE | Errno::IO) => (self.client, self.sink) = (None, None),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }
}

fn copy_some(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<usize, Errno> {
    let mut buffer = [0_u8; 4096];
    let read = rustix::io::read(from, &mut buffer)?;
    write_all(to, &buffer[..read])
        .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    Ok(read)
}
