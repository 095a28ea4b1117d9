//! Starting another program: fork, enter a user namespace, place descriptors, exec.
//!
//! `std::process::Command` can do neither the namespace nor exact descriptors without unsafe hooks.
//! Everything is allocated before the fork, so it may be called where other threads run.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Signal, set_parent_process_death_signal, setsid};
use rustix::thread::CapabilitySet;

use crate::clone::{Child, CloneFlags, clone3};
use crate::exec::{CStringArray, execve, reset_signals};
use crate::fd::{cloexec_from, dup_to};

/// A program to start.
pub struct Spawn<'a> {
    /// The file to execute: an absolute path.
    pub program: CString,
    /// The arguments, the program's name first.
    pub argv: CStringArray,
    /// The environment.
    pub envp: CStringArray,
    /// Descriptors of the caller and the numbers they get; every other descriptor is closed.
    /// Numbers 0, 1 and 2 that are not given are inherited.
    pub fds: Vec<(BorrowedFd<'a>, RawFd)>,
    /// A user namespace to enter first. The program then has every capability in it, whatever its
    /// user id is there (ambient capabilities).
    pub userns: Option<BorrowedFd<'a>>,
    /// Whether the program leads a session of its own.
    pub session: bool,
    /// A signal that the program gets when the calling thread ends.
    pub death_signal: Option<Signal>,
}

/// A child that is about to execute its program, or to fail.
#[derive(Debug)]
pub struct Begun {
    child: Child,
    /// Carries the child's error number; closed by execve(2).
    failure: OwnedFd,
}

impl Begun {
    /// Waits until the program has been executed.
    ///
    /// # Errors
    /// Those of setns(2), dup2(2) and execve(2) in the child.
    pub fn executed(self) -> io::Result<Child> {
        let mut code = [0_u8; 4];
        match rustix::io::read(&self.failure, &mut code)? {
            4 => {
                let _ = crate::process::wait_pidfd(self.child.pidfd.as_fd());
                Err(io::Error::from_raw_os_error(i32::from_ne_bytes(code)))
            }
            _ => Ok(self.child),
        }
    }
}

impl Spawn<'_> {
    /// Starts the program; returns once it has been executed.
    ///
    /// # Errors
    /// Those of clone3(2), setns(2), dup2(2) and execve(2), of the parent or the child alike.
    pub fn start(&self) -> io::Result<Child> {
        self.begin()?.executed()
    }

    /// Starts the program and goes on at once: a caller that waited would be woken on the new
    /// program's processor, and wait for its first time slice as well.
    ///
    /// # Errors
    /// Those of clone3(2) and dup2(2).
    pub fn begin(&self) -> io::Result<Begun> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        // Descriptors are first moved above every number that is asked for, so that placing one
        // never overwrites another that is still to be placed.
        let floor = self
            .fds
            .iter()
            .map(|&(_, number)| number)
            .max()
            .unwrap_or(2)
            .max(2)
            + 1;
        let mut raised = Vec::with_capacity(self.fds.len());
        for &(fd, number) in &self.fds {
            raised.push((rustix::io::fcntl_dupfd_cloexec(fd, floor)?, number));
        }
        let child = clone3(CloneFlags::empty(), None, || {
            let error = self.run_child(&raised);
            let code = error.raw_os_error().unwrap_or(libc::EIO);
            let _ = rustix::io::write(&write, &code.to_ne_bytes());
            127
        })?;
        Ok(Begun {
            child,
            failure: read,
        })
    }

    fn run_child(&self, raised: &[(OwnedFd, RawFd)]) -> io::Error {
        match self.prepare(raised) {
            Ok(()) => execve(&self.program, &self.argv, &self.envp),
            Err(error) => error,
        }
    }

    fn prepare(&self, raised: &[(OwnedFd, RawFd)]) -> io::Result<()> {
        reset_signals();
        if let Some(userns) = self.userns {
            crate::namespace::enter_user(userns)?;
            keep_capabilities()?;
        }
        if self.session {
            setsid()?;
        }
        if let Some(signal) = self.death_signal {
            set_parent_process_death_signal(Some(signal))?;
        }
        let mut last = 2;
        for (fd, number) in raised {
            dup_to(fd.as_fd(), *number)?;
            last = last.max(*number);
        }
        // Whatever lies between the placed numbers came from the caller without close-on-exec;
        // kelp opens nothing that way, and above the last one it is made sure of.
        cloexec_from(last + 1)
    }
}

/// Raises every permitted capability into the ambient set, so that it survives an exec by a user
/// id that is not 0 in the namespace (capabilities(7)).
pub fn keep_capabilities() -> io::Result<()> {
    let mut sets = rustix::thread::capabilities(None)?;
    sets.inheritable = sets.permitted;
    rustix::thread::set_capabilities(None, sets)?;
    for bit in 0..64 {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        if !sets.permitted.contains(capability) {
            continue;
        }
        let result = rustix::thread::configure_capability_in_ambient_set(capability, true);
        if result.is_err() && bit < 40 {
            result?;
        }
    }
    Ok(())
}

/// The number of a descriptor, for a message or an argument to another program.
pub fn number(fd: BorrowedFd<'_>) -> RawFd {
    fd.as_raw_fd()
}
