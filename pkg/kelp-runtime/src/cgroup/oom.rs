//! Processes of a cgroup that the kernel kills for memory.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use super::Cgroup;

/// The kernel's count of them. It tells of a change since the file was read last by a priority event
/// (cgroup-v2.rst, "memory.events").
#[derive(Debug, Default)]
pub struct OomKills {
    file: Option<File>,
    count: u64,
}

impl OomKills {
    /// Counts from now on; nothing without a cgroup, or where none has the memory controller.
    pub fn of(cgroup: Option<&Cgroup>) -> Self {
        let path = cgroup.map(|cgroup| cgroup.counter("memory.events"));
        let file = path.and_then(|path| File::open(path).ok());
        let count = file.as_ref().and_then(read).unwrap_or(0);
        Self { file, count }
    }

    /// Begins to count in a cgroup that may have got the memory controller since.
    pub fn look_for(&mut self, cgroup: Option<&Cgroup>) {
        if self.file.is_none() {
            *self = Self::of(cgroup);
        }
    }

    /// What tells of a change.
    pub fn awaited(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    /// Whether there are more than when this was asked last. Other changes, of which a cgroup at its limit
    /// has many, come to nothing.
    pub fn has_more(&mut self) -> bool {
        let Some(count) = self.file.as_ref().and_then(read) else {
            // The file has gone with the cgroup or its controller, and would be told of for ever.
            self.file = None;
            return false;
        };
        let more = count > self.count;
        self.count = count;
        more
    }
}

fn read(file: &File) -> Option<u64> {
    let mut text = [0; 512];
    let length = file.read_at(&mut text, 0).ok()?;
    Some(parse(&String::from_utf8_lossy(&text[..length])))
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
        let count = read(&file).unwrap();
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
        // What can't be read is waited for no more.
        kills.file = Some(File::create(&path).unwrap());
        assert!(!kills.has_more());
        assert!(kills.awaited().is_none());
        assert!(!OomKills::of(None).has_more());
    }
}
