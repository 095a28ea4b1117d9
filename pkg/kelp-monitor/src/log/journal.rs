//! The log in systemd's journal: an entry a line, with the fields that podman and docker give theirs.
//!
//! A line is joined until it is whole, or as long as [`PART`]; then the part becomes an entry of its own
//! that says CONTAINER_PARTIAL_MESSAGE, and the line goes on in the next one. A run of the program is
//! followed by an entry that is none of its output: whoever has read that one has read all.
//!
//! What the journal does not take at once is queued, and the caller gives no more until it is taken: no
//! line is dropped because the journal is slow. It may be so for ever while the program runs. Where there
//! is no journal any more, and once the program has ended, that lasts for [`PATIENCE`].

mod queue;
mod wire;

use std::io::{self, BufRead};
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kelp_state::ContainerId;

use super::Stream;
use crate::launch::LogConfig;
use queue::Queue;
use wire::{Entry, Kind, Obstacle, Wire, field};

/// Where journald listens (systemd's "Native Journal Protocol").
pub const SOCKET: &str = "/run/systemd/journal/socket";

/// The PRIORITY of what was written to standard error, by syslog(3); that of other output is 6.
pub const STDERR: &str = "3";

/// The field of the last entry that names the container, in place of those that its output has.
pub const OF: &str = "KELP_OUTPUT_OF";

/// The field of the last entry that says which run it ends: [`end_mark`].
pub const END: &str = "KELP_OUTPUT_END";

/// The longest line, in bytes, that is one entry.
const PART: usize = 64 * 1024;

/// Entries that are sent by one call.
const BATCH: usize = 64;

/// For how long a journal that is gone is waited for, and after the program's end one that takes nothing.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often a journal that is gone is looked for.
const RETRY: Duration = Duration::from_millis(100);

/// Whether there is a journal at this socket: an error if not.
pub fn is_there(socket: &Path) -> io::Result<()> {
    wire::connect(socket).map(drop).map_err(Into::into)
}

/// What the entry after a run's output has in the field [`END`]: when the run began, in nanoseconds since
/// 1970.
pub fn end_mark(began: SystemTime) -> String {
    let since = began.duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_nanos().to_string()
}

/// Whose output it is.
#[derive(Clone, Copy, Debug)]
pub struct Origin<'a> {
    /// The container's id.
    pub id: &'a ContainerId,
    /// Its name.
    pub name: &'a str,
    /// Its image's name; empty without one.
    pub image: &'a str,
    /// What else is to be said of it.
    pub log: &'a LogConfig,
}

/// Writes a container's output to the journal.
#[derive(Debug)]
pub struct Journal {
    wire: Wire,
    /// The beginning of each stream's line that is not whole yet.
    open: [Vec<u8>; 2],
    queue: Queue,
    /// What the queue waits for.
    hindrance: Option<Hindrance>,
    /// Whether the last entry of each stream that was taken is a part whose line goes on.
    goes_on: [bool; 2],
    /// Whether patience with a journal that takes nothing is over.
    lost: bool,
    /// Whether the program has ended.
    ended: bool,
}

#[derive(Debug)]
struct Hindrance {
    /// When something was taken last, or since when nothing is.
    since: Instant,
    /// When a journal that is gone is looked for again.
    again: Option<Instant>,
}

impl Journal {
    /// Connects to the journal at this socket.
    ///
    /// # Errors
    /// If nobody listens there.
    pub fn open(socket: &Path, of: &Origin<'_>) -> io::Result<Self> {
        let heads = [head(of, "6"), head(of, STDERR), end_head(of)];
        Ok(Self {
            wire: Wire::new(socket, heads)?,
            open: [const { Vec::new() }; 2],
            queue: Queue::default(),
            hindrance: None,
            goes_on: [false; 2],
            lost: false,
            ended: false,
        })
    }

    /// Adds output as it came.
    pub fn keep(&mut self, stream: Stream, bytes: &[u8]) {
        self.ended = false;
        let mut open = std::mem::take(&mut self.open[stream as usize]);
        let mut rest = bytes;
        loop {
            let (entries, used) = split(stream, &open, rest);
            rest = &rest[used..];
            let is_last = entries.len() < BATCH;
            if !entries.is_empty() {
                self.send(&entries);
                open.clear();
            }
            if is_last {
                break;
            }
        }
        open.extend_from_slice(rest);
        self.open[stream as usize] = open;
        self.go_on();
    }

