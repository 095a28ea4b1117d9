//! The journal's export format: of each entry its fields, a line each, or where a value is no text the key,
//! the value's length in eight bytes, the lowest first, and the value; then an empty line.

use std::collections::VecDeque;
use std::io;

use kelp_monitor::log::{END, STDERR};

use super::line::Stream;

/// An entry, as far as it is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Entry {
    /// What names it.
    pub(super) cursor: String,
    /// When the journal has got it, in microseconds since 1970.
    pub(super) time: u64,
    /// What was written, if it is output at all.
    pub(super) text: Option<Vec<u8>>,
    is_error: bool,
    /// Whether the line goes on in the stream's next entry.
    pub(super) goes_on: bool,
    /// Which run of the program it ends.
    pub(super) end: Option<String>,
}

impl Entry {
    pub(super) fn stream(&self) -> Stream {
        if self.is_error {
            Stream::Stderr
        } else {
            Stream::Stdout
        }
    }

    #[cfg(test)]
    pub(super) fn example(cursor: &str, is_error: bool) -> Self {
        Self {
            cursor: cursor.to_owned(),
            is_error,
            ..Self::default()
        }
    }
}

/// Takes the export format apart, as it comes.
#[derive(Debug, Default)]
pub(super) struct Parser {
    bytes: Vec<u8>,
    /// Where what was not taken apart yet begins.
    start: usize,
    entry: Entry,
    /// Whole ones.
    ready: VecDeque<Entry>,
}

const CHUNK: usize = 64 * 1024;

impl Parser {
    /// Whether anything was read.
    pub(super) fn has_begun(&self) -> bool {
        self.bytes.capacity() > 0
    }

    /// Whether there is a whole entry.
    pub(super) fn has_entry(&self) -> bool {
        !self.ready.is_empty()
    }

    /// The next whole entry.
    pub(super) fn next(&mut self) -> Option<Entry> {
        self.ready.pop_front()
    }

    /// Reads once; how much that was.
    pub(super) fn read(&mut self, from: &mut impl io::Read) -> io::Result<usize> {
        self.bytes.drain(..self.start);
        self.start = 0;
        let old = self.bytes.len();
        self.bytes.resize(old + CHUNK, 0);
        let read = from.read(&mut self.bytes[old..]);
        self.bytes.truncate(old + *read.as_ref().unwrap_or(&0));
        while self.field() {}
        read
    }

    /// Takes one field, or the end of an entry; whether it was whole.
    fn field(&mut self) -> bool {
        let rest = &self.bytes[self.start..];
        let Some(end) = rest.iter().position(|&byte| byte == b'\n') else {
            return false;
        };
        let (line, after) = (&rest[..end], &rest[end + 1..]);
        let mut used = end + 1;
        if line.is_empty() {
            self.start += used;
            let entry = std::mem::take(&mut self.entry);
            if !entry.cursor.is_empty() {
                self.ready.push_back(entry);
            }
            return true;
        }
        let (key, value) = if let Some(equals) = line.iter().position(|&byte| byte == b'=') {
            (&line[..equals], &line[equals + 1..])
        } else {
            let Some((length, after)) = after.split_first_chunk() else {
                return false;
            };
            let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
            // With the end of its line.
            let Some(value) = after.get(..length).filter(|_| after.len() > length) else {
                return false;
            };
            used += 8 + length + 1;
            (line, value)
        };
        set(&mut self.entry, key, value);
        self.start += used;
        true
    }
}

fn set(entry: &mut Entry, key: &[u8], value: &[u8]) {
    let text = || String::from_utf8_lossy(value).into_owned();
    match key {
        b"__CURSOR" => entry.cursor = text(),
        b"__REALTIME_TIMESTAMP" => entry.time = text().parse().unwrap_or(0),
        b"MESSAGE" => entry.text = Some(value.to_owned()),
        b"PRIORITY" => entry.is_error = value == STDERR.as_bytes(),
        b"CONTAINER_PARTIAL_MESSAGE" => entry.goes_on = true,
        key if key == END.as_bytes() => entry.end = Some(text()),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(bytes: &[u8], chunk: usize) -> Vec<Entry> {
        let mut parser = Parser::default();
        let mut entries = Vec::new();
        for mut piece in bytes.chunks(chunk) {
            while !piece.is_empty() {
                parser.read(&mut piece).unwrap();
            }
            entries.extend(std::iter::from_fn(|| parser.next()));
        }
        entries
    }

    #[test]
    fn entries_are_taken_apart_wherever_they_are_cut() {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(b"__CURSOR=s=1;i=1\n__REALTIME_TIMESTAMP=5\nPRIORITY=6\n");
        bytes.extend_from_slice(b"OTHER=\nMESSAGE=a=b\n\n__CURSOR=s=1;i=2\nPRIORITY=3\n");
        bytes.extend_from_slice(b"MESSAGE\n\x05\0\0\0\0\0\0\0\xff\n\n=\0\n");
        bytes.extend_from_slice(b"CONTAINER_PARTIAL_MESSAGE=true\n\n__CURSOR=s=1;i=3\n");
        bytes.extend_from_slice(format!("PRIORITY=7\n{END}=17\n\n__CURSOR=cut").as_bytes());
        let entry = |number: u32| Entry {
            cursor: format!("s=1;i={number}"),
            ..Entry::default()
        };
        let expected = [
            Entry {
                time: 5,
                text: Some(b"a=b".to_vec()),
                ..entry(1)
            },
            Entry {
                text: Some(b"\xff\n\n=\0".to_vec()),
                is_error: true,
                goes_on: true,
                ..entry(2)
            },
            Entry {
                end: Some("17".to_owned()),
                ..entry(3)
            },
        ];
        for chunk in [1, 2, 7, 64, bytes.len()] {
            assert_eq!(parse(&bytes, chunk), expected, "{chunk}");
        }
    }
}
