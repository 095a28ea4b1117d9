//! Output that is in systemd's journal.
//!
//! journald works behind: what the monitor has sent may not be in the journal yet when the program has
//! ended. The entry that follows a run's output tells that all of it is there; it is waited for.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use kelp_monitor::attach::Connection;
use kelp_monitor::log::end_mark;
use kelp_state::Record;

use super::export::Entry;
use super::journalctl::{Begin, Journalctl, Next, Of};
use super::line::{self, Joiner, LogSink, Part};
use super::tail::Search;
use super::{Failure, LogRequest};
use crate::{Error, Kind};

/// For how long the end of a run is waited for that the journal may have lost, while nothing comes.
const SETTLE: Duration = Duration::from_secs(10);

/// The same where the monitor was killed, and may not have written it.
const SETTLE_UNTOLD: Duration = Duration::from_secs(1);

/// What a part counts for in the search for the last lines, whose texts are not looked at.
const NOMINAL: usize = 256;

/// Gives a container's output to `sink`.
pub(super) fn read(
    record: &Record,
    request: &LogRequest,
    sink: &mut dyn LogSink,
) -> Result<(), Failure> {
    // Nothing that comes from here on is too early, and the end of the run may be all that does.
    let now = SystemTime::now();
    let mut live = if request.follow {
        Live::new(record)?
    } else {
        None
    };
    if !record.is_alive() && live.is_none() {
        settle(record)?;
    }
    let start = match request.tail {
        None => Start::at(request.since.map(|since| since.min(now))),
        Some(count) => {
            let (start, ended) = Start::find(record, count, live.as_ref())?;
            live = live.filter(|_| !ended);
            start
        }
    };
    let mut reader = Reader {
        record,
        sink,
        joiner: Joiner::default(),
        next: start.begin.clone(),
        start,
        since: request.since.map(micros),
        until: request.until.map(micros),
    };
    match live {
        None => reader.read(),
        Some(live) => reader.follow(&live, request.until),
    }
}

/// Waits until the journal has all of a run that has just ended, or for as long as that may take.
fn settle(record: &Record) -> Result<(), Error> {
    let Some(exit) = record.exit()? else {
        return Ok(());
    };
    let late = exit.finished + SETTLE;
    if let Some(began) = exit.started
        && SystemTime::now() < late
    {
        let run = Of::Run(&record.id, &end_mark(began));
        Journalctl::start(run, &Begin::Oldest, true)?.next(None, Some(late))?;
    }
    Ok(())
}

/// A program that runs.
struct Live {
    /// Tells of the end, which the monitor does after the journal has been sent the last entry.
    monitor: Connection,
    /// What the entry after this run says.
    mark: String,
}

impl Live {
    /// `None` if nothing runs.
    fn new(record: &Record) -> Result<Option<Self>, Error> {
        if !record.is_alive() {
            return Ok(None);
        }
        // It may end just now.
        let Ok(monitor) = Connection::open(&record.runtime) else {
            return Ok(None);
        };
        let began = match record.run()? {
            Some(run) => Some(run.started),
            // It is about to be started again.
            None => record.exit()?.and_then(|exit| exit.started),
        };
        Ok(began.map(|began| Self {
            monitor,
            mark: end_mark(began),
        }))
    }
}

/// Where the reader begins, and what of the first entries it leaves out.
struct Start {
    begin: Begin,
    /// The cursor from which on each stream's entries are wanted; `None` if that is yet to come, and empty
    /// once it was met.
    first: [Option<String>; 2],
    /// The cursor of the last entry that was there before: all that comes later is wanted.
    last: Option<String>,
}

impl Start {
    fn at(since: Option<SystemTime>) -> Self {
        Self {
            begin: since.map_or(Begin::Oldest, Begin::Time),
            first: [const { None }; 2],
            last: None,
        }
    }

    /// Finds where the last `count` lines begin, from the end of the journal on; and whether what runs has
    /// ended by then.
    fn find(record: &Record, count: u64, live: Option<&Live>) -> Result<(Self, bool), Error> {
        let of = Of::Container(&record.id);
        let mut entries = Journalctl::start(of, &Begin::Newest, false)?;
        let mut search = Search::new(None, count);
        let mut ended = false;
        // What was met first, and last of what is wanted.
        let (mut last, mut oldest) = (None, None);
        while let Next::Entry(entry) = entries.next(None, None)? {
            last.get_or_insert_with(|| entry.cursor.clone());
            if let Some(end) = &entry.end {
                ended |= live.is_some_and(|live| live.mark == *end);
                continue;
            }
            let before = search.starts.clone();
            let cursor = Some(entry.cursor.clone());
            let more = search.meet(&cursor, entry.stream(), !entry.goes_on, NOMINAL);
            if search.starts != before {
                oldest = cursor;
            }
            if !more {
                break;
            }
        }
        let (begin, last) = match (oldest, last) {
            (Some(oldest), last) => (Begin::Entry(oldest), last),
            (None, Some(last)) => (Begin::After(last), None),
            (None, None) => (Begin::Oldest, None),
        };
        let first = search.starts;
        Ok((Self { begin, first, last }, ended))
    }

