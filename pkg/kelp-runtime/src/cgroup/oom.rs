//! Processes of the container that the kernel kills for memory.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use kelp_runtime::cgroup::Cgroup;

/// The kernel's count of them. It tells of a change since the file was read last by a priority event
/// (cgroup-v2.rst, "memory.events").
#[derive(Debug, Default)]
pub(crate) struct OomKills {
    file: Option<File>,
    count: u64,
}

impl OomKills {
    /// Counts from now on; nothing without a cgroup, or where none has the memory controller.
    pub(crate) fn of(cgroup: Option<&Cgroup>) -> Self {
        let path = cgroup.map(|cgroup| cgroup.counter("memory.events"));
        let file = path.and_then(|path| File::open(path).ok());
        let count = file.as_ref().map_or(0, read);
        Self { file, count }
    }

    /// Begins to count in a cgroup that may have got the memory controller since.
    pub(crate) fn look_for(&mut self, cgroup: Option<&Cgroup>) {
        if self.file.is_none() {
            *self = Self::of(cgroup);
        }
    }

    /// What tells of a change.
    pub(crate) fn awaited(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    /// Whether there are more than when this was asked last. Other changes, of which a cgroup at its limit
    /// has many, come to nothing.
    pub(crate) fn has_more(&mut self) -> bool {
        let count = self.file.as_ref().map_or(0, read);
        let more = count > self.count;
        self.count = count;
        more
    }
}

fn read(file: &File) -> u64 {
    let mut text = [0; 512];
    let length = file.read_at(&mut text, 0).unwrap_or(0);
    parse(&String::from_utf8_lossy(&text[..length]))
}

/// `oom_kill N` among the lines.
fn parse(text: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kills_are_told_from_other_events() {
        let text = "low 0\nhigh 0\nmax 30\noom 2\noom_kill 1\noom_group_kill 0\n";
        assert_eq!(parse(text), 1);
        assert_eq!(parse(""), 0);
    }

    #[test]
    fn only_more_of_them_counts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("memory.events");
        std::fs::write(&path, "max 1\noom_kill 1\n").unwrap();
        let file = File::open(&path).unwrap();
        let count = read(&file);
        let mut kills = OomKills {
            file: Some(file),
            count,
        };
        assert!(!kills.has_more());
        std::fs::write(&path, "max 9\noom_kill 1\n").unwrap();
        assert!(!kills.has_more());
        std::fs::write(&path, "max 9\noom_kill 3\n").unwrap();
        assert!(kills.has_more());
        assert!(!kills.has_more());
        assert!(!OomKills::of(None).has_more());
    }
}
