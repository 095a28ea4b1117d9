//! Reads files of /proc that may never answer.
//!
//! A command line is in the process's own memory, and there may be a file of a file system whose other end does not
//! answer (fuse(4)): a program can do that to whoever looks at it. So another thread reads, and is left behind.

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

/// For how long one file is waited for. What answers does so in microseconds.
const PATIENCE: Duration = Duration::from_millis(300);

/// For how long in all.
const WHOLE_PATIENCE: Duration = Duration::from_secs(1);

/// Reads one file after the other.
#[derive(Debug)]
pub(super) struct Reader {
    limit: u64,
    worker: Option<Worker>,
    left: Duration,
}

#[derive(Debug)]
struct Worker {
    asks: Sender<PathBuf>,
    hears: Receiver<Vec<u8>>,
}

impl Reader {
    /// One that reads so many bytes of a file at most.
    pub(super) fn new(limit: u64) -> Self {
        Self {
            limit,
            worker: None,
            left: WHOLE_PATIENCE,
        }
    }

    /// What a file has; nothing if it can't be read, or does not answer.
    pub(super) fn read(&mut self, path: PathBuf) -> Vec<u8> {
        if self.left.is_zero() {
            return Vec::new();
        }
        let Some(worker) = self.worker.take().or_else(|| Worker::start(self.limit)) else {
            return Vec::new();
        };
        let begun = Instant::now();
        let asked = worker.asks.send(path);
        let patience = PATIENCE.min(self.left);
        if let Ok(Ok(content)) = asked.map(|()| worker.hears.recv_timeout(patience)) {
            self.worker = Some(worker);
            content
        } else {
            // It is left to itself, and ends with this process.
            self.left = self.left.saturating_sub(begun.elapsed());
            Vec::new()
        }
    }
}

impl Worker {
    fn start(limit: u64) -> Option<Self> {
        let (asks, asked) = channel::<PathBuf>();
        let (answers, hears) = channel();
        let work = move || {
            for path in asked {
                let mut content = Vec::new();
                if let Ok(file) = File::open(path) {
                    let _ = file.take(limit).read_to_end(&mut content);
                }
                if answers.send(content).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().spawn(work).ok()?;
        Some(Self { asks, hears })
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::fs::{CWD, FileType, Mode, mknodat};

    use super::*;

    #[test]
    fn what_does_not_answer_is_left_behind() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "content").unwrap();
        // Nobody writes to it.
        let silent = directory.path().join("silent");
        let fifo = Mode::RUSR | Mode::WUSR;
        mknodat(CWD, &silent, FileType::Fifo, fifo, 0).unwrap();
        let mut reader = Reader::new(4);
        assert_eq!(reader.read(file.clone()), b"cont");
        assert_eq!(reader.read(directory.path().join("none")), b"");
        assert_eq!(reader.read(silent.clone()), b"");
        assert_eq!(reader.read(file.clone()), b"cont");
        // Of many, not each is waited for.
        let begun = Instant::now();
        for _ in 0..100 {
            reader.read(silent.clone());
        }
        assert!(begun.elapsed() < 30 * PATIENCE);
    }
}
