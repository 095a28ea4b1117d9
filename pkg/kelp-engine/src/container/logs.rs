//! `logs`: what a container wrote, as far as its log goes back, and with `follow` what it writes.

mod export;
mod files;
mod journal;
mod journalctl;
mod line;
mod tail;

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::SystemTime;

use kelp_monitor::Launch;
use kelp_monitor::attach::Connection;
use kelp_monitor::launch::{LogConfig, LogDriver};
use kelp_state::{ContainerId, Record, file};
use rustix::fs::inotify::WatchFlags;

use crate::watch::{Watch, Woken};
use crate::{Engine, Error, Kind};
use files::{LogFile, Read};
use line::{Joiner, Part};
pub use line::{Line, LogSink, Stream};
use tail::Position;

/// Which lines.
#[derive(Clone, Debug, Default)]
pub struct LogRequest {
    /// Go on until the container has ended.
    pub follow: bool,
    /// Only this many of the last lines.
    pub tail: Option<u64>,
    /// Only what was written then or later.
    pub since: Option<SystemTime>,
    /// Only what was written until then.
    pub until: Option<SystemTime>,
}

impl Engine {
    /// Gives a container's output to `sink`, the oldest line first. A sink whose reader went away
    /// (`EPIPE`) ends it without an error.
    pub fn read_logs(
        &self,
        id: &ContainerId,
        request: &LogRequest,
        sink: &mut dyn LogSink,
    ) -> Result<(), Error> {
        let record = Record::new(&self.paths, id.clone());
        let launch: Launch = file::read_json(&record.data.join("launch.json"))?
            .ok_or_else(|| Error::new(Kind::NotFound, format!("no such container: {id}")))?;
        if let LogDriver::Journald = launch.log.driver {
            return done(journal::read(&record, request, sink));
        }
        readable(&launch.log)?;
        // Before the files are opened: nothing that is written from here on goes unnoticed.
        let live = if request.follow {
            Live::new(&record, &launch.log.path)?
        } else {
            None
        };
        let whole = !request.follow && record.is_alive();
        let files = files::open_all(&launch.log)?;
        let starts = match request.tail {
            Some(count) => tail::find(&files, count).map_err(Error::io("read the log"))?,
            None => [(0, 0); 2],
        };
        let mut reader = Reader {
            sink,
            joiner: Joiner::default(),
            starts,
            whole,
            since: request.since.map(line::stamp),
            until: request.until.map(line::stamp),
        };
        done(reader.read(&launch.log, files, live.as_ref(), request.until))
    }
}

