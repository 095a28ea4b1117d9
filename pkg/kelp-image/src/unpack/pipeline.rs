//! Decompression and hashing, each on a thread of its own.
//!
//! Making files keeps one processor busy in the kernel; meanwhile the threads here inflate and hash what comes
//! next. A single large layer takes as long as it is inflated, so hashing is not part of that. Buffers go round
//! between the three, so that nothing is copied: the tar reader lends slices of them, and those are what is
//! written to files.

use std::io::{self, BufRead, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use crate::decompress::Decompressor;
use crate::digest::{Algorithm, Digest, Hasher};

/// A multiple of tar's block, so that headers rarely straddle two buffers; small enough to be in the
/// processor's second cache when it is hashed.
const BUFFER: usize = 256 << 10;

/// How many buffers may wait to be hashed.
const INFLATED: usize = 4;

/// How many may wait to be read: they even out archives in which large and small files alternate.
const HASHED: usize = 12;

/// What a whole stream was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamSummary {
    /// SHA-256 of the uncompressed stream, to its very end.
    pub(crate) digest: Digest,
    /// Length in bytes of the uncompressed stream.
    pub(crate) size: u64,
}

/// The reading end of the pipeline.
pub(crate) struct Pipeline {
    filled: Receiver<io::Result<Vec<u8>>>,
    empty: SyncSender<Vec<u8>>,
    current: Vec<u8>,
    position: usize,
    inflating: JoinHandle<()>,
    hashing: JoinHandle<StreamSummary>,
}

impl Pipeline {
    /// Starts to decompress and hash `source`.
    ///
    /// A pipeline that is dropped early leaves its threads to end by themselves: one may be waiting in a
    /// read that nothing can interrupt.
    pub(crate) fn start<R: Read + Send + 'static>(source: R) -> io::Result<Self> {
        let (inflated_sender, inflated) = sync_channel(INFLATED);
        let (filled_sender, filled) = sync_channel(HASHED);
        let (empty, empty_receiver) = sync_channel(INFLATED + HASHED + 3);
        let start = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let hashing = start("digest").spawn(move || hash(&inflated, &filled_sender))?;
        // Without it the other one ends, since nobody sends it anything.
        let inflating = start("decompress")
            .spawn(move || inflate(source, &inflated_sender, &empty_receiver))?;
        Ok(Self {
            filled,
            empty,
            current: Vec::new(),
            position: 0,
            inflating,
            hashing,
        })
    }

    /// Reads and drops what is left, and says what the stream was.
    pub(crate) fn finish(mut self) -> io::Result<StreamSummary> {
        while !self.fill_buf()?.is_empty() {
            self.position = self.current.len();
        }
        // Both are at their end, and what they hold, such as a descriptor of the blob, is given back.
        let ended = self.inflating.join().and_then(|()| self.hashing.join());
        ended.map_err(|_| io::Error::other("a thread of the decompression failed"))
    }
}

impl BufRead for Pipeline {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.position == self.current.len() {
            // An error ends the thread, and so the channel; it is reported once.
            let next = match self.filled.recv() {
                Ok(next) => next?,
                Err(_) => Vec::new(),
            };
            let used = std::mem::replace(&mut self.current, next);
            self.position = 0;
            if !used.is_empty() {
                let _ = self.empty.try_send(used);
            }
        }
        Ok(&self.current[self.position..])
    }

    fn consume(&mut self, count: usize) {
        self.position += count;
    }
}

impl Read for Pipeline {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.fill_buf()?;
        let count = bytes.len().min(buffer.len());
        buffer[..count].copy_from_slice(&bytes[..count]);
        self.consume(count);
        Ok(count)
    }
}

/// Inflates to the end of the source, to an error, or until nobody wants more.
fn inflate<R: Read>(
    source: R,
    inflated: &SyncSender<io::Result<Vec<u8>>>,
    empty: &Receiver<Vec<u8>>,
) {
    let send_all = || -> io::Result<()> {
        let mut source = Decompressor::new(source)?;
        loop {
            let mut buffer = empty.try_recv().unwrap_or_default();
            buffer.resize(BUFFER, 0);
            let count = source.fill(&mut buffer)?;
            buffer.truncate(count);
            if count > 0 && inflated.send(Ok(buffer)).is_err() {
                return Ok(());
            }
            if count < BUFFER {
                return Ok(());
            }
        }
    };
    if let Err(error) = send_all() {
        let _ = inflated.send(Err(error));
    }
}

/// Hashes what is passed on, to the end or until the reader has given up.
fn hash(
    inflated: &Receiver<io::Result<Vec<u8>>>,
    filled: &SyncSender<io::Result<Vec<u8>>>,
) -> StreamSummary {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    let mut size = 0;
    for next in inflated {
        if let Ok(buffer) = &next {
            hasher.update(buffer);
            size += buffer.len() as u64;
        }
        if filled.send(next).is_err() {
            break;
        }
    }
    StreamSummary {
        digest: hasher.finish(),
        size,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_whole_stream_is_hashed() {
        for size in [0, 1, BUFFER - 1, BUFFER, BUFFER * 40 + 7] {
            let bytes: Vec<u8> = (0..size).map(|index| index as u8).collect();
            let mut pipeline = Pipeline::start(io::Cursor::new(bytes.clone())).unwrap();
            let mut start = [0; 1000];
            let count = pipeline.read(&mut start).unwrap();
            assert_eq!(start[..count], bytes[..count]);
            let summary = pipeline.finish().unwrap();
            assert_eq!(summary.size, size as u64);
            assert_eq!(summary.digest, Digest::of(&bytes));
        }
    }

    #[test]
    fn a_damaged_stream_is_an_error() {
        let pipeline = Pipeline::start(io::Cursor::new(b"\x1f\x8b\x08\0garbage")).unwrap();
        assert!(pipeline.finish().is_err());
    }

    #[test]
    fn giving_up_early_does_not_hang() {
        drop(Pipeline::start(io::repeat(0)).unwrap());
    }
}
