//! clone3(2): new processes, with their namespaces, cgroup and pidfd in one call.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

use rustix::process::Pid;

/// libc's constant does not fit its type.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// Namespaces and options for [`clone3`]; the kernel's `CLONE_*` bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CloneFlags(u64);

impl CloneFlags {
    /// A new mount namespace.
    pub const NEWNS: Self = Self(libc::CLONE_NEWNS as u64);
    /// A new cgroup namespace.
    pub const NEWCGROUP: Self = Self(libc::CLONE_NEWCGROUP as u64);
    /// A new UTS namespace.
    pub const NEWUTS: Self = Self(libc::CLONE_NEWUTS as u64);
    /// A new IPC namespace.
    pub const NEWIPC: Self = Self(libc::CLONE_NEWIPC as u64);
    /// A new user namespace.
    pub const NEWUSER: Self = Self(libc::CLONE_NEWUSER as u64);
    /// A new pid namespace, whose process 1 is the child.
    pub const NEWPID: Self = Self(libc::CLONE_NEWPID as u64);
    /// A new network namespace.
    pub const NEWNET: Self = Self(libc::CLONE_NEWNET as u64);

    /// No flag.
    pub const fn empty() -> Self {
        Self(0)
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` is in this set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// A child process and the descriptor that names it whatever becomes of its number.
#[derive(Debug)]
pub struct Child {
    /// The process id in the caller's pid namespace.
    pub pid: Pid,
    /// A pidfd, close-on-exec.
    pub pidfd: OwnedFd,
}

/// Starts a copy of this process that runs `body` and exits with what it returns.
///
/// The child shares nothing with the parent but what fork(2) shares. The caller must have one
/// thread, or `body` must keep to async-signal-safe work: no allocation, no locks.
///
/// `cgroup` is a descriptor of the cgroup directory that the child starts in.
///
/// # Errors
/// clone3(2): `EPERM` where user namespaces are forbidden, `ENOSPC` at a namespace limit, `EAGAIN`
/// at the process limit, `EBUSY` or `EACCES` for the cgroup.
pub fn clone3(
    flags: CloneFlags,
    cgroup: Option<BorrowedFd<'_>>,
    body: impl FnOnce() -> i32,
) -> io::Result<Child> {
    start(flags.0, libc::SIGCHLD as u64, cgroup, body)
}

/// [`clone3`] for a child of the caller's parent, which is told of its end by SIGCHLD and waits for
/// it (`CLONE_PARENT`). [`Child::pid`] is then what the caller counts, and not what that parent does
/// if the two are in different pid namespaces.
pub fn clone3_sibling(
    flags: CloneFlags,
    cgroup: Option<BorrowedFd<'_>>,
    body: impl FnOnce() -> i32,
) -> io::Result<Child> {
    // With CLONE_PARENT the kernel takes the caller's own exit signal, and wants none given.
    start(flags.0 | libc::CLONE_PARENT as u64, 0, cgroup, body)
}

fn start(
    flags: u64,
    exit_signal: u64,
    cgroup: Option<BorrowedFd<'_>>,
    body: impl FnOnce() -> i32,
) -> io::Result<Child> {
    let mut pidfd: RawFd = -1;
    // SAFETY: clone_args is a plain struct of integers, for which all zeroes is valid.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = flags | libc::CLONE_PIDFD as u64;
    args.pidfd = (&raw mut pidfd) as u64;
    args.exit_signal = exit_signal;
    if let Some(cgroup) = cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child has its own copy of the address space and returns here on
    // its own copy of the stack; args and pidfd live across the call.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const args,
            size_of::<libc::clone_args>(),
        )
    };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let code = body();
            // SAFETY: _exit ends the child without running the parent's exit handlers.
            unsafe { libc::_exit(code) }
        }
        pid => Ok(Child {
            pid: Pid::from_raw(pid as i32).expect("clone3 returned a positive pid"),
            // SAFETY: the kernel stored a new descriptor, which nobody else owns.
            pidfd: unsafe { OwnedFd::from_raw_fd(pidfd) },
        }),
    }
}

/// Forks, and swaps the roles: returns in the child, while the parent runs `parent` and exits with
/// what that returns. For a process that becomes the reaper of what it was about to become.
///
/// The caller must have one thread.
pub fn fork_and(parent: impl FnOnce(Pid) -> i32) -> io::Result<()> {
    // SAFETY: the caller has one thread, so the child's copy of the address space has no lock held.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => Err(io::Error::last_os_error()),
        0 => Ok(()),
        pid => {
            let code = parent(Pid::from_raw(pid).expect("fork returned a positive pid"));
            // SAFETY: _exit runs no exit handlers, which belong to the program that never was.
            unsafe { libc::_exit(code) }
        }
    }
}
