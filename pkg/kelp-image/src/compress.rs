//! Compression of layers that are made here.
//!
//! gzip is written by several threads as one member: each compresses pieces of the input on its own,
//! and what comes out is one deflate stream after another, each ended at a byte's boundary by an empty
//! block (RFC 1951, 3.2.4), which is what zlib's `Z_SYNC_FLUSH` does. zstd has threads of its own. The
//! same input always gives the same bytes, however many threads there are, so that a layer that is
//! made again has the digest it had.

use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use flate2::{Compress, Crc, FlushCompress, Status};

/// How many bytes of input a thread compresses at a time.
const PIECE: usize = 1 << 20;

/// The level of gzip where none is asked for.
const GZIP_LEVEL: u32 = 6;

/// The level of zstd where none is asked for: that of the reference implementation.
const ZSTD_LEVEL: i32 = 3;

/// How a layer is to be compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Not at all.
    Plain,
    /// gzip.
    Gzip,
    /// zstd.
    Zstd,
}

impl Format {
    /// The media type of such a layer (OCI image specification, layer.md).
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Plain => "application/vnd.oci.image.layer.v1.tar",
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "gzip" => Ok(Self::Gzip),
            "zstd" => Ok(Self::Zstd),
            _ => Err(format!(
                "unknown compression {text:?}: it is gzip or zstd here"
            )),
        }
    }
}

/// Compresses what is written to it.
pub struct Encoder<W: Write>(Kind<W>);

enum Kind<W: Write> {
    Plain(W),
    Gzip(GzipWriter<W>),
    Zstd(zstd::stream::write::Encoder<'static, W>),
}

impl<W: Write> Encoder<W> {
    /// Begins to compress into `sink`, at a level of the format's own or the usual one.
    pub fn new(sink: W, format: Format, level: Option<i32>) -> io::Result<Self> {
        Ok(Self(match format {
            Format::Plain => Kind::Plain(sink),
            Format::Gzip => {
                let level = level.map_or(GZIP_LEVEL, |level| level.clamp(1, 9) as u32);
                Kind::Gzip(GzipWriter::new(sink, level)?)
            }
            Format::Zstd => {
                let level = level.unwrap_or(ZSTD_LEVEL);
                let mut encoder = zstd::stream::write::Encoder::new(sink, level)?;
                encoder.multithread(threads() as u32)?;
                Kind::Zstd(encoder)
            }
        }))
    }

    /// Writes what is left, and gives the sink back.
    pub fn finish(self) -> io::Result<W> {
        match self.0 {
            Kind::Plain(sink) => Ok(sink),
            Kind::Gzip(writer) => writer.finish(),
            Kind::Zstd(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Encoder<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Kind::Plain(sink) => sink.write(bytes),
            Kind::Gzip(writer) => writer.write(bytes),
            Kind::Zstd(encoder) => encoder.write(bytes),
        }
    }

    /// Does nothing: a flush in the middle would change what comes out.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn threads() -> usize {
    thread::available_parallelism().map_or(1, |count| count.get().min(8))
}

/// Writes one gzip member by several threads.
struct GzipWriter<W> {
    sink: W,
    workers: Vec<Worker>,
    piece: Vec<u8>,
    /// Pieces that were given to workers, and results that were taken from them: piece `n` is that of
    /// worker `n` modulo their number, so that results come in order.
    given: usize,
    taken: usize,
    crc: Crc,
}

struct Worker {
    input: Option<SyncSender<Vec<u8>>>,
    output: Receiver<io::Result<Vec<u8>>>,
    thread: Option<JoinHandle<()>>,
}

impl<W: Write> GzipWriter<W> {
    fn new(mut sink: W, level: u32) -> io::Result<Self> {
        // No name, no time, made on no system in particular (RFC 1952, 2.3).
        sink.write_all(&[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255])?;
        let workers = (0..threads()).map(|_| Worker::start(level));
        Ok(Self {
            sink,
            workers: workers.collect::<io::Result<_>>()?,
            piece: Vec::with_capacity(PIECE),
            given: 0,
            taken: 0,
            crc: Crc::new(),
        })
    }

