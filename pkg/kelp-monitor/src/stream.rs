//! One output stream: from the container to the log and to whoever is attached.
//!
//! With one client tee(2) gives the client the pages that the log is then written from; with none
//! the log alone is written; with neither what is read is dropped. With several, each gets a copy.
//!
//! Nothing here waits. Where a client's pipe is full, or the log takes nothing, nothing is read until
//! there is room, so that the program waits and the monitor does not.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use kelp_runtime::console::inner_end;
use kelp_sys::fd::has_input;
use rustix::io::Errno;
use rustix::pipe::{SpliceFlags, splice, tee};

use crate::log::{LogWriter, Stream};

/// What is read at most at once.
pub(crate) const CHUNK: usize = 64 * 1024;

/// The most that is moved after the program's end: more than any pipe has. What writes on then is
/// not waited for.
const LAST: usize = 2 * 1024 * 1024;

/// An output of the container.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) source: OwnedFd,
    pub(crate) stream: Stream,
    /// Whether the source is a terminal, which tee and splice can't read.
    terminal: bool,
    /// The inner end of the terminal. While it is open, that the program closes its own is not the
    /// end: it can open the terminal again by its name.
    inner: Option<OwnedFd>,
    pub(crate) readers: Vec<Reader>,
    /// Whether nothing more can come.
    pub(crate) ended: bool,
}

/// An attached client's end of an output.
#[derive(Debug)]
pub(crate) struct Reader {
    /// The client's number.
    pub(crate) client: u64,
    /// Does not block.
    pub(crate) pipe: OwnedFd,
    /// What was read from the container and found no room in the pipe.
    rest: Vec<u8>,
    /// Since when it has taken nothing of what waits for it.
    pub(crate) stuck: Option<Instant>,
}

/// What became of one turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// So many bytes were moved; there may be more.
    Moved(usize),
    /// Nothing to move now.
    Idle,
    /// The stream has ended.
    Ended,
}

impl Output {
    pub(crate) fn new(source: OwnedFd, stream: Stream, terminal: bool) -> Self {
        let inner = terminal.then(|| inner_end(source.as_fd())).flatten();
        Self {
            source,
            stream,
            terminal,
            inner,
            readers: Vec::new(),
            ended: false,
        }
    }

    /// Whether it waits for the full pipe of a client.
    pub(crate) fn is_blocked(&self) -> bool {
        self.readers.iter().any(|reader| reader.stuck.is_some())
    }

    /// Moves what is there, at most one chunk.
    pub(crate) fn turn(&mut self, log: &mut LogWriter, buffer: &mut Vec<u8>) -> io::Result<Turn> {
        self.readers.retain_mut(|reader| reader.settle().is_ok());
        if self.readers.iter().any(|reader| !reader.rest.is_empty()) {
            return Ok(Turn::Idle);
        }
        if log.is_waiting() {
            // From here on it is the log that holds the program up.
            for reader in &mut self.readers {
                reader.stuck = None;
            }
            return Ok(Turn::Idle);
        }
        match (self.readers.as_mut_slice(), log.keeps()) {
            ([reader], true) if !self.terminal => {
                let turn = reader.tee(self.source.as_fd());
                self.after(turn, |source, stream, copied| {
                    read_back(source, stream, copied, log, buffer)
                })
            }
            ([reader], false) if !self.terminal => {
                let turn = reader.splice(self.source.as_fd());
                self.after(turn, |_, _, _| Ok(()))
            }
            (readers, _) => {
                // Whoever had no room for more pages is written to now.
                for reader in readers {
                    reader.stuck = None;
                }
                self.copy(log, buffer)
            }
        }
    }

