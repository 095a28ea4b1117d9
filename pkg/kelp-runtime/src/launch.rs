//! Starting a container's first process: the parent's side.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use kelp_sys::clone::{Child, clone3};
use kelp_sys::process::wait_pidfd;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, socketpair};

use crate::error::{Error, Failure};
use crate::message::{receive, send};
use crate::plan::Plan;

/// The standard streams of a process without a terminal.
#[derive(Clone, Copy, Debug)]
pub struct Stdio<'a> {
    /// What it reads.
    pub stdin: BorrowedFd<'a>,
    /// What it writes.
    pub stdout: BorrowedFd<'a>,
    /// Where it complains.
    pub stderr: BorrowedFd<'a>,
}

/// A process that has been made and is not yet the program.
#[derive(Debug)]
pub struct Starting {
    /// The process.
    pub child: Child,
    /// The outer end of its terminal, where it has one.
    pub terminal: Option<OwnedFd>,
    socket: OwnedFd,
    program: String,
}

pub(crate) const READY: u8 = 0x10;
pub(crate) const GO: u8 = 0x11;

/// Makes the process and its namespaces.
///
/// Returns when the root, the mounts and the terminal are there, and the init waits for
/// [`Starting::execute`]: the moment to set up its network.
///
/// The caller must be in the container's user namespace with every capability there, and have one
/// thread.
pub fn launch(
    plan: &Plan,
    stdio: Option<Stdio<'_>>,
    cgroup: Option<BorrowedFd<'_>>,
) -> Result<Starting, Error> {
    let (parent_end, child_end) = pair()?;
    let child = clone3(plan.create, cgroup, || {
        let failure = crate::init::run(plan, stdio, child_end.as_fd());
        let _ = send(child_end.as_fd(), &failure.to_bytes(), &[]);
        1
    })
    .map_err(|error| match error.raw_os_error() {
        Some(code) if code == rustix::io::Errno::NOSPC.raw_os_error() => Error::Init(
            "too many namespaces: raise the sysctls user.max_*_namespaces, or remove containers"
                .to_owned(),
        ),
        _ => Error::io("create the container's namespaces")(error),
    })?;
    drop(child_end);
    Starting::new(child, parent_end, plan.process.program()).ready()
}

pub(crate) fn pair() -> Result<(OwnedFd, OwnedFd), Error> {
    socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|error| Error::io("make a socket pair")(error.into()))
}

impl Starting {
    pub(crate) fn new(child: Child, socket: OwnedFd, program: String) -> Self {
        Self {
            child,
            terminal: None,
            socket,
            program,
        }
    }

    /// Waits for the init's word that all is set up.
    pub(crate) fn ready(mut self) -> Result<Self, Error> {
        let (message, mut fds) = self.receive()?;
        if message.first() != Some(&READY) {
            return Err(self.fail(&message));
        }
        self.terminal = fds.pop();
        Ok(self)
    }

    /// Lets the init execute the program; returns the process once it has.
    pub fn execute(self) -> Result<Child, Error> {
        // A failed send means that the init is gone; then so is its message, or its absence.
        let _ = send(self.socket.as_fd(), &[GO], &[]);
        let (message, _) = self.receive()?;
        if message.is_empty() {
            return Ok(self.child);
        }
        Err(self.fail(&message))
    }

    fn receive(&self) -> Result<(Vec<u8>, Vec<OwnedFd>), Error> {
        let mut buffer = vec![0; 4096];
        let (length, fds) = receive(self.socket.as_fd(), &mut buffer, RecvFlags::empty())
            .map_err(Error::io("hear from the init"))?;
        buffer.truncate(length);
        Ok((buffer, fds))
    }

    fn fail(&self, message: &[u8]) -> Error {
        let _ = wait_pidfd(self.child.pidfd.as_fd());
        if message.is_empty() {
            return Error::Init("the container's init was killed while it was starting".to_owned());
        }
        Failure::to_error(message, &self.program)
    }
}
