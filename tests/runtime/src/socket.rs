//! Sockets over which a runtime hands descriptors: a terminal's, a seccomp listener's.

use std::io::{IoSliceMut, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};

use crate::command::{LIMIT, readable};
use crate::outcome::{Outcome, fails};

/// A socket that waits for a runtime.
pub(crate) struct Listener(UnixListener);

/// What came over one connection.
pub(crate) struct Message {
    /// All that was written, up to the end of the connection.
    pub(crate) text: String,
    /// The descriptors that came with the first of it.
    pub(crate) descriptors: Vec<OwnedFd>,
}

impl Listener {
    /// Binds it.
    pub(crate) fn new(path: &Path) -> Outcome<Self> {
        Ok(Self(UnixListener::bind(path)?))
    }

    /// Takes the next connection and what comes over it.
    pub(crate) fn message(&self) -> Outcome<Message> {
        if !readable(self.0.as_fd(), LIMIT)? {
            return fails("nobody connects to the socket");
        }
        let (mut stream, _) = self.0.accept()?;
        stream.set_read_timeout(Some(LIMIT))?;
        let (mut bytes, descriptors) = first(&stream)?;
        stream.read_to_end(&mut bytes)?;
        Ok(Message {
            text: String::from_utf8_lossy(&bytes).into_owned(),
            descriptors,
        })
    }

    /// Whether somebody else has connected.
    pub(crate) fn has_another(&self) -> Outcome<bool> {
        readable(self.0.as_fd(), std::time::Duration::ZERO)
    }
}

fn first(stream: &UnixStream) -> Outcome<(Vec<u8>, Vec<OwnedFd>)> {
    let mut bytes = vec![0; 1 << 16];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let buffers = &mut [IoSliceMut::new(&mut bytes)];
    let received = recvmsg(stream, buffers, &mut control, RecvFlags::CMSG_CLOEXEC)?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    bytes.truncate(received.bytes);
    Ok((bytes, descriptors))
}
