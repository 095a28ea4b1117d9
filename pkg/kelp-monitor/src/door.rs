//! Who comes to the monitor's socket.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::net::{SocketFlags, accept_with};

/// The listening socket. It is shut for a while where nobody can be let in, as without a free
/// descriptor: whoever waits there would wake the poll loop again and again.
#[derive(Debug)]
pub(crate) struct Door<'a> {
    listener: &'a OwnedFd,
    shut_until: Option<Instant>,
}

impl<'a> Door<'a> {
    /// Until it is tried again, if no client goes before.
    const PAUSE: Duration = Duration::from_secs(1);

    pub(crate) fn new(listener: &'a OwnedFd) -> Self {
        Self {
            listener,
            shut_until: None,
        }
    }

    /// What becomes readable when somebody comes; nothing while it is shut.
    pub(crate) fn awaited(&self) -> Option<BorrowedFd<'a>> {
        let shut = self.shut_until.is_some_and(|end| Instant::now() < end);
        (!shut).then(|| self.listener.as_fd())
    }

    /// When it is to be looked at again though nothing has happened.
    pub(crate) fn opens_at(&self) -> Option<Instant> {
        self.shut_until
    }

    /// A client has gone, and its descriptors are free.
    pub(crate) fn open(&mut self) {
        self.shut_until = None;
    }

    /// Lets somebody in, over a socket that does not block.
    pub(crate) fn accept(&mut self) -> Option<OwnedFd> {
        self.shut_until = None;
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        match accept_with(self.listener, flags) {
            Ok(socket) => {
                // The directory is closed to others; the peer is looked at all the same.
                let peer = rustix::net::sockopt::socket_peercred(&socket);
                peer.is_ok_and(|peer| peer.uid == rustix::process::getuid())
                    .then_some(socket)
            }
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => None,
            Err(_) => {
                self.shut_until = Some(Instant::now() + Self::PAUSE);
                None
            }
        }
    }
}
