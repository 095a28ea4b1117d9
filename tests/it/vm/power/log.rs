//! The log of a disk: every write and every flush, in the order in which they were reported done.
//!
//! Its format is that of the kernel's dm-log-writes: a sector that says how many entries there are, and for
//! each entry a sector that says where it goes, and then its content.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::steps::Chance;

const MAGIC: u64 = 0x6a_7366_7773_6872;
const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;

/// What a disk writes whole or not at all, here.
const UNIT: usize = 4096;

/// A log. Of one whose writer was killed the end is not to be trusted: entries that the disk's user has not
/// been told of may be without their content.
pub(super) struct Log {
    file: File,
    entries: Vec<Entry>,
}

/// A write, or a flush of all that was written before it.
#[derive(Clone, Copy)]
struct Entry {
    /// Where its content is in the log.
    from: u64,
    /// Where it goes on the disk.
    to: u64,
    length: usize,
    flags: u64,
}

/// A disk as a log makes it, to be made later and later: what has been flushed up to some entry.
pub(super) struct Replay<'a> {
    log: &'a Log,
    disk: File,
    /// How many entries it has.
    next: usize,
}

/// What a disk keeps of what it has not flushed.
#[derive(Clone, Copy, Debug)]
enum Kept {
    Everything,
    Nothing,
    /// Each part with a chance of one in two.
    Half,
    /// Each part but one of eight.
    Most,
}

impl Log {
    pub(super) fn read(path: &str) -> Self {
        let file = File::open(path).unwrap();
        let mut sector = [0; 512];
        file.read_exact_at(&mut sector, 0).unwrap();
        assert_eq!(number(&sector, 0), MAGIC, "{path} is a log");
        let count = number(&sector, 16) as usize;
        let size = number(&sector, 24) & u64::from(u32::MAX);
        let mut entries = Vec::with_capacity(count);
        let mut at = size;
        for _ in 0..count {
            file.read_exact_at(&mut sector, at).unwrap();
            let flags = number(&sector, 16);
            assert_eq!(flags & DISCARD, 0, "the disk offers no discard");
            let entry = Entry {
                from: at + size,
                to: number(&sector, 0) * size,
                length: (number(&sector, 8) * size) as usize,
                flags,
            };
            if entry.length == 0 && flags & FLUSH == 0 {
                break;
            }
            at = entry.from + entry.length as u64;
            entries.push(entry);
        }
        Self { file, entries }
    }

    /// What was written from this place of the disk on, and by which entry.
    pub(super) fn written_from(&self, place: u64) -> Vec<(usize, Vec<u8>)> {
        let entries = self.entries.iter().enumerate();
        let there = entries.filter(|(_, entry)| entry.to >= place && entry.length > 0);
        there
            .map(|(index, entry)| (index, self.content(entry)))
            .collect()
    }

    fn content(&self, entry: &Entry) -> Vec<u8> {
        let mut content = vec![0; entry.length];
        self.file.read_exact_at(&mut content, entry.from).unwrap();
        content
    }
}

impl<'a> Replay<'a> {
    /// Begins with a copy of the disk as it was before the first entry.
    pub(super) fn new(log: &'a Log, base: &str, disk: &Path) -> Self {
        copy(Path::new(base), disk);
        let disk = OpenOptions::new().write(true).open(disk).unwrap();
        Self { log, disk, next: 0 }
    }

    /// Adds all that was flushed before the entry `at`, and no less than before.
    pub(super) fn go_on(&mut self, at: usize) {
        let before = &self.log.entries[..at];
        let flushed = before.iter().rposition(|entry| entry.flags & FLUSH != 0);
        let end = flushed.map_or(0, |flush| flush + 1);
        for entry in &self.log.entries[self.next.min(end)..end] {
            let content = self.log.content(entry);
            self.disk.write_all_at(&content, entry.to).unwrap();
        }
        self.next = self.next.max(end);
    }

    /// Adds to a copy of the disk what it may have kept of the rest before the entry `at`; tells what.
    pub(super) fn cut(&self, at: usize, copy: &File, chance: &mut Chance) -> String {
        let choices = [Kept::Everything, Kept::Nothing, Kept::Half, Kept::Most];
        let choice = choices[chance.below(choices.len())];
        let (mut kept, mut parts) = (0, 0);
        for entry in &self.log.entries[self.next..at] {
            let content = self.log.content(entry);
            for (index, part) in content.chunks(UNIT).enumerate() {
                // What was to be durable at once is.
                let keeps = entry.flags & FUA != 0
                    || match choice {
                        Kept::Everything => true,
                        Kept::Nothing => false,
                        Kept::Half => chance.below(2) == 0,
                        Kept::Most => chance.below(8) != 0,
                    };
                if keeps {
                    let place = entry.to + (index * UNIT) as u64;
                    copy.write_all_at(part, place).unwrap();
                    kept += 1;
                }
                parts += 1;
            }
        }
        let next = self.next;
        format!("cut at {at}: flushed to {next}, then kept {choice:?}, {kept} of {parts}")
    }
}

/// Copies a disk without its zeros.
pub(super) fn copy(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp")
        .args(["--sparse=always", "--no-preserve=all"])
        .args([from, to])
        .status();
    assert!(status.unwrap().success());
}

/// A number of eight bytes, little-endian.
fn number(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}