    /// Judges what tee(2) or splice(2) to the only client came to.
    fn after(
        &mut self,
        turn: Result<usize, Errno>,
        moved: impl FnOnce(BorrowedFd<'_>, Stream, usize) -> io::Result<()>,
    ) -> io::Result<Turn> {
        match turn {
            Ok(0) => Ok(Turn::Ended),
            Ok(length) => {
                moved(self.source.as_fd(), self.stream, length)?;
                Ok(Turn::Moved(length))
            }
            Err(Errno::AGAIN) => Ok(Turn::Idle),
            Err(Errno::INTR) => Ok(Turn::Moved(0)),
            // The client has gone, or what it gave is no pipe. What is wrong with the source shows in
            // a copy.
            Err(_) => {
                self.readers.clear();
                Ok(Turn::Moved(0))
            }
        }
    }

    fn copy(&mut self, log: &mut LogWriter, buffer: &mut Vec<u8>) -> io::Result<Turn> {
        let bytes = match rustix::io::read(&self.source, space(buffer, CHUNK)) {
            Ok(([], _)) => return Ok(Turn::Ended),
            Ok((bytes, _)) => &*bytes,
            // Nobody has the inner end open, or vhangup(2) has cut all of them off.
            Err(Errno::IO) if self.terminal => {
                self.inner = inner_end(self.source.as_fd());
                return Ok(self.inner.as_ref().map_or(Turn::Ended, |_| Turn::Idle));
            }
            Err(Errno::AGAIN) => return Ok(Turn::Idle),
            Err(Errno::INTR) => return Ok(Turn::Moved(0)),
            Err(error) => return Err(error.into()),
        };
        self.readers.retain_mut(|reader| reader.give(bytes).is_ok());
        log.keep(self.stream, bytes);
        Ok(Turn::Moved(bytes.len()))
    }

    /// Moves what the program wrote before it ended. Processes that it left in a pid namespace of
    /// the host may hold the pipes open: what is there is moved, what may come is not waited for.
    /// The clients, and what each could not take.
    pub(crate) fn drain(
        &mut self,
        log: &mut LogWriter,
        buffer: &mut Vec<u8>,
    ) -> io::Result<Vec<(u64, Vec<u8>)>> {
        let mut moved = 0;
        while moved < LAST {
            match self.copy(log, buffer)? {
                Turn::Moved(length) => moved += length,
                Turn::Idle | Turn::Ended => break,
            }
        }
        let mut readers = std::mem::take(&mut self.readers);
        readers.retain_mut(|reader| reader.settle().is_ok());
        Ok(readers
            .into_iter()
            .map(|reader| (reader.client, reader.rest))
            .collect())
    }

    pub(crate) fn drop_client(&mut self, number: u64) {
        self.readers.retain(|reader| reader.client != number);
    }
}

impl Reader {
    pub(crate) fn new(client: u64, pipe: OwnedFd) -> Self {
        Self {
            client,
            pipe,
            rest: Vec::new(),
            stuck: None,
        }
    }

    fn tee(&mut self, source: BorrowedFd<'_>) -> Result<usize, Errno> {
        let result = tee(source, &self.pipe, 4 * CHUNK, SpliceFlags::NONBLOCK);
        self.note_again(source, result)
    }

    fn splice(&mut self, source: BorrowedFd<'_>) -> Result<usize, Errno> {
        let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
        let result = splice(source, None, &self.pipe, None, 16 * CHUNK, flags);
        self.note_again(source, result)
    }

    /// That nothing could be moved although there is something is due to the client.
    fn note_again(
        &mut self,
        source: BorrowedFd<'_>,
        result: Result<usize, Errno>,
    ) -> Result<usize, Errno> {
        self.stuck = match result {
            Err(Errno::AGAIN) if has_input(source) => self.stuck.or_else(|| Some(Instant::now())),
            _ => None,
        };
        result
    }

    /// Writes what there is room for and keeps the rest.
    fn give(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        let written = if self.rest.is_empty() {
            write_some(self.pipe.as_fd(), bytes)?
        } else {
            0
        };
        self.rest.extend_from_slice(&bytes[written..]);
        self.note_written(written);
        Ok(())
    }

    /// Writes what was kept.
    fn settle(&mut self) -> Result<(), Errno> {
        if self.rest.is_empty() {
            return Ok(());
        }
        let written = write_some(self.pipe.as_fd(), &self.rest)?;
        self.rest.drain(..written);
        self.note_written(written);
        Ok(())
    }

    fn note_written(&mut self, written: usize) {
        if self.rest.is_empty() {
            self.rest = Vec::new();
            self.stuck = None;
        } else if written > 0 || self.stuck.is_none() {
            self.stuck = Some(Instant::now());
        }
    }
}

/// Reads for the log what tee(2) has left in the pipe.
fn read_back(
    source: BorrowedFd<'_>,
    stream: Stream,
    copied: usize,
    log: &mut LogWriter,
    buffer: &mut Vec<u8>,
) -> io::Result<()> {
    let mut left = copied;
    while left > 0 {
        let (read, _) = match rustix::io::read(source, space(buffer, left.min(CHUNK))) {
            Err(Errno::INTR) => continue,
            // The program has read its own output.
            Ok(([], _)) | Err(Errno::AGAIN) => break,
            result => result?,
        };
        log.keep(stream, read);
        left -= read.len();
    }
    Ok(())
}

/// Room for so many bytes, which are touched only as they are read.
fn space(buffer: &mut Vec<u8>, length: usize) -> &mut [MaybeUninit<u8>] {
    buffer.clear();
    buffer.reserve_exact(CHUNK);
    &mut buffer.spare_capacity_mut()[..length]
}

/// Writes to a descriptor that does not block; how much it had room for.
pub(crate) fn write_some(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
    let mut written = 0;
    while written < bytes.len() {
        match rustix::io::write(fd, &bytes[written..]) {
            Ok(length) => written += length,
            Err(Errno::AGAIN) => break,
            Err(Errno::INTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}
