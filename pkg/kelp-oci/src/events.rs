//! `events`: what a container uses, from time to time, and when the kernel kills in it for want of memory.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde_json::Value;

use crate::error::Error;
use crate::record::Container;
use crate::usage::{pairs, usage};

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
        let cgroup = self.own_cgroup("asked what it uses")?;
        let mut directories = vec![cgroup.path().to_owned()];
        // A controller that nothing was limited by is in systemd's scope, which is the container's alone.
        if self.record.scope.is_some() {
            directories.extend(cgroup.path().parent().map(PathBuf::from));
        }
        let read = |name: &str| {
            let mut texts = directories
                .iter()
                .map(|path| fs::read_to_string(path.join(name)));
            texts.find_map(Result::ok)
        };
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
        let mut kills = self.kills()?;
        let mut next = Instant::now() + interval;
        loop {
            let left = next.saturating_duration_since(Instant::now());
            let (ended, told) = wait(&init, kills.as_ref(), left)
                .map_err(Error::io(format!("wait for container \"{}\"", self.id)))?;
            // Also at its end: the kill may have been that.
            if (ended || told) && kills.as_mut().is_some_and(Kills::are_more) {
                tell(Event::OutOfMemory)?;
            }
            if ended {
                return Ok(());
            }
            if next <= Instant::now() {
                tell(Event::Usage(self.usage()?))?;
                next = Instant::now() + interval;
            }
        }
    }

    /// The error of what takes one that runs.
    pub(crate) fn is_not_running(&self) -> Error {
        Error::State(format!("container \"{}\" is not running", self.id))
    }

    /// Where the kernel counts kills, if it does.
    fn kills(&self) -> Result<Option<Kills>, Error> {
        let cgroup = self.own_cgroup("watched")?;
        let scope = cgroup.path().parent();
        let scope = scope.filter(|_| self.record.scope.is_some());
        let mut places = std::iter::once(cgroup.path()).chain(scope);
        let file = places.find_map(|path| File::open(path.join("memory.events")).ok());
        Ok(file.map(|file| {
            let mut kills = Kills { file, count: 0 };
            kills.are_more();
            kills
        }))
    }
}

/// `memory.events`, and what it said last. The kernel tells of a change since it was read by a priority event
/// (cgroup-v2.rst, "memory.events").
#[derive(Debug)]
struct Kills {
    file: File,
    count: u64,
}

impl Kills {
    /// Reads it; whether there was another kill since it was read before.
    fn are_more(&mut self) -> bool {
        let mut text = [0; 4096];
        // The cgroup may be gone.
        let length = self.file.read_at(&mut text, 0).unwrap_or(0);
        let counts = pairs(&String::from_utf8_lossy(&text[..length]));
        let count = counts.get("oom_kill").and_then(Value::as_u64).unwrap_or(0);
        let are_more = count > self.count;
        self.count = self.count.max(count);
        are_more
    }
}

/// Waits for the end, for a change of the counts, or as long as it may take: which of the two it was.
fn wait(init: &impl AsFd, kills: Option<&Kills>, left: Duration) -> Result<(bool, bool), Errno> {
    let timeout = Timespec {
        tv_sec: left.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: left.subsec_nanos().into(),
    };
    let mut all = vec![PollFd::new(init, PollFlags::IN)];
    all.extend(kills.map(|kills| PollFd::new(&kills.file, PollFlags::PRI)));
    match poll(&mut all, Some(&timeout)) {
        Err(Errno::INTR) => {}
        ready => drop(ready?),
    }
    let is_ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
    Ok((is_ready(&all[0]), all.get(1).is_some_and(is_ready)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kill_is_told_once() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut kills = Kills {
            file: file.reopen().unwrap(),
            count: 0,
        };
        for (text, are_more) in [
            ("", false),
            ("oom 3\noom_kill 0\n", false),
            ("oom 3\noom_kill 2\n", true),
            ("oom 4\noom_kill 2\n", false),
            // The cgroup is gone, and what it said counts.
            ("", false),
            ("oom 4\noom_kill 3\n", true),
        ] {
            fs::write(file.path(), text).unwrap();
            assert_eq!(kills.are_more(), are_more, "{text:?}");
        }
    }
}