    fn give(&mut self) -> io::Result<()> {
        // Each worker may have one piece at work and one that waits.
        if self.given - self.taken == 2 * self.workers.len() {
            self.take()?;
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        let worker = &self.workers[self.given % self.workers.len()];
        let sent = worker.input.as_ref().map(|input| input.send(piece));
        if !matches!(sent, Some(Ok(()))) {
            return Err(io::Error::other("a thread that compresses has ended"));
        }
        self.given += 1;
        Ok(())
    }

    fn take(&mut self) -> io::Result<()> {
        let worker = &self.workers[self.taken % self.workers.len()];
        let compressed = worker.output.recv();
        let compressed =
            compressed.map_err(|_| io::Error::other("a thread that compresses has ended"))??;
        self.taken += 1;
        self.sink.write_all(&compressed)
    }

    fn finish(mut self) -> io::Result<W> {
        if !self.piece.is_empty() {
            self.give()?;
        }
        while self.taken < self.given {
            self.take()?;
        }
        // An empty last block, and the trailer.
        self.sink.write_all(&[3, 0])?;
        self.sink.write_all(&self.crc.sum().to_le_bytes())?;
        self.sink.write_all(&self.crc.amount().to_le_bytes())?;
        Ok(self.sink)
    }
}

impl<W: Write> Write for GzipWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(&bytes[..count]);
        self.crc.update(&bytes[..count]);
        if self.piece.len() == PIECE {
            self.give()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Worker {
    fn start(level: u32) -> io::Result<Self> {
        let (input, pieces) = sync_channel::<Vec<u8>>(1);
        let (results, output) = sync_channel(1);
        let thread = thread::Builder::new()
            .name("gzip".to_owned())
            .spawn(move || {
                let mut compress = Compress::new(flate2::Compression::new(level), false);
                for piece in pieces {
                    if results.send(deflate(&mut compress, &piece)).is_err() {
                        break;
                    }
                }
            })?;
        Ok(Self {
            input: Some(input),
            output,
            thread: Some(thread),
        })
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        // Its input ends, and whoever waits for room in its output is told that nobody reads it.
        self.input = None;
        let (_, nobody) = sync_channel(0);
        self.output = nobody;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Compresses a piece to blocks that end at a byte's boundary, and know nothing of other pieces.
fn deflate(compress: &mut Compress, piece: &[u8]) -> io::Result<Vec<u8>> {
    compress.reset();
    let mut out = Vec::with_capacity(piece.len() / 2 + 4096);
    loop {
        let consumed = compress.total_in() as usize;
        let status = compress
            .compress_vec(&piece[consumed..], &mut out, FlushCompress::Sync)
            .map_err(io::Error::other)?;
        // Room that is left over means that everything has come out.
        if out.len() < out.capacity() && compress.total_in() as usize == piece.len() {
            return Ok(out);
        }
        if status == Status::StreamEnd {
            return Err(io::Error::other("deflate has ended early"));
        }
        out.reserve(out.capacity().max(4096));
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;
    use crate::decompress::Decompressor;

    fn pieces() -> Vec<Vec<u8>> {
        let mut state = 1_u32;
        let noise: Vec<u8> = (0..3 * PIECE + 17)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (state >> 24) as u8
            })
            .collect();
        vec![
            Vec::new(),
            b"x".to_vec(),
            vec![0; PIECE],
            vec![7; 5 * PIECE + 1],
            noise,
        ]
    }

    #[test]
    fn what_is_compressed_can_be_read_again_and_is_always_the_same() {
        for format in [Format::Plain, Format::Gzip, Format::Zstd] {
            for input in pieces() {
                let compress = |step: usize| {
                    let mut encoder = Encoder::new(Vec::new(), format, None).unwrap();
                    for part in input.chunks(step) {
                        encoder.write_all(part).unwrap();
                        encoder.flush().unwrap();
                    }
                    encoder.finish().unwrap()
                };
                let (one, other) = (compress(1 << 20), compress(77_777));
                assert!(one == other, "{format:?} of {} bytes", input.len());
                let mut out = Vec::new();
                Decompressor::new(&one[..])
                    .unwrap()
                    .read_to_end(&mut out)
                    .unwrap();
                assert!(out == input, "{format:?} of {} bytes", input.len());
            }
        }
    }

    #[test]
    fn other_readers_take_the_gzip_for_one_member() {
        let input = vec![9; 4 * PIECE];
        let mut encoder = Encoder::new(Vec::new(), Format::Gzip, Some(1)).unwrap();
        encoder.write_all(&input).unwrap();
        let compressed = encoder.finish().unwrap();
        let mut out = Vec::new();
        flate2::read::GzDecoder::new(&compressed[..])
            .read_to_end(&mut out)
            .unwrap();
        assert!(out == input);
    }

    #[test]
    fn a_sink_that_fails_ends_it() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                match bytes.len() {
                    10 => Ok(10),
                    _ => Err(io::ErrorKind::StorageFull.into()),
                }
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut encoder = Encoder::new(Full, Format::Gzip, None).unwrap();
        let error = std::iter::repeat_with(|| encoder.write_all(&vec![1; PIECE]))
            .take(100)
            .find_map(Result::err)
            .unwrap();
        assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    }
}