    /// Whether an entry is one of those that are left out.
    fn skips(&mut self, entry: &Entry) -> bool {
        let Some(last) = &self.last else {
            return false;
        };
        let is_last = *last == entry.cursor;
        // Where a stream begins may be an entry of the other.
        for first in &mut self.first {
            if first.as_ref() == Some(&entry.cursor) {
                *first = Some(String::new());
            }
        }
        let first = &self.first[entry.stream() as usize];
        let skips = first.as_deref() != Some("");
        if is_last {
            self.last = None;
        }
        skips
    }
}

struct Reader<'a> {
    record: &'a Record,
    sink: &'a mut dyn LogSink,
    joiner: Joiner,
    /// Where it goes on.
    next: Begin,
    start: Start,
    /// In microseconds since 1970, as the journal has its times.
    since: Option<u64>,
    until: Option<u64>,
}

impl Reader<'_> {
    fn entries(&self, follow: bool) -> Result<Journalctl, Error> {
        Journalctl::start(Of::Container(&self.record.id), &self.next, follow)
    }

    /// Reads what is there.
    fn read(&mut self) -> Result<(), Failure> {
        let mut entries = self.entries(false)?;
        while let Next::Entry(entry) = entries.next(None, None)? {
            if self.take(&entry)? {
                break;
            }
        }
        self.flush()
    }

    /// Reads what is there and what comes, until the run has ended.
    fn follow(&mut self, live: &Live, until: Option<SystemTime>) -> Result<(), Failure> {
        let mut entries = self.entries(true)?;
        // Since the monitor has told of the end, or has gone.
        let mut patience: Option<Duration> = None;
        loop {
            if entries.is_idle() {
                self.flush()?;
            }
            let late = patience.map(|time| SystemTime::now() + time);
            let due = late.into_iter().chain(until).min();
            let monitor = patience.is_none().then_some(&live.monitor);
            match entries.next(monitor, due)? {
                Next::Entry(entry) => {
                    if entry.end.as_ref() == Some(&live.mark) || self.take(&entry)? {
                        return self.flush();
                    }
                }
                Next::Other => {
                    let told = live.monitor.exited().ok().flatten();
                    patience = Some(told.map_or(SETTLE_UNTOLD, |_| SETTLE));
                }
                // journalctl may not have come so far yet.
                Next::Late if due == until => return self.read(),
                Next::Late if patience == Some(SETTLE) => {
                    self.flush()?;
                    return Err(Failure::Other(Error::new(
                        Kind::Failed,
                        "the end of the output has not come to the journal, its last lines may be missing: \
                         see journalctl --unit=systemd-journald",
                    )));
                }
                Next::Late | Next::End => return self.flush(),
            }
        }
    }

    /// Takes an entry; whether what comes after it is too late.
    fn take(&mut self, entry: &Entry) -> Result<bool, Failure> {
        if self.until.is_some_and(|until| entry.time > until) {
            return Ok(true);
        }
        self.next = Begin::After(entry.cursor.clone());
        let skips = self.start.skips(entry) || self.since.is_some_and(|since| entry.time < since);
        let Some(text) = entry
            .text
            .as_ref()
            .filter(|_| !skips && entry.end.is_none())
        else {
            return Ok(false);
        };
        let time = UNIX_EPOCH + Duration::from_micros(entry.time);
        let part = Part {
            time: &line::stamp(time),
            stream: entry.stream(),
            ends: !entry.goes_on,
            text,
        };
        let taken = self.joiner.add(&part, self.sink);
        taken.map_err(Failure::Sink)?;
        Ok(false)
    }

    fn flush(&mut self) -> Result<(), Failure> {
        self.joiner.flush(self.sink).map_err(Failure::Sink)
    }
}

fn micros(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What of entries is shown, `o` or `e` for their stream each, for a search that has found these starts.
    fn shown(entries: &[(&str, char)], start: &mut Start) -> String {
        let each = entries.iter().map(|&(cursor, stream)| {
            let entry = Entry::example(cursor, stream == 'e');
            (!start.skips(&entry)).then_some(cursor)
        });
        each.flatten().collect()
    }

    #[test]
    fn streams_begin_where_the_search_has_found_them() {
        let entries = [("1", 'o'), ("2", 'e'), ("3", 'o'), ("4", 'e'), ("5", 'o')];
        let cursor = |text: &str| Some(text.to_owned());
        for (first, last, expected) in [
            ([None, None], None, "12345"),
            // Both at an entry of one of them.
            ([cursor("2"), cursor("2")], cursor("4"), "2345"),
            ([cursor("1"), cursor("4")], cursor("4"), "1345"),
            // Nothing of the second up to the last that was there.
            ([cursor("3"), None], cursor("3"), "345"),
            ([cursor("3"), None], cursor("4"), "35"),
        ] {
            let mut start = Start {
                begin: Begin::Oldest,
                first,
                last,
            };
            assert_eq!(shown(&entries, &mut start), expected);
        }
    }
}
