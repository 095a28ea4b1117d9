//! The native protocol of systemd's journal: an entry is a datagram, or the content of a sealed file whose
//! descriptor is sent where that is too large for one.
//!
//! A field is `KEY=value` and a line's end, or where the value may have line ends, the key, a line's end,
//! the value's length in eight bytes, the lowest first, the value, and a line's end.

use std::fs::File;
use std::io::{self, IoSlice, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use kelp_runtime::message;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrUnix, SocketFlags,
    SocketType, sendmmsg, socket_with,
};

use crate::log::Stream;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Stdout,
    Stderr,
    End,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Stdout, Self::Stderr, Self::End];
}

impl From<Stream> for Kind {
    fn from(stream: Stream) -> Self {
        match stream {
            Stream::Stdout => Self::Stdout,
            Stream::Stderr => Self::Stderr,
        }
    }
}

/// What is said in an entry besides what all of its kind say.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    pub(super) kind: Kind,
    /// Its text, in two pieces.
    pub(super) parts: [&'a [u8]; 2],
    /// Whether the line goes on in the next entry.
    pub(super) goes_on: bool,
}

impl Entry<'_> {
    pub(super) fn length(&self) -> usize {
        self.parts[0].len() + self.parts[1].len()
    }

    fn tail(&self) -> &'static [u8] {
        if self.goes_on {
            b"\nCONTAINER_PARTIAL_MESSAGE=true\n"
        } else {
            b"\n"
        }
    }
}

/// Why the journal takes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Obstacle {
    /// It has to read what it has first.
    Full,
    /// Nobody listens, or may be talked to.
    Gone,
}

/// The way to the journal.
#[derive(Debug)]
pub(super) struct Wire {
    path: PathBuf,
    socket: Option<OwnedFd>,
    /// What entries of each kind begin with, up to the key of the text.
    heads: [Vec<u8>; 3],
}

impl Wire {
    pub(super) fn new(path: &Path, heads: [Vec<u8>; 3]) -> io::Result<Self> {
        Ok(Self {
            path: path.to_owned(),
            socket: Some(connect(path)?),
            heads,
        })
    }

    pub(super) fn socket(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(AsFd::as_fd)
    }

    /// Sends entries in their order: how many the journal has taken, and why not the next one.
    pub(super) fn send(&mut self, entries: &[Entry<'_>]) -> (usize, Option<Obstacle>) {
        let mut sent = 0;
        let mut connected = false;
        while sent < entries.len() {
            let socket = match &self.socket {
                Some(socket) => socket.as_fd(),
                None if connected => return (sent, Some(Obstacle::Gone)),
                None => {
                    connected = true;
                    self.socket = connect(&self.path).ok();
                    continue;
                }
            };
            let next = &entries[sent..entries.len().min(sent + super::BATCH)];
            let result = match self.send_some(socket, next) {
                // The first of them is too large.
                Err(Errno::MSGSIZE | Errno::NOBUFS) => self.send_as_file(socket, &next[0]),
                result => result,
            };
            match result {
                Ok(count) => sent += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return (sent, Some(Obstacle::Full)),
                // Whoever listened has gone; somebody else may listen at the same place.
                Err(_) => self.socket = None,
            }
        }
        (sent, None)
    }

    fn send_some(&self, socket: BorrowedFd<'_>, entries: &[Entry<'_>]) -> Result<usize, Errno> {
        let lengths = entries
            .iter()
            .map(|entry| (entry.length() as u64).to_le_bytes());
        let lengths: Vec<_> = lengths.collect();
        let slices: Vec<_> = entries
            .iter()
            .zip(&lengths)
            .map(|(entry, length)| self.pieces(entry, length).map(IoSlice::new))
            .collect();
        let mut controls: Vec<_> = entries
            .iter()
            .map(|_| SendAncillaryBuffer::default())
            .collect();
        let mut messages: Vec<_> = slices
            .iter()
            .zip(&mut controls)
            .map(|(slices, control)| MMsgHdr::new(slices, control))
            .collect();
        sendmmsg(socket, &mut messages, SendFlags::NOSIGNAL)
    }

    fn pieces<'a>(&'a self, entry: &Entry<'a>, length: &'a [u8; 8]) -> [&'a [u8]; 5] {
        let [first, second] = entry.parts;
        [
            &self.heads[entry.kind as usize],
            length,
            first,
            second,
            entry.tail(),
        ]
    }

    /// Sends one entry as a file in memory that nobody can change any more. One that there is no memory
    /// for is lost: it would be so for ever.
    fn send_as_file(&self, socket: BorrowedFd<'_>, entry: &Entry<'_>) -> Result<usize, Errno> {
        let length = (entry.length() as u64).to_le_bytes();
        let Ok(file) = sealed(&self.pieces(entry, &length)) else {
            return Ok(1);
        };
        match message::send(socket, b"", &[file.as_fd()]) {
            Ok(()) => Ok(1),
            Err(error) => Err(Errno::from_io_error(&error).unwrap_or(Errno::IO)),
        }
    }
}

/// A socket that is connected to the journal's, and does not block.
pub(super) fn connect(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)?;
    rustix::net::connect(&socket, &SocketAddrUnix::new(path)?)?;
    Ok(socket)
}

fn sealed(pieces: &[&[u8]]) -> io::Result<File> {
    // journald before systemd 254 wants these seals and no other, so that it may be executable.
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let mut file = File::from(memfd_create("kelp-journal", flags)?);
    for piece in pieces {
        file.write_all(piece)?;
    }
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    fcntl_add_seals(&file, seals)?;
    Ok(file)
}

/// Adds a field.
pub(super) fn field(to: &mut Vec<u8>, key: &str, value: &str) {
    to.extend_from_slice(key.as_bytes());
    if value.contains('\n') {
        to.push(b'\n');
        to.extend_from_slice(&(value.len() as u64).to_le_bytes());
    } else {
        to.push(b'=');
    }
    to.extend_from_slice(value.as_bytes());
    to.push(b'\n');
}
