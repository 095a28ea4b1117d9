//! The table of a zstd:chunked blob, cut into pieces while it is read.

use std::borrow::Cow;
use std::fmt;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::os::unix::fs::FileExt;

use oci_spec::image::Descriptor;
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::decompress::Decompressor;

/// The annotation with a table's place, and what older writers call it.
const ANNOTATIONS: [&str; 2] = [
    "io.github.containers.zstd-chunked.manifest-position",
    "io.containers.zstd-chunked.manifest-position",
];

/// How a footer ends, and where in it, counted from the end, the table's place is: in the form with a
/// tar-split and in the one without.
const FOOTERS: [(&[u8; 8], usize); 2] = [(b"GNUlInUx", 64), (b"GnUlInUx", 40)];

/// The only kind of table that there is.
const KIND: u64 = 1;

/// The header of the skippable frame around a table, in bytes.
const FRAME_HEADER: u64 = 8;

/// The most bytes of a blob's end, from its table on. The one of 100,000 files has some 10 MB.
const TAIL_LIMIT: u64 = 64 << 20;

/// The most bytes of a table.
const TABLE_LIMIT: u64 = 64 << 20;

/// The most pieces of a blob, of 24 bytes each.
pub(super) const PIECES_LIMIT: usize = 1 << 20;

/// Where a blob's table is. It lies within the blob.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TablePosition {
    offset: u64,
    length: u64,
}

impl TablePosition {
    /// What a layer's descriptor says.
    pub fn of(descriptor: &Descriptor) -> Option<Self> {
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
    pub(super) fn of_file(file: &File, size: u64) -> Option<Self> {
        let mut end = [0; 64];
        file.read_exact_at(&mut end, size.checked_sub(64)?).ok()?;
        let (_, length) = FOOTERS.iter().find(|(magic, _)| end.ends_with(*magic))?;
        let (words, _) = end[64 - length..].as_chunks();
        let mut words = words.iter().map(|word| u64::from_le_bytes(*word));
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
    pub fn tail(self) -> u64 {
        self.offset - FRAME_HEADER
    }

    /// The pieces of the blob before its last part, without a gap, by that part; none where the table
    /// contradicts itself.
    pub(super) fn pieces(self, tail: &[u8]) -> Option<Vec<Piece>> {
        let start = FRAME_HEADER as usize;
        let packed = tail.get(start..start + self.length as usize)?;
        let mut text = Vec::new();
        Decompressor::new(packed)
            .ok()?
            .take(TABLE_LIMIT)
            .read_to_end(&mut text)
            .ok()?;
        let table: Table = serde_json::from_slice(&text).ok()?;
        table.entries.finish(self.tail())
    }
}

/// What tells a piece from others. Two that look alike and are not cost a download, no more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Key {
    what: u64,
    pub(super) length: u64,
}

/// A stretch of a blob that others may have as well: the frames of a file's content, or those of the
/// headers between two files.
#[derive(Debug, Clone, Copy)]
pub(super) struct Piece {
    pub(super) key: Key,
    pub(super) start: u64,
}

impl Piece {
    pub(super) fn end(&self) -> u64 {
        self.start + self.key.length
    }
}

#[derive(Deserialize)]
struct Table {
    entries: Cut,
}

/// An entry of the archive, or a further chunk of the file before.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Entry<'a> {
    #[serde(borrow)]
    r#type: Cow<'a, str>,
    #[serde(borrow)]
    name: Cow<'a, str>,
    #[serde(borrow)]
    link_name: Cow<'a, str>,
    mode: i64,
    size: u64,
    uid: i64,
    gid: i64,
    #[serde(borrow)]
    modtime: Cow<'a, str>,
    #[serde(borrow)]
    accesstime: Cow<'a, str>,
    #[serde(borrow)]
    changetime: Cow<'a, str>,
    dev_major: i64,
    dev_minor: i64,
    xattrs: Attributes,
    #[serde(borrow)]
    digest: Cow<'a, str>,
    offset: u64,
    end_offset: u64,
    chunk_size: u64,
    #[serde(borrow)]
    chunk_digest: Cow<'a, str>,
    #[serde(borrow)]
    chunk_type: Cow<'a, str>,
}