    /// Ends a run that began at this time.
    pub fn finish(&mut self, began: SystemTime) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let open = std::mem::take(&mut self.open[stream as usize]);
            if !open.is_empty() {
                self.queue.push(&Entry {
                    kind: stream.into(),
                    parts: [&open, b""],
                    goes_on: false,
                });
            }
        }
        self.queue.push(&Entry {
            kind: Kind::End,
            parts: [end_mark(began).as_bytes(), b""],
            goes_on: false,
        });
        self.ended = true;
        if let Some(hindrance) = &mut self.hindrance {
            hindrance.since = Instant::now();
        }
        self.go_on();
    }

    /// Whether something is queued.
    pub fn is_waiting(&self) -> bool {
        self.hindrance.is_some()
    }

    /// The socket that is full.
    pub fn awaited(&self) -> Option<BorrowedFd<'_>> {
        let hindrance = self.hindrance.as_ref()?;
        hindrance.again.is_none().then(|| self.wire.socket())?
    }

    /// When a journal that is gone is looked for again, or patience ends.
    pub fn due(&self) -> Option<Instant> {
        let hindrance = self.hindrance.as_ref()?;
        let end = hindrance.since + PATIENCE;
        match hindrance.again {
            Some(again) => Some(again.min(end)),
            None => self.ended.then_some(end),
        }
    }

    /// Sends what is queued, as far as the journal takes it.
    pub fn go_on(&mut self) {
        while !self.queue.is_empty() {
            let entries = self.queue.first(BATCH);
            let (sent, obstacle) = self.wire.send(&entries);
            note_sent(&mut self.goes_on, &entries[..sent]);
            self.queue.remove_first(sent);
            self.note(sent, obstacle);
            if obstacle.is_some() {
                return;
            }
        }
    }

    /// Gives the memory of the last burst back.
    pub fn rest(&mut self) {
        for open in &mut self.open {
            open.shrink_to_fit();
        }
        self.queue.shrink();
    }

    /// Sends entries, or queues them behind those that wait already.
    fn send(&mut self, entries: &[Entry<'_>]) {
        let mut sent = 0;
        if self.queue.is_empty() {
            let obstacle;
            (sent, obstacle) = self.wire.send(entries);
            note_sent(&mut self.goes_on, &entries[..sent]);
            self.note(sent, obstacle);
            if self.lost {
                return;
            }
        }
        for entry in &entries[sent..] {
            self.queue.push(entry);
        }
    }

    fn note(&mut self, sent: usize, obstacle: Option<Obstacle>) {
        self.lost &= sent == 0;
        let Some(obstacle) = obstacle else {
            self.hindrance = None;
            return;
        };
        let now = Instant::now();
        let before = self.hindrance.take().filter(|_| sent == 0);
        let since = before.map_or(now, |hindrance| hindrance.since);
        let patient = obstacle == Obstacle::Full && !self.ended;
        if self.lost || !patient && now >= since + PATIENCE {
            self.lose();
            return;
        }
        self.hindrance = Some(Hindrance {
            since,
            again: (obstacle == Obstacle::Gone).then(|| now + RETRY),
        });
    }

    /// Gives up what waits. What comes after the gap does not go on with what came before it.
    fn lose(&mut self) {
        self.lost = true;
        self.queue.clear();
        for stream in [Stream::Stdout, Stream::Stderr] {
            if self.goes_on[stream as usize] {
                self.queue.push(&Entry {
                    kind: stream.into(),
                    parts: [b""; 2],
                    goes_on: false,
                });
            }
        }
    }
}

fn note_sent(goes_on: &mut [bool; 2], sent: &[Entry<'_>]) {
    for entry in sent {
        if let Some(goes_on) = goes_on.get_mut(entry.kind as usize) {
            *goes_on = entry.goes_on;
        }
    }
}

/// The first entries that what was written makes together with what is there of a line, at most a batch,
/// and how many bytes they are of. Fewer leave the beginning of a line.
fn split<'a>(stream: Stream, open: &'a [u8], bytes: &'a [u8]) -> (Vec<Entry<'a>>, usize) {
    let mut entries = Vec::new();
    let mut begun = open;
    let mut used = 0;
    while used < bytes.len() && entries.len() < BATCH {
        let rest = &bytes[used..];
        // With the end of a line that is as long as may be.
        let window = &rest[..rest.len().min(PART - begun.len() + 1)];
        // The one search of std's that looks at more than a byte at a time.
        let mut after = window;
        let length = after.skip_until(b'\n').unwrap_or(window.len());
        let ended = window[length - 1] == b'\n';
        if !ended && begun.len() + length <= PART {
            break;
        }
        entries.push(Entry {
            kind: stream.into(),
            parts: [begun, &window[..length - 1]],
            goes_on: !ended,
        });
        used += length - usize::from(!ended);
        begun = b"";
    }
    (entries, used)
}

/// The fields of a stream's entries up to the text.
fn head(of: &Origin<'_>, priority: &str) -> Vec<u8> {
    let log = of.log;
    let mut head = Vec::new();
    field(&mut head, "PRIORITY", priority);
    field(&mut head, "CONTAINER_ID", of.id.short());
    field(&mut head, "CONTAINER_ID_FULL", of.id.as_str());
    field(&mut head, "CONTAINER_NAME", of.name);
    if let Some(tag) = &log.tag {
        field(&mut head, "CONTAINER_TAG", tag);
    }
    if !of.image.is_empty() {
        field(&mut head, "IMAGE_NAME", of.image);
    }
    let identifier = log.tag.as_deref().unwrap_or(of.name);
    field(&mut head, "SYSLOG_IDENTIFIER", identifier);
    for (key, value) in &log.labels {
        field(&mut head, key, value);
    }
    head.extend_from_slice(b"MESSAGE\n");
    head
}

/// The fields of the entry after a run up to which run that is. Of the lowest priority: journald limits
/// how much it takes of a unit for each by itself.
fn end_head(of: &Origin<'_>) -> Vec<u8> {
    let mut head = Vec::new();
    field(&mut head, "PRIORITY", "7");
    field(&mut head, "SYSLOG_IDENTIFIER", "kelp");
    let name = of.name;
    let message = format!("the output of container {name} ends here");
    field(&mut head, "MESSAGE", &message);
    field(&mut head, OF, of.id.as_str());
    head.extend_from_slice(END.as_bytes());
    head.push(b'\n');
    head
}

#[cfg(test)]
mod tests;
