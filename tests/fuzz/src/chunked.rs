//! The target that puts zstd:chunked blobs together from others.

use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::sync::LazyLock;

use bytes::Bytes;
use kelp_image::chunked::{Part, Plan, Source, TablePosition};
use rustix::fs::{MemfdFlags, memfd_create};
use serde_json::{Value, json};

use crate::archive::Choice;

/// A blob that is its own source is taken whole from this size on.
const SURELY_COPIED: u64 = 128 << 10;

/// Blobs with tables, and how one is put together from the other.
///
/// The first byte says which: 0 that the rest is a blob as it is, 1 that the rest is the tables of two
/// blobs as text, with `--` between them, 2 that it chooses files of two blobs whose tables are true, 3
/// that it chooses what their tables say instead as well.
pub fn chunked(input: &[u8]) {
    let Some((&first, rest)) = input.split_first() else {
        return;
    };
    match first % 4 {
        0 => check(&Blob::of_bytes(rest), None, false),
        1 => {
            let (wanted, other) = tables(rest);
            check(&wanted, Some(&other), false);
        }
        kind => {
            let mut choice = Choice::new(rest);
            let [mut wanted, mut other] = [(); 2].map(|()| Content::choose(&mut choice));
            if kind == 3 {
                wanted.lie(&mut choice);
                other.lie(&mut choice);
            }
            check(&wanted.into_blob(), Some(&other.into_blob()), kind == 2);
        }
    }
}

/// Two blobs of as many times 4096 bytes as the first byte says, with these tables.
fn tables(input: &[u8]) -> (Blob, Blob) {
    let (size, text) = input.split_first().unwrap_or((&0, &[]));
    let middle = b"\n--\n";
    let at = text
        .windows(middle.len())
        .position(|window| window == middle);
    let (one, other) = match at {
        Some(at) => (&text[..at], &text[at + middle.len()..]),
        None => (text, text),
    };
    let body = noise(&"body", usize::from(*size) << 12);
    (
        Blob::new(body.clone(), one, Footer::Long, None),
        Blob::new(body, other, Footer::Short, None),
    )
}

/// Puts a blob together from another one and from itself. `honest` is whether both tables are true.
fn check(wanted: &Blob, other: Option<&Blob>, honest: bool) {
    let Some(table) = TablePosition::of(&wanted.descriptor()) else {
        return;
    };
    let size = wanted.bytes.len() as u64;
    assert!(table.tail() < size, "a table beyond the blob");
    for (blob, is_itself) in [(Some(wanted), true), (other, false)] {
        let Some(blob) = blob else { continue };
        let file = blob.file();
        let inode = file.metadata().expect("a file").ino();
        let Some(source) = Source::new(file) else {
            assert!(!honest, "a true table is not read");
            continue;
        };
        let sources = [source];
        let limit = (inode, blob.tail());
        // From the first byte on, and where another download left off.
        for from in [0, table.tail() / 3, table.tail()] {
            let tail = Bytes::copy_from_slice(&wanted.bytes[table.tail() as usize..]);
            let all_is_here = honest && is_itself && from == 0 && table.tail() >= SURELY_COPIED;
            let Some(plan) = Plan::new(table, tail, &sources, from) else {
                assert!(!all_is_here, "it is here, and asked for");
                continue;
            };
            assert!(!all_is_here || plan.copied() == table.tail(), "not all");
            let made = follow(&plan, wanted, table.tail(), from, limit);
            assert!(!honest || made == wanted.bytes, "it became another blob");
        }
    }
}

/// Goes through a plan from a position to the blob's last byte; what comes of it, with what was there
/// before. `limit` is the inode of the only source, and where what its table speaks of ends.
fn follow(plan: &Plan, wanted: &Blob, tail: u64, from: u64, limit: (u64, u64)) -> Vec<u8> {
    let size = wanted.bytes.len() as u64;
    let mut made = wanted.bytes[..from as usize].to_vec();
    let mut copied = 0;
    while (made.len() as u64) < size {
        let position = made.len() as u64;
        match plan.here(position) {
            None => {
                let until = plan.missing_until(position);
                assert!(position < until && until <= tail, "a step that is none");
                assert!(plan.here(until - 1).is_none(), "it is here as well");
                assert_eq!(plan.missing_until(until - 1), until, "another end");
                made.extend_from_slice(&wanted.bytes[position as usize..until as usize]);
            }
            Some(Part::Region(part)) => {
                assert!(part.length > 0 && part.length <= tail - position, "too far");
                let inode = part.file.metadata().expect("a file").ino();
                assert_eq!(inode, limit.0, "a file that is no source");
                let end = part.start.checked_add(part.length).expect("a place");
                assert!(end <= limit.1, "more than the source's table speaks of");
                let mut bytes = vec![0; part.length as usize];
                part.file
                    .read_exact_at(&mut bytes, part.start)
                    .expect("a source");
                made.extend(bytes);
                copied += part.length;
                check_middle(plan, position, part.start, part.length);
            }
            Some(Part::Bytes(bytes)) => {
                assert!(position >= tail && !bytes.is_empty(), "the end too early");
                made.extend_from_slice(&bytes);
            }
        }
    }
    assert_eq!(made.len() as u64, size, "more than the blob has");
    assert!(copied <= plan.copied(), "more than it says");
    assert!(from > 0 || copied == plan.copied(), "the sum is another");
    made
}