/// A reader that has gone wants no more, and that is no error.
fn done(read: Result<(), Failure>) -> Result<(), Error> {
    match read {
        Err(Failure::Sink(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(Failure::Sink(error)) => Err(Error::io("write the log")(error)),
        Err(Failure::Other(error)) => Err(error),
        Ok(()) => Ok(()),
    }
}

fn readable(log: &LogConfig) -> Result<(), Error> {
    let driver = match log.driver {
        LogDriver::K8sFile | LogDriver::Journald => return Ok(()),
        LogDriver::None => "none",
        LogDriver::Passthrough => "passthrough",
        LogDriver::PassthroughTty => "passthrough-tty",
    };
    Err(Error::invalid(format!(
        "this container is using the '{driver}' log driver, cannot read logs: this container is \
         not logging output"
    )))
}

/// What tells of more to come.
struct Live {
    watch: Watch,
    /// Tells of the end, which the monitor does after the last byte is in the log.
    monitor: Connection,
}

impl Live {
    /// `None` if nothing runs.
    fn new(record: &Record, log: &Path) -> Result<Option<Self>, Error> {
        if !record.is_alive() {
            return Ok(None);
        }
        // It may end just now.
        let Ok(monitor) = Connection::open(&record.runtime) else {
            return Ok(None);
        };
        // The directory's watch tells of writes to the file and of its successors.
        let events = WatchFlags::MODIFY | WatchFlags::CREATE | WatchFlags::MOVED_TO;
        let directory = log.parent().unwrap_or(Path::new("/"));
        let watch = Watch::on(directory, events)?;
        Ok(Some(Self { watch, monitor }))
    }

    /// Waits for more; whether that was the last time.
    fn wait(&self, until: Option<SystemTime>) -> Result<bool, Error> {
        let woken = self.watch.wait_with(Some(self.monitor.as_fd()), until)?;
        Ok(woken != Woken::Change)
    }
}

/// Files that are opened ahead.
const OPEN_LIMIT: usize = 64;

enum Failure {
    Sink(io::Error),
    Other(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

struct Reader<'a> {
    sink: &'a mut dyn LogSink,
    joiner: Joiner,
    starts: [Position; 2],
    /// Whether a last line without end is one that is being written.
    whole: bool,
    since: Option<String>,
    until: Option<String>,
}

impl Reader<'_> {
    fn read(
        &mut self,
        log: &LogConfig,
        files: Vec<LogFile>,
        live: Option<&Live>,
        until: Option<SystemTime>,
    ) -> Result<(), Failure> {
        let first = self.starts[0].min(self.starts[1]);
        let following = live.is_some().then_some(log);
        let mut queue = VecDeque::from(files);
        let mut index = 0;
        let mut ended = live.is_none();
        loop {
            let Some(mut file) = queue.pop_front() else {
                let Some(live) = live.filter(|_| !ended) else {
                    return self.finish(None);
                };
                ended = live.wait(until)?;
                queue.extend(LogFile::open(&log.path)?);
                continue;
            };
            index += 1;
            if index <= first.0 {
                continue;
            }
            if index == first.0 + 1 {
                file.seek(first.1).map_err(Error::io("read the log"))?;
            }
            loop {
                if self.drain(index - 1, &mut file, following, &mut queue)? {
                    return self.finish(None);
                }
                if !queue.is_empty() {
                    break;
                }
                let Some(live) = live.filter(|_| !ended) else {
                    return self.finish(Some(&file));
                };
                self.joiner.flush(self.sink).map_err(Failure::Sink)?;
                ended = live.wait(until)?;
            }
        }
    }

    /// Reads a file as far as it goes; whether everything later is too late.
    ///
    /// In this order: what is found to have a successor is not written any more, and is read to its
    /// end after that. Successors are opened between the pieces of a file: what is open can't fall
    /// off the end of the rotation while the reader is slow.
    fn drain(
        &mut self,
        index: usize,
        file: &mut LogFile,
        following: Option<&LogConfig>,
        queue: &mut VecDeque<LogFile>,
    ) -> Result<bool, Failure> {
        loop {
            while let Some(log) = following.filter(|_| queue.len() < OPEN_LIMIT) {
                match files::next(log, queue.back().unwrap_or(file))? {
                    Some(next) => queue.push_back(next),
                    None => break,
                }
            }
            let mut failed = None;
            let read = file
                .piece(|offset, line| {
                    let Some(part) = Part::parse(line) else {
                        return Ok(false);
                    };
                    match self.take((index, offset), &part) {
                        Ok(enough) => Ok(enough),
                        Err(error) => {
                            failed = Some(error);
                            Ok(true)
                        }
                    }
                })
                .map_err(Error::io("read the log"))?;
            match (failed, read) {
                (Some(error), _) => return Err(Failure::Sink(error)),
                (None, Read::Enough) => return Ok(true),
                (None, Read::End) => return Ok(false),
                (None, Read::More) => {}
            }
        }
    }

    fn take(&mut self, at: Position, part: &Part<'_>) -> io::Result<bool> {
        if self.until.as_deref().is_some_and(|until| part.time > until) {
            return Ok(true);
        }
        let too_early = self.since.as_deref().is_some_and(|since| part.time < since);
        if !too_early && at >= self.starts[part.stream as usize] {
            self.joiner.add(part, self.sink)?;
        }
        Ok(false)
    }

    fn finish(&mut self, last: Option<&LogFile>) -> Result<(), Failure> {
        let rest = last
            .filter(|_| !self.whole)
            .and_then(|file| Part::parse(file.rest()));
        if let Some(part) = rest {
            self.joiner.add(&part, self.sink).map_err(Failure::Sink)?;
        }
        self.joiner.flush(self.sink).map_err(Failure::Sink)
    }
}

#[cfg(test)]
mod tests;
