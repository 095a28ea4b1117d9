//! Bytes on their way from one descriptor to another, without waiting for either: by splice(2) where
//! the kernel can, by read and write where it can't.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use kelp_sys::fd::has_input;
use rustix::event::{PollFd, PollFlags};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::Errno;
use rustix::net::{SendFlags, send};
use rustix::pipe::{SpliceFlags, splice};
use rustix::termios::isatty;

/// What is spliced at most at once.
pub(crate) const CHUNK: usize = 1 << 20;

/// The most that is moved after the end of a process that exec added: more than its pipe has.
const LAST: usize = 2 * CHUNK;

/// The usual room in a pipe (pipe(7)).
const PIPE: usize = 64 * 1024;

/// A descriptor of a flow's own, or one of the process's standard streams.
#[derive(Debug)]
pub(crate) enum Place {
    Own(OwnedFd),
    Standard(BorrowedFd<'static>),
}

impl AsFd for Place {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Own(fd) => fd.as_fd(),
            Self::Standard(fd) => *fd,
        }
    }
}

/// One direction of a stream.
#[derive(Debug)]
pub(crate) struct Flow {
    source: Place,
    sink: Place,
    /// Whether splice(2) is tried: not to a terminal, which it would wait for.
    spliced: bool,
    /// Whether the sink is a socket.
    socket: bool,
    /// What was read and found no room in the sink.
    rest: Vec<u8>,
    /// Whether it waits for room in the sink.
    blocked: bool,
    /// How much may still be moved after the other side has ended.
    pub(crate) left: usize,
}

/// What became of one turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// So many bytes were moved; there may be more.
    Moved(usize),
    /// Nothing to move now.
    Idle,
    /// Nothing more can come, and all has been moved.
    Ended,
}

impl Flow {
    /// From standard input to a pipe or terminal that does not block.
    pub(crate) fn from_stdin(sink: OwnedFd) -> Self {
        Self {
            source: Place::Standard(rustix::stdio::stdin()),
            sink: Place::Own(sink),
            spliced: true,
            socket: false,
            rest: Vec::new(),
            blocked: false,
            left: LAST,
        }
    }

    /// To one of the standard streams, which others share and which stay as they are.
    pub(crate) fn to_standard(source: OwnedFd, sink: BorrowedFd<'static>) -> Self {
        let kind = fstat(sink).map(|stat| FileType::from_raw_mode(stat.st_mode));
        let terminal = kind == Ok(FileType::CharacterDevice) && isatty(sink);
        let socket = kind == Ok(FileType::Socket);
        Self {
            source: Place::Own(source),
            sink: if terminal {
                unblocked(sink)
            } else {
                Place::Standard(sink)
            },
            spliced: !terminal && !socket,
            socket,
            rest: Vec::new(),
            blocked: false,
            left: LAST,
        }
    }

    /// Where the bytes come from.
    pub(crate) fn source(&self) -> BorrowedFd<'_> {
        self.source.as_fd()
    }

    /// How many bytes wait for room in the sink.
    pub(crate) fn waiting(&self) -> usize {
        self.rest.len()
    }

    /// Whether it waits for room in the sink.
    pub(crate) fn is_blocked(&self) -> bool {
        self.blocked
    }

    /// What becomes ready when there is room in the sink.
    pub(crate) fn room(&self) -> PollFd<'_> {
        PollFd::from_borrowed_fd(self.sink.as_fd(), PollFlags::OUT)
    }

    /// What becomes ready when it can go on.
    pub(crate) fn awaited(&self) -> PollFd<'_> {
        if self.blocked {
            self.room()
        } else {
            PollFd::from_borrowed_fd(self.source.as_fd(), PollFlags::IN)
        }
    }

    /// Moves what there is and what there is room for.
    pub(crate) fn turn(&mut self) -> io::Result<Turn> {
        if !self.rest.is_empty() {
            // What may be read by now is not known: the source may be one that blocks.
            self.settle()?;
            return Ok(if self.blocked {
                Turn::Idle
            } else {
                Turn::Moved(0)
            });
        }
        self.blocked = false;
        if self.spliced {
            let flags = SpliceFlags::NONBLOCK | SpliceFlags::MOVE;
            match splice(&self.source, None, &self.sink, None, CHUNK, flags) {
                Ok(0) => return Ok(Turn::Ended),
                Ok(moved) => {
                    // Either the source is empty now or the sink is full. Where it may be the sink one look
                    // tells; for less than a pipe's usual room it would be one too many.
                    self.blocked = moved >= PIPE && has_input(self.source.as_fd());
                    return Ok(Turn::Moved(moved));
                }
                Err(Errno::INTR) => return Ok(Turn::Moved(0)),
                Err(Errno::AGAIN) => {
                    self.blocked = has_input(self.source.as_fd());
                    return Ok(Turn::Idle);
                }
                Err(Errno::PIPE) => return Err(Errno::PIPE.into()),
                // Not between these two: neither is a pipe, or a file is opened for appending.
                Err(_) => self.copy_from_now_on(),
            }
        }
        let mut buffer = Vec::with_capacity(PIPE);
        match rustix::io::read(&self.source, buffer.spare_capacity_mut()) {
            // A terminal whose last user has gone is at its end with an error.
            Ok(([], _)) | Err(Errno::IO) => Ok(Turn::Ended),
            Ok((bytes, _)) => {
                self.give(bytes)?;
                Ok(Turn::Moved(bytes.len()))
            }
            Err(Errno::AGAIN) => Ok(Turn::Idle),
            Err(Errno::INTR) => Ok(Turn::Moved(0)),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes what there is room for and keeps the rest.
    pub(crate) fn give(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.blocked {
            self.rest.extend_from_slice(bytes);
            return Ok(());
        }
        let written = self.write_some(bytes)?;
        self.rest.extend_from_slice(&bytes[written..]);
        self.blocked = !self.rest.is_empty();
        Ok(())
    }

    /// Writes what was kept.
    pub(crate) fn settle(&mut self) -> io::Result<()> {
        self.blocked = false;
        let rest = std::mem::take(&mut self.rest);
        if rest.is_empty() {
            return Ok(());
        }
        self.give(&rest)
    }

    fn copy_from_now_on(&mut self) {
        self.spliced = false;
        if let Place::Standard(sink) = self.sink {
            self.sink = unblocked(sink);
        }
    }

    fn write_some(&self, bytes: &[u8]) -> Result<usize, Errno> {
        let mut written = 0;
        while written < bytes.len() {
            let left = &bytes[written..];
            let result = if self.socket {
                send(&self.sink, left, SendFlags::DONTWAIT | SendFlags::NOSIGNAL)
            } else {
                rustix::io::write(&self.sink, left)
            };
            match result {
                Ok(length) => written += length,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(written)
    }
}

/// A standard stream opened once more, so that it does not block here and does for all others that
/// have it. Whoever may not open it again, as another user's terminal, waits for it.
fn unblocked(stream: BorrowedFd<'static>) -> Place {
    let reopened = || {
        let kind = FileType::from_raw_mode(fstat(stream).ok()?.st_mode);
        if !matches!(kind, FileType::Fifo | FileType::CharacterDevice) {
            return None;
        }
        let path = format!("/proc/self/fd/{}", kelp_sys::spawn::number(stream));
        let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        open(path, flags, Mode::empty()).ok()
    };
    reopened().map_or(Place::Standard(stream), Place::Own)
}