/// A download that was given up goes on anywhere.
fn check_middle(plan: &Plan, position: u64, from: u64, length: u64) {
    for into in [1, length / 2, length - 1] {
        if into == 0 || into >= length {
            continue;
        }
        let is_same = matches!(plan.here(position + into), Some(Part::Region(part))
            if part.start == from + into && part.length == length - into);
        assert!(is_same, "another part in the middle");
    }
}

/// A blob, and what its descriptor says of the table.
struct Blob {
    bytes: Vec<u8>,
    words: [u64; 4],
}

#[derive(Clone, Copy, Debug)]
enum Footer {
    /// With room for a tar-split's place.
    Long,
    /// Without.
    Short,
}

impl Blob {
    /// Frames with a table behind them; `lie` is a number of the footer that is to be another.
    fn new(body: Vec<u8>, table: &[u8], footer: Footer, lie: Option<(usize, u64)>) -> Self {
        let packed = zstd::bulk::compress(table, 1).expect("memory takes everything");
        let mut bytes = body;
        let offset = bytes.len() as u64 + 8;
        let mut words = [offset, packed.len() as u64, table.len() as u64, 1];
        if let Some((index, number)) = lie {
            words[index] = number;
        }
        let mut end: Vec<u8> = words.map(u64::to_le_bytes).concat();
        match footer {
            Footer::Long => {
                end.resize(56, 0);
                end.extend(b"GNUlInUx");
            }
            Footer::Short => end.extend(b"GnUlInUx"),
        }
        for frame in [packed, end] {
            bytes.extend(0x184d_2a50_u32.to_le_bytes());
            bytes.extend((frame.len() as u32).to_le_bytes());
            bytes.extend(frame);
        }
        Self { bytes, words }
    }

    /// Any bytes, with what would be the footer's numbers.
    fn of_bytes(bytes: &[u8]) -> Self {
        let length = if bytes.ends_with(b"GnUlInUx") { 40 } else { 64 };
        let end = &bytes[bytes.len().saturating_sub(length)..];
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(end.as_chunks().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        Self {
            bytes: bytes.to_vec(),
            words,
        }
    }

    /// Where the table's frame begins, by the footer.
    fn tail(&self) -> u64 {
        self.words[0].saturating_sub(8)
    }

    fn descriptor(&self) -> oci_spec::image::Descriptor {
        let words = self.words.map(|word| word.to_string());
        let descriptor = json!({
            "mediaType": "application/vnd.oci.image.layer.v1.tar+zstd",
            "digest": format!("sha256:{:064x}", 0),
            "size": self.bytes.len(),
            "annotations": {
                "io.github.containers.zstd-chunked.manifest-position": words.join(":"),
            },
        });
        serde_json::from_value(descriptor).expect("a descriptor")
    }

    fn file(&self) -> File {
        let write = || -> io::Result<File> {
            let mut file = File::from(memfd_create("blob", MemfdFlags::CLOEXEC)?);
            file.write_all(&self.bytes)?;
            Ok(file)
        };
        write().expect("a file in memory")
    }
}

/// What a blob has in it, and what its table says.
struct Content {
    body: Vec<u8>,
    entries: Vec<Value>,
    footer: Footer,
    lie: Option<(usize, u64)>,
}

impl Content {
    /// Files, directories and links: two that are alike in the table have the same frames.
    fn choose(choice: &mut Choice<'_>) -> Self {
        let footer = [Footer::Long, Footer::Short][choice.below(2)];
        let mut content = Self {
            body: Vec::new(),
            entries: Vec::new(),
            footer,
            lie: None,
        };
        let mut headers = Vec::new();
        for number in 0..choice.below(12) {
            let seed = choice.below(5);
            let size = [140_000, 0, 1, 1000, 50_000, 70_000][choice.below(6)];
            let kind = ["reg", "reg", "reg", "dir", "symlink", "hardlink"][choice.below(6)];
            let name = format!("{number}/{seed}");
            let mode = [0o644, 0o755][choice.below(2)];
            headers.push(format!("{name} {kind} {size} {mode}"));
            let mut entry = json!({"type": kind, "name": name, "mode": mode});
            if kind != "reg" || size == 0 {
                entry["size"] = size.into();
                content.entries.push(entry);
                continue;
            }
            content.frame(&headers, 90 + headers.len());
            headers = vec![format!("padding {}", size % 512)];
            content.file(&entry, seed, size, choice.below(3) + 1);
        }
        content.frame(&headers, 1024);
        content
    }

