//! The container's standard input, from the client that was attached last.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use kelp_sys::fd::has_input;
use rustix::event::PollFlags;
use rustix::io::Errno;
use rustix::pipe::{SpliceFlags, splice};

use crate::stream::write_some;

/// What is spliced at most at once.
const CHUNK: usize = 1 << 20;

/// The container's standard input, and the client that it comes from.
#[derive(Debug)]
pub(crate) struct Input {
    /// The end that the container reads the other side of, which does not block; gone once the input
    /// has ended.
    sink: Option<OwnedFd>,
    terminal: bool,
    client: Option<(u64, OwnedFd)>,
    /// What was read from a client and found no room in the terminal.
    rest: Vec<u8>,
    /// Whether it waits for the full pipe or terminal of the container.
    blocked: bool,
    /// Whether the input of a first client that ends is the end for the container.
    once: bool,
}

impl Input {
    /// To a pipe: its first client's end is the end.
    pub(crate) fn to_pipe(sink: Option<OwnedFd>) -> Self {
        Self {
            sink,
            terminal: false,
            client: None,
            rest: Vec::new(),
            blocked: false,
            once: true,
        }
    }

    /// To the outer end of a terminal.
    pub(crate) fn to_terminal(sink: Option<OwnedFd>) -> Self {
        Self {
            terminal: true,
            once: false,
            ..Self::to_pipe(sink)
        }
    }

    /// Takes a client's input, instead of the one before.
    pub(crate) fn attach(&mut self, client: u64, pipe: OwnedFd) {
        if self.sink.is_some() {
            self.client = Some((client, pipe));
        }
    }

    /// Whoever detaches leaves the input open for the next one.
    pub(crate) fn drop_client(&mut self, number: u64) {
        if self.client.as_ref().is_some_and(|(own, _)| *own == number) {
            self.client = None;
            self.blocked = !self.rest.is_empty();
        }
    }

    /// What it waits for.
    pub(crate) fn awaited(&self) -> Option<(BorrowedFd<'_>, PollFlags)> {
        let sink = self.sink.as_ref()?;
        if self.blocked {
            return Some((sink.as_fd(), PollFlags::OUT));
        }
        let (_, client) = self.client.as_ref()?;
        Some((client.as_fd(), PollFlags::IN))
    }

    /// Moves what is there.
    pub(crate) fn turn(&mut self) -> io::Result<()> {
        self.blocked = false;
        let Some(sink) = &self.sink else {
            return Ok(());
        };
        if !self.rest.is_empty() {
            let written = write_some(sink.as_fd(), &self.rest);
            return self.wrote(written);
        }
        let Some((_, client)) = &self.client else {
            return Ok(());
        };
        let moved = if self.terminal {
            let mut buffer = [0; 4096];
            let read = rustix::io::read(client, &mut buffer);
            if let Ok(read @ 1..) = read {
                self.rest.extend_from_slice(&buffer[..read]);
                let written = write_some(sink.as_fd(), &self.rest);
                return self.wrote(written);
            }
            read
        } else {
            let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
            splice(client, None, sink, None, CHUNK, flags)
        };
        match moved {
            Ok(0) => {
                self.client = None;
                if self.once {
                    self.sink = None;
                }
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => self.blocked = !self.terminal && has_input(client.as_fd()),
            // The container has closed its input.
            Err(Errno::PIPE) => (self.client, self.sink) = (None, None),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Forgets what was written to the terminal.
    fn wrote(&mut self, written: Result<usize, Errno>) -> io::Result<()> {
        match written {
            Ok(written) => {
                self.rest.drain(..written);
            }
            // Nobody has the terminal open at the moment, and nobody will read this.
            Err(Errno::IO) => self.rest.clear(),
            Err(error) => return Err(error.into()),
        }
        self.blocked = !self.rest.is_empty();
        Ok(())
    }
}
