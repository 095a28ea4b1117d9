//! zstd:chunked layers: what of a blob is in blobs that are here already.
//!
//! Such a blob is an ordinary zstd stream whose frames end where the content of files does, with a table
//! at its end (the format of containers/storage): for each file, where its frames are and the digests of
//! what they hold. One compressor makes the same frames of the same content, so what two blobs have in
//! common is the same bytes in both:
//!
//! ```text
//! the blob that is wanted   │ headers │ file │ headers │ file │ … │ table, footer │
//!                             copied from   fetched by   copied      fetched first
//!                             a blob here   its range
//! ```
//!
//! Nothing that a table says is believed: the blob's own digest decides in the end, and a blob that was
//! put together wrong is fetched whole. So there is no second kind of layer, none that is verified by
//! other means, and an image leaves as it came.

mod table;

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::Arc;

use bytes::Bytes;

use crate::blob::BlobStore;
use crate::digest::Digest;
use crate::transport::files::Region;
pub use table::TablePosition;
use table::{Key, Piece};

/// How many blobs that are here are looked into, the newest first.
const SOURCES_LIMIT: usize = 256;

/// How many pieces they have together at most, of 24 bytes each.
const PIECES_LIMIT: usize = 4 << 20;

/// How many bytes have to be here in one stretch for a further request to be worth it.
pub(crate) const LEAST_STRETCH: u64 = 128 << 10;

/// How many such stretches are made use of.
const STRETCHES_LIMIT: usize = 64;

/// A zstd:chunked blob that is here.
#[derive(Debug)]
pub struct Source {
    file: Arc<File>,
    pieces: Vec<Piece>,
}

impl Source {
    /// A blob by its own footer; `None` where that or its table is none.
    pub fn new(blob: File) -> Option<Self> {
        Found::new(blob)?.read()
    }
}

/// One whose table was not read yet.
struct Found {
    file: File,
    size: u64,
    table: TablePosition,
    changed: i64,
}

impl Found {
    fn new(file: File) -> Option<Self> {
        let metadata = file.metadata().ok()?;
        Some(Self {
            table: TablePosition::of_file(&file, metadata.len())?,
            size: metadata.len(),
            changed: metadata.mtime(),
            file,
        })
    }

    fn read(self) -> Option<Source> {
        let start = self.table.tail();
        let mut tail = vec![0; (self.size - start) as usize];
        self.file.read_exact_at(&mut tail, start).ok()?;
        Some(Source {
            pieces: self.table.pieces(&tail)?,
            file: Arc::new(self.file),
        })
    }
}

/// Those of some blobs that are zstd:chunked. One that can't be read is none.
pub(crate) fn sources<'a>(
    blobs: &BlobStore,
    digests: impl Iterator<Item = &'a Digest>,
) -> Vec<Source> {
    let mut found: Vec<Found> = digests
        .filter_map(|digest| Found::new(blobs.reader(digest).ok()?))
        .collect();
    // The next version of something has most in common with the one before.
    found.sort_by_key(|found| Reverse(found.changed));
    found.truncate(SOURCES_LIMIT);
    let mut left = PIECES_LIMIT;
    found
        .into_iter()
        .filter_map(Found::read)
        .take_while(|source| {
            let fits = source.pieces.len() <= left;
            left = left.saturating_sub(source.pieces.len());
            fits
        })
        .collect()
}

/// How a blob is put together.
#[derive(Debug)]
pub struct Plan {
    /// In their order, without overlaps.
    copies: Vec<Stretch>,
    tail_start: u64,
    tail: Bytes,
}

/// Bytes of the blob that another one has.
#[derive(Debug, Clone)]
struct Stretch {
    start: u64,
    region: Region,
}

impl Stretch {
    fn end(&self) -> u64 {
        self.start + self.region.length
    }
}

/// What is here of a blob.
#[derive(Debug)]
pub enum Part {
    /// In another blob.
    Region(Region),
    /// Fetched before.
    Bytes(Bytes),
}