    /// Adds bytes that stand for a frame: nothing here unpacks them.
    fn frame(&mut self, what: &impl Hash, length: usize) {
        self.body.extend(noise(what, length));
    }

    /// A file of some chunks.
    fn file(&mut self, first: &Value, seed: usize, size: usize, chunks: usize) {
        let begun = self.entries.len();
        for chunk in 0..chunks {
            let mut entry = if chunk == 0 {
                first.clone()
            } else {
                json!({"type": "chunk", "name": first["name"]})
            };
            let of_chunk = format!("sha256:{seed}-{size}-{chunk}-{chunks}");
            entry["offset"] = self.body.len().into();
            if chunks > 1 {
                entry["chunkSize"] = (size / chunks).into();
                entry["chunkDigest"] = of_chunk.clone().into();
            }
            if chunk == 0 {
                entry["digest"] = format!("sha256:{seed}-{size}").into();
                entry["size"] = size.into();
            }
            let of_whole = format!("sha256:{seed}-{size}");
            let what = if chunks > 1 { of_chunk } else { of_whole };
            self.frame(&what, size / chunks + 9);
            self.entries.push(entry);
        }
        self.entries[begun]["endOffset"] = self.body.len().into();
    }

    /// Has the table say something else.
    fn lie(&mut self, choice: &mut Choice<'_>) {
        let size = self.body.len() as u64;
        let numbers = [
            0,
            1,
            size / 2,
            size - 1,
            size,
            size + 1,
            size + 8,
            1 << 40,
            1 << 63,
            u64::MAX,
        ];
        let keys = [
            "offset",
            "endOffset",
            "size",
            "chunkSize",
            "type",
            "digest",
            "chunkDigest",
        ];
        for _ in 0..=choice.below(3) {
            if self.entries.is_empty() {
                break;
            }
            let at = choice.below(self.entries.len());
            let key = keys[choice.below(keys.len())];
            let number = numbers[choice.below(numbers.len())];
            let from = choice.below(self.entries.len());
            match choice.below(5) {
                0 => self.entries[at][key] = number.into(),
                // What another entry says.
                1 => self.entries[at][key] = self.entries[from][key].clone(),
                2 => self.entries.swap(at, from),
                3 => self.entries.insert(at, self.entries[from].clone()),
                _ => self.entries[at]["type"] = ["chunk", "reg"][choice.below(2)].into(),
            }
            // A key that is not there was taken.
            if let Some(entry) = self.entries[at].as_object_mut() {
                entry.retain(|_, value| !value.is_null());
            }
        }
        if choice.below(6) == 5 {
            self.lie = Some((choice.below(4), numbers[choice.below(numbers.len())]));
        }
    }

    fn into_blob(self) -> Blob {
        let table = json!({"version": 1, "entries": self.entries}).to_string();
        Blob::new(self.body, table.as_bytes(), self.footer, self.lie)
    }
}

/// How many bytes without a pattern there are: several times what is asked for at once.
const NOISE: usize = 4 << 20;

/// Bytes without a pattern, the same for the same thing: a stretch of those that are made once, because
/// without optimisation making them is most of the work.
fn noise(of: &impl Hash, length: usize) -> Vec<u8> {
    static ALL: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut bytes = Vec::with_capacity(NOISE);
        while bytes.len() < NOISE {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            bytes.extend_from_slice(&state.to_le_bytes());
        }
        bytes
    });
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    let start = hasher.finish() as usize % (NOISE - length);
    ALL[start..start + length].to_vec()
}