impl Entry<'_> {
    /// What a tar header is made of.
    fn hash_header(&self, state: &mut DefaultHasher) {
        let (kind, link) = (&self.r#type, &self.link_name);
        (kind, &self.name, link, self.mode, self.size).hash(state);
        (self.uid, self.gid, self.dev_major, self.dev_minor).hash(state);
        (&self.modtime, &self.accesstime, &self.changetime).hash(state);
        self.xattrs.0.hash(state);
    }

    /// What the frames are made of that begin here.
    fn content(&self) -> u64 {
        let digest = match &*self.chunk_digest {
            "" => &self.digest,
            _ => &self.chunk_digest,
        };
        let mut state = DefaultHasher::new();
        (digest, &self.chunk_type, self.chunk_size).hash(&mut state);
        state.finish()
    }
}

/// A hash of a file's extended attributes, however many.
#[derive(Debug, Default)]
struct Attributes(u64);

impl<'de> Deserialize<'de> for Attributes {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Attributes;

            fn expecting(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
                text.write_str("extended attributes")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut list: A) -> Result<Attributes, A::Error> {
                let mut state = DefaultHasher::new();
                while let Some(attribute) = list.next_entry::<Cow<'de, str>, Cow<'de, str>>()? {
                    attribute.hash(&mut state);
                }
                Ok(Attributes(state.finish()))
            }
        }
        source.deserialize_map(List)
    }
}

/// The pieces of the entries so far.
#[derive(Default)]
struct Cut {
    pieces: Vec<Piece>,
    /// Where they end.
    position: u64,
    /// What stands between the file before and the next one.
    headers: DefaultHasher,
    /// Where the file's frames end that was begun last, and how many bytes its content has in its last block.
    file_end: u64,
    padding: u64,
    /// Where the frames begin whose end the next entry tells, and what they are made of.
    begun: Option<(u64, u64)>,
}

impl Cut {
    fn add(&mut self, entry: &Entry<'_>) -> Option<()> {
        if entry.r#type == "chunk" {
            self.end(entry.offset)?;
        } else {
            self.end(self.file_end)?;
            entry.hash_header(&mut self.headers);
            self.file_end = entry.end_offset;
            self.padding = entry.size % 512;
        }
        if entry.offset > 0 && self.file_end > 0 {
            self.begun = Some((entry.offset, entry.content()));
        }
        Some(())
    }

    fn end(&mut self, end: u64) -> Option<()> {
        let Some((start, what)) = self.begun.take() else {
            return Some(());
        };
        if start < self.position || end < start || self.pieces.len() >= PIECES_LIMIT {
            return None;
        }
        self.push(self.headers.finish(), start);
        self.push(what, end);
        self.headers = DefaultHasher::new();
        self.padding.hash(&mut self.headers);
        Some(())
    }

    fn push(&mut self, what: u64, end: u64) {
        let (start, length) = (self.position, end - self.position);
        if length > 0 {
            let key = Key { what, length };
            self.pieces.push(Piece { key, start });
        }
        self.position = end;
    }

    fn finish(mut self, end: u64) -> Option<Vec<Piece>> {
        self.end(self.file_end)?;
        if self.position > end {
            return None;
        }
        self.push(self.headers.finish(), end);
        self.pieces.shrink_to_fit();
        Some(self.pieces)
    }
}

impl<'de> Deserialize<'de> for Cut {
    fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Cut;

