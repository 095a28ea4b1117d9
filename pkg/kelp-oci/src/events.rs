//! `events`: what a container uses, from time to time, and when the kernel kills in it for want of memory.

use std::fs;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use kelp_runtime::cgroup::OomKills;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde_json::Value;

use crate::error::Error;
use crate::record::Container;
use crate::usage::usage;

/// What there is to tell.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// What it uses, in runc's structure.
    Usage(Value),
    /// The kernel has killed a process of it, because it has no more memory.
    OutOfMemory,
}

impl Container {
    /// What it uses now, in runc's structure.
    pub fn usage(&self) -> Result<Value, Error> {
        self.init().ok_or_else(|| self.is_not_running())?;
        self.counters()
    }

    fn counters(&self) -> Result<Value, Error> {
        let cgroup = self.own_cgroup("asked what it uses")?;
        let read = |name: &str| fs::read_to_string(cgroup.counter(name)).ok();
        let mut directories = vec![cgroup.path()];
        // A controller that nothing was limited by is in systemd's scope.
        directories.extend(
            cgroup
                .path()
                .parent()
                .filter(|_| self.record.scope.is_some()),
        );
        let entries = directories
            .iter()
            .flat_map(|path| fs::read_dir(path).into_iter().flatten().flatten());
        let files: Vec<_> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        Ok(usage(&read, &files))
    }

    /// Tells what it uses whenever `interval` has passed, and of each kill for memory when it happens, until its
    /// first process has ended.
    pub fn watch<E: From<Error>>(
        &self,
        interval: Duration,
        mut tell: impl FnMut(Event) -> Result<(), E>,
    ) -> Result<(), E> {
        let Some(init) = self.init() else {
            return Err(self.is_not_running().into());
        };
        let mut kills = OomKills::of(Some(&self.own_cgroup("watched")?));
        let mut next = Instant::now() + interval;
        loop {
            let left = next.saturating_duration_since(Instant::now());
            let (ended, told) = wait(&init, &kills, left)
                .map_err(Error::io(format!("wait for container \"{}\"", self.id)))?;
            // Also at its end: the kill may have been that.
            if (ended || told) && kills.has_more() {
                tell(Event::OutOfMemory)?;
            }
            if ended {
                return Ok(());
            }
            if next <= Instant::now() {
                tell(Event::Usage(self.counters()?))?;
                next = Instant::now() + interval;
            }
        }
    }

    /// The error of what takes one that runs.
    fn is_not_running(&self) -> Error {
        Error::State(format!("container \"{}\" is not running", self.id))
    }
}

/// Waits for the end, for a change of the counts, or as long as it may take: which of the two it was.
fn wait(init: &impl AsFd, kills: &OomKills, left: Duration) -> Result<(bool, bool), Errno> {
    let timeout = Timespec {
        tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: left.subsec_nanos().into(),
    };
    let mut all = vec![PollFd::new(init, PollFlags::IN)];
    all.extend(
        kills
            .awaited()
            .map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::PRI)),
    );
    match poll(&mut all, Some(&timeout)) {
        Err(Errno::INTR) => {}
        ready => drop(ready?),
    }
    let is_ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
    Ok((is_ready(&all[0]), all.get(1).is_some_and(is_ready)))
}
