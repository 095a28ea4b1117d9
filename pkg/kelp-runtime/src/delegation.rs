//! A cgroup for an init to divide, as systemd does: cgroup-v2.rst, "Delegation".
//!
//! ```text
//! kelp-<id>           the user's; the container's limits are here
//!   payload           the container's root's; the root of its cgroup namespace
//!     init.scope, …   what the init makes
//! ```
//!
//! The limits are above what is given away, so that nobody inside can lift them, whatever cgroup2 is
//! mounted with (`nsdelegate`). The payload is made by the container's root, and not given to it: then
//! everything in it is that one's, also where the user has no id in the container.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use kelp_sys::clone::{CloneFlags, clone3};
use kelp_sys::process::{Exit, wait_pidfd};
use rustix::fs::{Mode, OFlags, RawMode, fchmod, fstat, mkdirat, open, openat};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Pid, set_dumpable_behavior};
use rustix::thread::{ThreadNameSpaceType, move_into_thread_name_spaces};

use crate::cgroup::{self, Cgroup, HINT, write_file};
use crate::error::Error;
use crate::init::become_root;

/// The cgroup that is given away.
const PAYLOAD: &str = "payload";

/// The controllers by which systemd limits units (systemd.resource-control(5)).
const CONTROLLERS: &[&str] = &["cpu", "cpuset", "io", "memory", "pids"];

/// To make something in a directory, for who is not its owner: the groups stay the user's.
const OTHERS: RawMode = 0o033;

/// Hands down to a container's cgroup what there is of controllers, and makes the one below that its root
/// may divide; its descriptor. With `moves`, processes that are in the way of controllers beside the
/// container's cgroup are moved.
///
/// The caller has one thread, and is in the container's user namespace with every capability there.
pub fn payload(cgroup: Option<&Cgroup>, moves: bool) -> Result<OwnedFd, Error> {
    let Some(cgroup) = cgroup else {
        return Err(Error::Spec(format!(
            "systemd in the container needs a cgroup to divide: {HINT}; or run it as any other program \
             with --systemd=false"
        )));
    };
    let path = cgroup.path();
    if let Some(parent) = path.parent() {
        hand_down(parent, moves);
    }
    let what = || format!("make the cgroup {}/{PAYLOAD}", path.display());
    make(cgroup.as_fd()).map_err(Error::io(what()))?;
    hand_down(path, false);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(cgroup, PAYLOAD, flags, Mode::empty()).map_err(|error| Error::io(what())(error.into()))
}

/// Enables the controllers of a cgroup for those below it, as far as that can be done: what was asked
/// for in limits is enabled by now, and without the others units inside have no limits of theirs.
fn hand_down(path: &Path, moves: bool) {
    let read = |file: &str| fs::read_to_string(path.join(file)).unwrap_or_default();
    let (all, enabled) = (read("cgroup.controllers"), read("cgroup.subtree_control"));
    let enabled: Vec<_> = enabled.split_ascii_whitespace().collect();
    let is_missing = |name: &&str| CONTROLLERS.contains(name) && !enabled.contains(name);
    let missing: Vec<_> = all.split_ascii_whitespace().filter(is_missing).collect();
    if missing.is_empty() {
        return;
    }
    let is_in_the_way = !cgroup::may_have_processes(path) && !read("cgroup.procs").is_empty();
    if is_in_the_way && (!moves || cgroup::make_room(path).is_err()) {
        return;
    }
    for name in missing {
        let _ = write_file(&path.join("cgroup.subtree_control"), &format!("+{name}"));
    }
}

/// Makes the payload as the container's root. That one may not be able to write to a directory of the
/// user's: where the user has no id in the namespace, no capability there is good for it (see
/// `capable_wrt_inode_uidgid` in the kernel). Then others may for a moment, in which the worst that they
/// can do is to take the name.
fn make(place: BorrowedFd<'_>) -> io::Result<()> {
    match make_as_root(place) {
        Err(error) if error.raw_os_error() == Some(Errno::ACCESS.raw_os_error()) => {}
        result => return result,
    }
    let mode = fstat(place)?.st_mode & 0o7777;
    fchmod(place, Mode::from_raw_mode(mode | OTHERS))?;
    let made = make_as_root(place);
    fchmod(place, Mode::from_raw_mode(mode))?;
    made
}

fn make_as_root(place: BorrowedFd<'_>) -> io::Result<()> {
    in_child(|| {
        become_root().map_err(|_| Errno::PERM)?;
        // The umask is whatever started the monitor has.
        crate::process::usual_umask();
        mkdirat(place, PAYLOAD, Mode::from_raw_mode(0o755))
    })
}

/// The cgroup that a container's init is in: one of those that it has made below the container's own, or
/// that one. Processes that are added come there, because a cgroup that is divided can have none.
pub fn of_init(pid: u32, own: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    below(&text, own).unwrap_or(own).to_owned()
}

fn below<'a>(text: &'a str, own: &str) -> Option<&'a str> {
    let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    path.strip_prefix(own)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        .then_some(path)
}

/// Moves a process that is in one of the user's cgroups into one that is a container's root's: somebody has
/// to have the capabilities of the user namespace of `init` for it, and still be in the user's cgroup
/// namespace, from where both are seen.
///
/// The caller has one thread.
pub fn enter(init: BorrowedFd<'_>, path: &Path, process: Pid) -> io::Result<()> {
    let number = process.as_raw_nonzero().to_string();
    in_child(|| {
        set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
        match move_into_thread_name_spaces(init, ThreadNameSpaceType::USER) {
            // EINVAL: it is in there already (setns(2)); were it anything else, the write below is refused.
            Err(Errno::INVAL) => {}
            entered => entered?,
        }
        let flags = OFlags::WRONLY | OFlags::CLOEXEC;
        let procs = open(path.join("cgroup.procs"), flags, Mode::empty())?;
        rustix::io::write(procs, number.as_bytes()).map(drop)
    })
}

/// Does something in a process of its own.
fn in_child(body: impl FnOnce() -> Result<(), Errno>) -> io::Result<()> {
    let child = clone3(CloneFlags::empty(), None, || {
        body().map_or_else(Errno::raw_os_error, |()| 0)
    })?;
    match wait_pidfd(child.pidfd.as_fd())? {
        Exit::Code(0) => Ok(()),
        Exit::Code(code) => Err(io::Error::from_raw_os_error(code)),
        Exit::Signal(_) => Err(io::Error::other("the process that does it was killed")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_added_comes_to_the_init() {
        let own = "/user.slice/kelp-1";
        for (text, found) in [
            ("0::/user.slice/kelp-1\n", Some("/user.slice/kelp-1")),
            (
                "1:cpu:/\n0::/user.slice/kelp-1/payload/init.scope\n",
                Some("/user.slice/kelp-1/payload/init.scope"),
            ),
            ("0::/user.slice/kelp-10\n", None),
            ("0::/elsewhere\n", None),
            ("1:cpu:/user.slice/kelp-1\n", None),
            ("", None),
        ] {
            assert_eq!(below(text, own), found, "{text:?}");
        }
        assert_eq!(of_init(u32::MAX, own), own);
    }
}
