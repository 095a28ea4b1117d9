//! Marks on the disk itself, behind the end of its file system, that say what has been reported done.
//!
//! A mark goes past every cache and waits for the disk, so that in the disk's log it comes after all that a
//! command had written before it ended, and before all that is written later.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::Mutex;

use rustix::fs::OFlags;
use serde::{Deserialize, Serialize};

use super::log::Log;

const SIZE: usize = 4096;

/// So many pages are written in turn.
const PAGES: u64 = 200;

/// The command of the last mark of those who came to their end.
pub(super) const END: &str = "the end";

/// What a command is about, such as `image localhost/a:latest`, and what has become of it: something that
/// can be read again, or nothing if it is gone.
pub(super) type Claims = BTreeMap<String, Option<String>>;

/// What is written before and after a command.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Mark {
    /// Rises from mark to mark: nanoseconds.
    pub(super) time: u64,
    pub(super) command: String,
    /// Whether it was reported done; what it is about may be anything until then.
    pub(super) done: bool,
    pub(super) claims: Claims,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = if self.done { "end" } else { "begin" };
        write!(f, "{word} of {}", self.command)
    }
}

/// Where marks are written.
pub(super) struct Marks {
    /// The disk, and how many there are.
    device: Mutex<(File, u64)>,
}

/// What O_DIRECT asks for.
#[repr(align(4096))]
struct Page([u8; SIZE]);

impl Marks {
    pub(super) fn open(disk: &str) -> Self {
        let direct = OFlags::DIRECT.bits() as i32;
        let device = OpenOptions::new()
            .write(true)
            .custom_flags(direct)
            .open(disk);
        let device = device.unwrap_or_else(|error| panic!("{disk}: {error}"));
        Self {
            device: Mutex::new((device, 0)),
        }
    }

    pub(super) fn write(&self, command: &str, done: bool, claims: Claims) {
        let mut device = self.device.lock().unwrap();
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let mark = Mark {
            time: time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64,
            command: command.to_owned(),
            done,
            claims,
        };
        let mut page = Page([0; SIZE]);
        let text = serde_json::to_vec(&mark).unwrap();
        page.0[..text.len()].copy_from_slice(&text);
        let (disk, count) = &mut *device;
        let place = place(disk) + *count % PAGES * SIZE as u64;
        disk.write_all_at(&page.0, place).unwrap();
        *count += 1;
    }
}

/// The first of the pages that are the last ones of a disk.
fn place(mut disk: &File) -> u64 {
    disk.seek(SeekFrom::End(0)).unwrap() - PAGES * SIZE as u64
}

/// The mark of a page, if it is a whole one.
fn parse(page: &[u8]) -> Option<Mark> {
    let end = page.iter().position(|byte| *byte == 0)?;
    serde_json::from_slice(&page[..end]).ok()
}

/// The marks that a log has, and their entries.
pub(super) fn in_log(log: &Log, disk: &str) -> Vec<(usize, Mark)> {
    let place = place(&File::open(disk).unwrap());
    let pages = log.written_from(place).into_iter();
    let marks = pages.filter_map(|(entry, page)| Some((entry, parse(&page)?)));
    marks.collect()
}

/// The last marks, as the disk has them.
pub(super) fn on_disk(disk: &str) -> Vec<Mark> {
    let disk = File::open(disk).unwrap();
    let mut pages = vec![0; PAGES as usize * SIZE];
    disk.read_exact_at(&mut pages, place(&disk)).unwrap();
    let mut marks: Vec<_> = pages.chunks(SIZE).filter_map(parse).collect();
    marks.sort_by_key(|mark| mark.time);
    marks
}

/// What has to be found at some moment.
#[derive(Debug, Default)]
pub(super) struct Expected {
    certain: Claims,
    /// What commands are about that were not reported done.
    open: BTreeSet<String>,
}

impl Expected {
    pub(super) fn after(marks: &[Mark]) -> Self {
        let mut all = Self::default();
        for mark in marks {
            for (about, what) in &mark.claims {
                if mark.done {
                    all.open.remove(about);
                    all.certain.insert(about.clone(), what.clone());
                } else {
                    all.open.insert(about.clone());
                }
            }
        }
        all
    }

    /// What is not as it has to be, a line each.
    pub(super) fn judge(&self, found: &BTreeMap<String, String>) -> Vec<String> {
        let known = self.certain.keys().chain(found.keys());
        let known: BTreeSet<_> = known.filter(|about| !self.open.contains(*about)).collect();
        let wrong = known.into_iter().filter_map(|about| {
            let expected = self.certain.get(about).cloned().flatten();
            let found = found.get(about);
            (expected.as_ref() != found)
                .then(|| format!("{about}: {found:?} in the place of {expected:?}"))
        });
        wrong.collect()
    }
}
