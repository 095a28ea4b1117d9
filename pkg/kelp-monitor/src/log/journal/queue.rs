//! Entries that the journal has not taken yet.

use super::wire::{Entry, Kind};

/// In order, one after the other in one piece of memory: lines may be many and short.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Of each entry a byte for its kind, one for whether it goes on, four for its length, and its text.
    bytes: Vec<u8>,
    /// Where the first one begins.
    start: usize,
}

const HEADER: usize = 6;

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }

    pub(super) fn push(&mut self, entry: &Entry<'_>) {
        let length = entry.length() as u32;
        self.bytes.push(entry.kind as u8);
        self.bytes.push(u8::from(entry.goes_on));
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        for part in entry.parts {
            self.bytes.extend_from_slice(part);
        }
    }

    /// The first ones, at most so many.
    pub(super) fn first(&self, count: usize) -> Vec<Entry<'_>> {
        let mut entries = Vec::new();
        let mut rest = &self.bytes[self.start..];
        while let Some((&[kind, goes_on, a, b, c, d], after)) = rest.split_first_chunk::<HEADER>()
            && entries.len() < count
        {
            let (text, after) = after.split_at(u32::from_ne_bytes([a, b, c, d]) as usize);
            entries.push(Entry {
                kind: Kind::ALL[usize::from(kind)],
                parts: [text, b""],
                goes_on: goes_on != 0,
            });
            rest = after;
        }
        entries
    }

    pub(super) fn remove_first(&mut self, count: usize) {
        let first = self.first(count);
        let length: usize = first.iter().map(|entry| HEADER + entry.length()).sum();
        self.start += length;
        if self.is_empty() {
            self.clear();
        }
    }

    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.start = 0;
    }

    /// Gives memory back that nothing is in.
    pub(super) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
    }
}
