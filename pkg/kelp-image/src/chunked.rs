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

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use oci_spec::image::Descriptor;
use serde::Deserialize;

use crate::blob::BlobStore;
use crate::decompress::Decompressor;
use crate::digest::Digest;

/// The annotation with a table's place, and what older writers call it.
const ANNOTATIONS: [&str; 2] = [
    "io.github.containers.zstd-chunked.manifest-position",
    "io.containers.zstd-chunked.manifest-position",
];

/// How the footer ends, and where in it, counted from the end, the table's place is: in the form with a
/// tar-split and in the one without.
const FOOTERS: [(&[u8; 8], usize); 2] = [(b"GNUlInUx", 64), (b"GnUlInUx", 40)];

/// The only kind of table that there is.
const KIND: u64 = 1;

/// The header of the skippable frame around a table, in bytes.
const FRAME_HEADER: u64 = 8;

/// The most bytes of a blob's end, from its table on. The one of 100,000 files has some 10 MB.
const TAIL_LIMIT: u64 = 64 << 20;

/// The most bytes of a table.
const TABLE_LIMIT: u64 = 128 << 20;

/// How many blobs that are here are looked into.
const SOURCES_LIMIT: usize = 64;

/// How many bytes it takes at least for a request to be saved or added.
const LEAST_STRETCH: u64 = 32 << 10;

/// About how many ranges are asked for.
const RANGES_LIMIT: usize = 64;

/// Where a blob's table is. It lies within the blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TablePosition {
    offset: u64,
    length: u64,
}

impl TablePosition {
    /// What a layer's descriptor says.
    pub(crate) fn of(descriptor: &Descriptor) -> Option<Self> {
        let annotations = descriptor.annotations().as_ref()?;
        let text = ANNOTATIONS.iter().find_map(|key| annotations.get(*key))?;
        let mut words = text.split(':').map(|word| word.parse().ok());
        let words = [
            words.next()??,
            words.next()??,
            words.next()??,
            words.next()??,
        ];
        Self::new(words, descriptor.size())
    }

    /// What a blob's footer says.
    fn of_file(file: &File, size: u64) -> Option<Self> {
        let mut end = [0; 64];
        file.read_exact_at(&mut end, size.checked_sub(64)?).ok()?;
        let (_, length) = FOOTERS.iter().find(|(magic, _)| end.ends_with(*magic))?;
        let mut words = end[64 - length..]
            .as_chunks()
            .0
            .iter()
            .map(|word| u64::from_le_bytes(*word));
        let words = [words.next()?, words.next()?, words.next()?, words.next()?];
        Self::new(words, size)
    }

    fn new([offset, length, unpacked, kind]: [u64; 4], size: u64) -> Option<Self> {
        let is_sound = kind == KIND
            && unpacked <= TABLE_LIMIT
            && offset >= FRAME_HEADER
            && offset.checked_add(length)? <= size
            && size - offset <= TAIL_LIMIT;
        is_sound.then_some(Self { offset, length })
    }

    /// Where the blob's last part begins, which holds the table.
    pub(crate) fn tail(self) -> u64 {
        self.offset - FRAME_HEADER
    }

    /// The pieces of the blob, by its last part.
    fn pieces(self, tail: &[u8]) -> Option<Vec<Piece>> {
        let start = FRAME_HEADER as usize;
        let packed = tail.get(start..start + self.length as usize)?;
        let mut text = Vec::new();
        Decompressor::new(packed)
            .ok()?
            .take(TABLE_LIMIT)
            .read_to_end(&mut text)
            .ok()?;
        let table: Table = serde_json::from_slice(&text).ok()?;
        pieces(&table.entries, self.tail())
    }
}

#[derive(Deserialize)]
struct Table {
    entries: Vec<Entry>,
}

/// An entry of the archive, or a further chunk of the file before.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Entry {
    r#type: String,
    name: String,
    link_name: String,
    mode: i64,
    size: u64,
    uid: i64,
    gid: i64,
    modtime: String,
    accesstime: String,
    changetime: String,
    dev_major: i64,
    dev_minor: i64,
    xattrs: BTreeMap<String, String>,
    digest: String,
    offset: u64,
    end_offset: u64,
    chunk_size: u64,
    chunk_digest: String,
    chunk_type: String,
}

impl Entry {
    fn is_chunk(&self) -> bool {
        self.r#type == "chunk"
    }

    /// What a tar header is made of.
    fn hash_header(&self, state: &mut DefaultHasher) {
        (
            &self.r#type,
            &self.name,
            &self.link_name,
            self.mode,
            self.size,
        )
            .hash(state);
        (self.uid, self.gid, self.dev_major, self.dev_minor).hash(state);
        (&self.modtime, &self.accesstime, &self.changetime).hash(state);
        self.xattrs.hash(state);
    }

    /// What the frames are made of that begin here.
    fn content(&self) -> u64 {
        let digest = match &*self.chunk_digest {
            "" => &self.digest,
            digest => digest,
        };
        let mut state = DefaultHasher::new();
        (digest, &self.chunk_type, self.chunk_size).hash(&mut state);
        state.finish()
    }
}

/// What tells a piece from others. Two that look alike and are not cost a download, no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    what: u64,
    length: u64,
}

/// A stretch of a blob that others may have as well: the frames of a file's content, or those of the
/// headers between two files.
#[derive(Debug, Clone, Copy)]
struct Piece {
    key: Key,
    start: u64,
}