impl Plan {
    /// Puts the rest of a blob together, from a position on, with its last part and with what is here;
    /// nothing where that saves little.
    pub fn new(table: TablePosition, tail: Bytes, sources: &[Source], from: u64) -> Option<Self> {
        let wanted = table.pieces(&tail)?;
        let copies = keep_long(&copies(&wanted, sources, from));
        let copied: u64 = copies.iter().map(|copy| copy.region.length).sum();
        let here = sources
            .iter()
            .filter_map(|source| source.pieces.last())
            .map(Piece::end)
            .fold(0, u64::saturating_add);
        // A table that names the same frames over and over makes much of little: a layer that its
        // registry need not have sent.
        let is_worth_it = copied > table.tail() / 10 && copied <= here;
        is_worth_it.then(|| Self {
            copies,
            tail_start: table.tail(),
            tail,
        })
    }

    /// How many bytes need not be asked for.
    pub fn copied(&self) -> u64 {
        self.copies.iter().map(|copy| copy.region.length).sum()
    }

    /// What is here from a position on, before the blob's end.
    pub fn here(&self, position: u64) -> Option<Part> {
        if let Some(into) = position.checked_sub(self.tail_start) {
            return Some(Part::Bytes(self.tail.slice(into as usize..)));
        }
        let copy = self.next(position).filter(|copy| copy.start <= position)?;
        let into = position - copy.start;
        Some(Part::Region(Region {
            file: Arc::clone(&copy.region.file),
            start: copy.region.start + into,
            length: copy.region.length - into,
        }))
    }

    /// Up to where nothing is here, from a position on where nothing is.
    pub fn missing_until(&self, position: u64) -> u64 {
        self.next(position)
            .map_or(self.tail_start, |copy| copy.start)
    }

    fn next(&self, position: u64) -> Option<&Stretch> {
        let next = self.copies.partition_point(|copy| copy.end() <= position);
        self.copies.get(next)
    }
}

/// What of the wanted pieces is here, those before `from` left out.
fn copies(wanted: &[Piece], sources: &[Source], from: u64) -> Vec<Stretch> {
    let found = find(wanted, sources);
    let mut copies: Vec<Stretch> = Vec::new();
    for piece in wanted.iter().filter(|piece| piece.end() > from) {
        let Some((source, start)) = found.get(&piece.key).copied().flatten() else {
            continue;
        };
        let (file, length) = (&sources[source].file, piece.key.length);
        match copies.last_mut() {
            Some(last)
                if last.end() == piece.start
                    && last.region.start + last.region.length == start
                    && Arc::ptr_eq(&last.region.file, file) =>
            {
                last.region.length += length;
            }
            _ => copies.push(Stretch {
                start: piece.start,
                region: Region {
                    file: Arc::clone(file),
                    start,
                    length,
                },
            }),
        }
    }
    copies
}

/// Where each of the pieces is, if anywhere: the number of a source and the position in it.
fn find(wanted: &[Piece], sources: &[Source]) -> HashMap<Key, Option<(usize, u64)>> {
    let mut found: HashMap<Key, Option<(usize, u64)>> =
        wanted.iter().map(|piece| (piece.key, None)).collect();
    for (number, source) in sources.iter().enumerate() {
        for piece in &source.pieces {
            if let Some(place @ None) = found.get_mut(&piece.key) {
                *place = Some((number, piece.start));
            }
        }
    }
    found
}

/// Leaves out what is too short to be worth a request after it, and all but the longest of the rest.
fn keep_long(copies: &[Stretch]) -> Vec<Stretch> {
    let length = |group: &[Stretch]| group.iter().map(|copy| copy.region.length).sum::<u64>();
    // What is copied without a request between.
    let mut groups: Vec<&[Stretch]> = copies
        .chunk_by(|one, next| one.end() == next.start)
        .filter(|group| length(group) >= LEAST_STRETCH)
        .collect();
    groups.sort_by_cached_key(|group| Reverse(length(group)));
    groups.truncate(STRETCHES_LIMIT);
    let mut kept = groups.concat();
    kept.sort_unstable_by_key(|copy| copy.start);
    kept
}