            fn expecting(&self, text: &mut fmt::Formatter<'_>) -> fmt::Result {
                text.write_str("the entries of an archive")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Cut, A::Error> {
                let mut cut = Cut::default();
                // One by one: a table of nothing but small entries would take the memory of a machine.
                while let Some(entry) = list.next_element::<Entry<'de>>()? {
                    cut.add(&entry)
                        .ok_or_else(|| A::Error::custom("a table that contradicts itself"))?;
                }
                Ok(cut)
            }
        }
        source.deserialize_seq(Entries)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(entries: &str, end: u64) -> Option<Vec<(u64, u64)>> {
        let table: Table = serde_json::from_str(&format!("{{\"entries\": [{entries}]}}")).ok()?;
        let pieces = table.entries.finish(end)?;
        Some(
            pieces
                .iter()
                .map(|piece| (piece.start, piece.end()))
                .collect(),
        )
    }

    #[test]
    fn pieces_follow_each_other_without_a_gap() {
        let file = r#"{"type": "reg", "name": "a", "size": 9, "offset": 10, "endOffset": 40,
            "chunkSize": 5, "chunkDigest": "x"}"#;
        let chunk = r#"{"type": "chunk", "name": "a", "offset": 25, "chunkDigest": "y"}"#;
        let empty = r#"{"type": "reg", "name": "b", "xattrs": {"user.x": "eQ=="}}"#;
        let next = r#"{"type": "reg", "name": "c", "offset": 50, "endOffset": 60}"#;
        assert_eq!(
            cut(&[file, chunk, empty, next].join(","), 70).unwrap(),
            [(0, 10), (10, 25), (25, 40), (40, 50), (50, 60), (60, 70)]
        );
        assert_eq!(cut("", 70).unwrap(), [(0, 70)]);
    }

    #[test]
    fn a_header_is_told_by_what_is_in_it() {
        let headers = |change: &str| {
            let entry = format!(r#"{{"type": "reg", "offset": 10, "endOffset": 40, {change}}}"#);
            let text = format!("{{\"entries\": [{entry}]}}");
            let table: Table = serde_json::from_str(&text).unwrap();
            table.entries.finish(40).unwrap()[0].key.what
        };
        let plain = headers(r#""name": "a""#);
        assert_eq!(plain, headers(r#""name": "a", "digest": "sha256:1""#));
        for other in [
            r#""name": "b""#,
            r#""name": "a", "mode": 1"#,
            r#""name": "a", "modtime": "2025-05-28T02:24:19Z""#,
            r#""name": "a", "xattrs": {"user.x": "eQ=="}"#,
        ] {
            assert_ne!(plain, headers(other), "{other}");
        }
    }

    #[test]
    fn tables_that_contradict_themselves_are_none() {
        let file = |offset: u64, end: u64| {
            format!(r#"{{"type": "reg", "offset": {offset}, "endOffset": {end}}}"#)
        };
        assert!(cut(&file(10, 40), 40).is_some());
        assert!(cut(&file(10, 41), 40).is_none());
        assert!(cut(&file(10, 9), 40).is_none());
        assert!(cut(&[file(10, 20), file(19, 30)].join(","), 40).is_none());
        assert!(cut(&[file(10, u64::MAX), file(5, 6)].join(","), 40).is_none());
        assert!(cut(r#"{"offset": "10"}"#, 40).is_none());
        let chunk = r#"{"type": "chunk", "offset": 5}"#;
        assert!(cut(&[file(10, 20), chunk.to_owned()].join(","), 40).is_none());
    }

    #[test]
    fn a_table_takes_little_memory_whatever_is_in_it() {
        let nothing = vec!["{}"; 100_000].join(",");
        assert_eq!(cut(&nothing, 9).unwrap(), [(0, 9)]);
        let mut cut = Cut::default();
        let added = (1..=PIECES_LIMIT as u64).take_while(|number| {
            let entry = Entry {
                offset: number * 2,
                end_offset: number * 2 + 1,
                ..Entry::default()
            };
            cut.add(&entry).is_some()
        });
        assert!(added.count() < PIECES_LIMIT);
        assert!(cut.pieces.len() <= PIECES_LIMIT + 1);
    }
}