/// The pieces of a blob up to `limit`, without a gap; none where the table contradicts itself.
fn pieces(entries: &[Entry], limit: u64) -> Option<Vec<Piece>> {
    let mut pieces = Vec::with_capacity(entries.len() * 2);
    let mut position = 0;
    let mut push = |what: u64, start: u64, end: u64| {
        let length = end - start;
        if length > 0 {
            let key = Key { what, length };
            pieces.push(Piece { key, start });
        }
    };
    let mut headers = DefaultHasher::new();
    let (mut file_end, mut padding) = (0, 0);
    for (number, entry) in entries.iter().enumerate() {
        if !entry.is_chunk() {
            entry.hash_header(&mut headers);
            file_end = entry.end_offset;
            padding = entry.size % 512;
        }
        if entry.offset == 0 || file_end == 0 {
            continue;
        }
        let end = match entries.get(number + 1) {
            Some(next) if next.is_chunk() => next.offset,
            _ => file_end,
        };
        if entry.offset < position || end < entry.offset || end > limit {
            return None;
        }
        push(headers.finish(), position, entry.offset);
        push(entry.content(), entry.offset, end);
        position = end;
        headers = DefaultHasher::new();
        padding.hash(&mut headers);
    }
    push(headers.finish(), position, limit);
    Some(pieces)
}

/// A zstd:chunked blob that is here.
#[derive(Debug)]
pub(crate) struct Source {
    file: Arc<File>,
    pieces: Vec<Piece>,
}

impl Source {
    fn open(blobs: &BlobStore, digest: &Digest) -> Option<Self> {
        let file = blobs.reader(digest).ok()?;
        let size = file.metadata().ok()?.len();
        let table = TablePosition::of_file(&file, size)?;
        let mut tail = vec![0; (size - table.tail()) as usize];
        file.read_exact_at(&mut tail, table.tail()).ok()?;
        Some(Self {
            pieces: table.pieces(&tail)?,
            file: Arc::new(file),
        })
    }
}

/// Those of some blobs that are zstd:chunked. One that can't be read is none.
pub(crate) fn sources<'a>(
    blobs: &BlobStore,
    digests: impl Iterator<Item = &'a Digest>,
) -> Vec<Source> {
    digests
        .filter_map(|digest| Source::open(blobs, digest))
        .take(SOURCES_LIMIT)
        .collect()
}

/// How a blob is put together.
#[derive(Debug)]
pub(crate) struct Plan {
    /// In their order, without overlaps.
    copies: Vec<Stretch>,
    tail_start: u64,
    tail: Bytes,
}

/// Bytes of the blob that another one has.
#[derive(Debug, Clone)]
struct Stretch {
    start: u64,
    length: u64,
    file: Arc<File>,
    from: u64,
}

impl Stretch {
    fn end(&self) -> u64 {
        self.start + self.length
    }
}

/// What comes next in a blob.
#[derive(Debug)]
pub(crate) enum Step {
    /// Bytes of another file.
    Copy {
        file: Arc<File>,
        from: u64,
        length: u64,
    },
    /// These.
    Bytes(Bytes),
    /// What the registry has up to here.
    Fetch(u64),
}

impl Plan {
    /// Puts a blob together from its last part and from what is here; nothing where that saves little.
    pub(crate) fn new(table: TablePosition, tail: Bytes, sources: &[Source]) -> Option<Self> {
        let wanted = table.pieces(&tail)?;
        let found = find(&wanted, sources);
        let mut copies: Vec<Stretch> = Vec::new();
        for piece in &wanted {
            let Some((source, from)) = found.get(&piece.key).copied().flatten() else {
                continue;
            };
            let (file, length) = (&sources[source].file, piece.key.length);
            match copies.last_mut() {
                Some(last)
                    if last.end() == piece.start
                        && last.from + last.length == from
                        && Arc::ptr_eq(&last.file, file) =>
                {
                    last.length += length;
                }
                _ => copies.push(Stretch {
                    start: piece.start,
                    length,
                    file: Arc::clone(file),
                    from,
                }),
            }
        }
        keep_long(&mut copies);
        let plan = Self {
            copies,
            tail_start: table.tail(),
            tail,
        };
        (plan.copied() >= plan.tail_start / 10).then_some(plan)
    }

    /// How many bytes are not asked for.
    pub(crate) fn copied(&self) -> u64 {
        self.copies.iter().map(|copy| copy.length).sum()
    }

    /// What comes at a position before the end.
    pub(crate) fn step(&self, position: u64) -> Step {
        if let Some(into) = position.checked_sub(self.tail_start) {
            let into = self.tail.len().min(into as usize);
            return Step::Bytes(self.tail.slice(into..));
        }
        let next = self.copies.partition_point(|copy| copy.end() <= position);
        match self.copies.get(next) {
            Some(copy) if copy.start <= position => {
                let into = position - copy.start;
                Step::Copy {
                    file: Arc::clone(&copy.file),
                    from: copy.from + into,
                    length: copy.length - into,
                }
            }
            Some(copy) => Step::Fetch(copy.start),
            None => Step::Fetch(self.tail_start),
        }
    }
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

/// Leaves out what is too short to be worth a further request, so that there are not too many.
fn keep_long(copies: &mut Vec<Stretch>) {
    let mut least = LEAST_STRETCH;
    loop {
        let mut kept = 0;
        let mut rest = std::mem::take(copies).into_iter().peekable();
        while let Some(first) = rest.next() {
            // What is copied without a request between.
            let begun = copies.len();
            let (start, mut end) = (first.start, first.end());
            copies.push(first);
            while let Some(next) = rest.next_if(|next| next.start == end) {
                end = next.end();
                copies.push(next);
            }
            if end - start < least {
                copies.truncate(begun);
            } else {
                kept += 1;
            }
        }
        if kept <= RANGES_LIMIT {
            return;
        }
        least *= 2;
    }
}
