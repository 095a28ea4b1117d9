//! Archives by description: entries that bytes choose, written in every format that a reader must know.
//!
//! A fuzzer that changes a header's bytes breaks its checksum, and gets no further. Here it chooses
//! among names, kinds and formats instead, and so it is about what entries do to one another.

mod choose;
mod encode;

pub use choose::{Choice, hostile, well_formed};
pub use encode::encode;

use kelp_image::tar::sparse::Segment;
use kelp_image::tar::{Entry, Kind};

/// An entry, its stored bytes, and how it is written.
#[derive(Clone, Debug)]
pub struct Item {
    /// What the extractor is to be told.
    pub entry: Entry,
    /// Its stored bytes.
    pub content: Vec<u8>,
    /// How it is written; one that has no room for it gives way to pax.
    pub format: Format,
}

/// A way to write an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// POSIX.1-1988, with a prefix for longer names.
    Ustar,
    /// GNU tar's own: long names in front, base 256, sparse files by type `S`.
    Gnu,
    /// POSIX.1-2001; sparse files by version 0.0.
    Pax00,
    /// The same; sparse files by version 0.1.
    Pax01,
    /// The same; sparse files by version 1.0.
    Pax10,
    /// What the engine writes itself.
    Own,
}

impl Item {
    fn segments(&self) -> &[Segment] {
        self.entry.sparse.as_deref().unwrap_or_default()
    }

    fn has_content(&self) -> bool {
        self.entry.kind == Kind::File
    }
}

/// Writes the right checksum into every block that looks like a header.
#[must_use]
pub fn with_checksums(input: &[u8]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for block in bytes.chunks_exact_mut(512) {
        if block[257..262] == *b"ustar" {
            encode::write_checksum(block);
        }
    }
    bytes
}
