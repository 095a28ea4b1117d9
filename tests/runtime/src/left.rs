//! What a case may have left behind.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::mount::UnmountFlags;
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process, pidfd_open, waitid,
};

use crate::command::readable;
use crate::mountinfo;

/// A process that was killed gets this long to be gone.
const GRACE: Duration = Duration::from_secs(2);

/// What is in a state root. A runtime's own caches have names that no container can have.
pub(crate) fn entries(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| !name.starts_with(['.', ':']))
        .map(|name| format!("state {name}"))
        .collect()
}

/// Cgroups below the suite's own with such a name.
pub(crate) fn cgroups(own: &str, prefix: &str) -> Vec<String> {
    named(own, prefix)
        .into_iter()
        .map(|path| format!("cgroup {}", path.display()))
        .collect()
}

/// Kills and removes them, so that one case's are not the next one's.
pub(crate) fn remove_cgroups(own: &str, prefix: &str) {
    for path in named(own, prefix) {
        let _ = fs::write(path.join("cgroup.kill"), "1");
        let mut all = vec![path];
        let mut next = 0;
        while let Some(path) = all.get(next) {
            let inner = fs::read_dir(path).into_iter().flatten().flatten();
            let inner: Vec<PathBuf> = inner
                .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
                .map(|entry| entry.path())
                .collect();
            all.extend(inner);
            next += 1;
        }
        processes();
        for path in all.iter().rev() {
            let _ = fs::remove_dir(path);
        }
    }
}

/// Where `cgroupsPath` is relative or not said, root's containers are at the top of the hierarchy.
fn named(own: &str, prefix: &str) -> Vec<PathBuf> {
    let top = Path::new("/sys/fs/cgroup");
    let mut parents = vec![top.to_owned(), top.join(own.trim_start_matches('/'))];
    parents.dedup();
    let entries = parents
        .iter()
        .filter_map(|parent| fs::read_dir(parent).ok());
    entries
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().contains(prefix))
        .map(|entry| entry.path())
        .collect()
}

/// Children of this process: whatever a container leaves becomes one, because the suite is a
/// subreaper. What has ended is reaped; what has not after a while is killed.
pub(crate) fn processes() -> Vec<String> {
    let mut left = Vec::new();
    reap();
    for pid in children() {
        let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty()) else {
            continue;
        };
        if readable(pidfd.as_fd(), GRACE).is_ok_and(|ended| ended) {
            continue;
        }
        let number = pid.as_raw_nonzero();
        let command = fs::read_to_string(format!("/proc/{number}/cmdline")).unwrap_or_default();
        left.push(format!("process {number}: {}", command.replace('\0', " ")));
        let _ = kill_process(pid, Signal::KILL);
        let _ = readable(pidfd.as_fd(), GRACE);
    }
    reap();
    left
}

fn reap() {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
    while let Ok(Some(_)) = waitid(WaitId::All, options) {}
}

/// Reaps what ends besides a container's first process, until that one does: a pid namespace is
/// not at its end while somebody outside has not reaped a process of it.
pub(crate) fn reap_others(first: Pid) {
    let end = Instant::now() + GRACE;
    while Instant::now() < end {
        let open = |pid| Some((pid, pidfd_open(pid, PidfdFlags::empty()).ok()?));
        let pidfds: Vec<_> = children().into_iter().filter_map(open).collect();
        let mut polled: Vec<_> = pidfds
            .iter()
            .map(|(_, fd)| PollFd::new(fd, PollFlags::IN))
            .collect();
        let limit = Timespec {
            tv_sec: GRACE.as_secs() as i64,
            tv_nsec: 0,
        };
        if poll(&mut polled, Some(&limit)).is_err() {
            return;
        }
        let ended = polled.iter().map(|fd| !fd.revents().is_empty());
        for ((pid, pidfd), _) in pidfds.iter().zip(ended).filter(|(_, ended)| *ended) {
            if *pid == first {
                return;
            }
            let _ = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
        }
    }
}

fn children() -> Vec<Pid> {
    let own = std::process::id();
    let list = fs::read_to_string(format!("/proc/{own}/task/{own}/children")).unwrap_or_default();
    list.split_whitespace()
        .filter_map(|word| Pid::from_raw(word.parse().ok()?))
        .collect()
}

/// Where something is mounted in the suite's own namespace.
pub(crate) fn mounts() -> Vec<String> {
    let text = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let all = mountinfo::parse(&text).into_iter();
    all.map(|mount| mount.target).collect()
}

/// Unmounts what is new since then, and says what it was.
pub(crate) fn unmount_since(before: &[String]) -> Vec<String> {
    let mut left = Vec::new();
    for target in mounts().into_iter().rev() {
        if !before.contains(&target) {
            let _ = rustix::mount::unmount(&target, UnmountFlags::DETACH);
            left.push(target);
        }
    }
    left
}
