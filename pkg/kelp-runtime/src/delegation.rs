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

use crate::cgroup::{self, Cgroup, HINT, write_file};
use crate::error::Error;
use crate::init::become_root;

/// The cgroup that is given away.
pub const PAYLOAD: &str = "payload";

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
    // The machine's root has no type, and may have processes (cgroup-v2.rst, "No Internal Process
    // Constraint").
    let is_machines = !path.join("cgroup.type").exists();
    let has_processes = !is_machines && !read("cgroup.procs").is_empty();
    if has_processes && (!moves || cgroup::make_room(path).is_err()) {
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
    let child = clone3(CloneFlags::empty(), None, || {
        if become_root().is_err() {
            return Errno::PERM.raw_os_error();
        }
        // The umask is whatever started the monitor has.
        crate::process::usual_umask();
        let mode = Mode::from_raw_mode(0o755);
        mkdirat(place, PAYLOAD, mode).map_or_else(Errno::raw_os_error, |()| 0)
    })?;
    match wait_pidfd(child.pidfd.as_fd())? {
        Exit::Code(0) => Ok(()),
        Exit::Code(code) => Err(io::Error::from_raw_os_error(code)),
        Exit::Signal(_) => Err(io::Error::other("the process that makes it was killed")),
    }
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

/// Moves the calling process into a cgroup that it has entered the user namespace for.
pub(crate) fn enter(path: &Path) -> io::Result<()> {
    let procs = open(
        path.join("cgroup.procs"),
        OFlags::WRONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    rustix::io::write(procs, b"0")?;
    Ok(())
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
