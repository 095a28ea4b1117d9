//! Where the last lines of a log begin, found from its end: a log of gigabytes is not read for ten
//! lines.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::files::LogFile;
use super::line::{Part, Stream};

/// A place in the log: the number of the file, the oldest being 0, and the offset in it.
pub(super) type Position = (usize, u64);

const CHUNK: u64 = 64 * 1024;

/// How far back the beginning of a line is looked for that others of the other stream were written
/// into.
const LOOK_BACK: usize = 1 << 20;

/// Where the last `count` lines begin, for each stream: the first of them may have parts in front of
/// a line of the other stream that is too old.
pub(super) fn find(files: &[LogFile], count: u64) -> io::Result<[Position; 2]> {
    let Some(last) = files.last() else {
        return Ok([(0, 0); 2]);
    };
    let end = (files.len() - 1, last.file.metadata()?.len());
    let mut search = Search::new(end, count);
    for (index, file) in files.iter().enumerate().rev() {
        let more = backwards(&file.file, |offset, line| {
            Part::parse(line).is_none_or(|part| {
                search.meet(&(index, offset), part.stream, part.ends, line.len())
            })
        })?;
        if !more {
            break;
        }
    }
    Ok(search.starts)
}

/// The search on the way back, part by part.
pub(super) struct Search<P> {
    /// Where each stream's part of the last lines begins, as far as that was met.
    pub(super) starts: [P; 2],
    left: u64,
    seen: [bool; 2],
    /// Whether no earlier part of the stream is wanted.
    closed: [bool; 2],
    /// Bytes that were looked at since all lines were found.
    looked: Option<usize>,
}

impl<P: Clone> Search<P> {
    /// For so many lines; `end` is behind the last of them.
    pub(super) fn new(end: P, count: u64) -> Self {
        Self {
            starts: [end.clone(), end],
            left: count,
            seen: [false; 2],
            closed: [false; 2],
            looked: None,
        }
    }

    /// Takes a part of this many bytes; whether to go on.
    pub(super) fn meet(&mut self, at: &P, stream: Stream, ends: bool, length: usize) -> bool {
        let index = stream as usize;
        // A stream's last part ends a line also where that has no end yet.
        let ends = ends || !self.seen[index];
        self.seen[index] = true;
        if let Some(looked) = &mut self.looked {
            *looked += length;
            if ends {
                self.closed[index] = true;
            } else if !self.closed[index] {
                self.starts[index] = at.clone();
            }
            return *looked < LOOK_BACK && self.closed != [true; 2];
        }
        if ends && self.left == 0 {
            self.closed[index] = true;
            self.looked = Some(0);
            return true;
        }
        self.left -= u64::from(ends);
        self.starts = [at.clone(), at.clone()];
        true
    }
}

/// Gives the lines of a file from its end on, each with its offset; whether `each` never stopped it.
fn backwards(file: &File, mut each: impl FnMut(u64, &[u8]) -> bool) -> io::Result<bool> {
    let mut start = file.metadata()?.len();
    // The end of a line whose beginning is not read yet.
    let mut carried = Vec::new();
    while start > 0 {
        let length = start.min(CHUNK);
        start -= length;
        let mut block = vec![0; length as usize];
        file.read_exact_at(&mut block, start)?;
        block.append(&mut carried);
        let mut end = block.len();
        while let Some(before) = block[..end.saturating_sub(1)]
            .iter()
            .rposition(|&byte| byte == b'\n')
        {
            if !each(start + before as u64 + 1, &block[before + 1..end]) {
                return Ok(false);
            }
            end = before + 1;
        }
        block.truncate(end);
        carried = block;
    }
    Ok(carried.is_empty() || each(0, &carried))
}
