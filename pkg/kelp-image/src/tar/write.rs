//! A writer of tar archives: ustar, and pax headers (pax(1)) for what ustar has no room for. Sparse files
//! are written as GNU tar's format 1.0 has them, which Go's and Python's readers and libarchive know as well.

use std::io::{self, Write};

use super::sparse::write_map;
use super::{BLOCK, Entry, Kind};

/// Writes entries one after another.
#[derive(Debug)]
pub struct TarWriter<W> {
    sink: W,
    /// Content of the current entry that is still to come.
    remaining: u64,
    padding: usize,
}

impl<W: Write> TarWriter<W> {
    /// Writes to `sink`, in pieces as small as a header: give it a buffer.
    pub fn new(sink: W) -> Self {
        Self {
            sink,
            remaining: 0,
            padding: 0,
        }
    }

    /// Begins an entry. A file's content of exactly [`Entry::size`] bytes follows by
    /// [`TarWriter::content`]; of a sparse file what its segments hold, one after another.
    pub fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        self.end_content()?;
        let mut path = entry.path.clone();
        if entry.kind == Kind::Directory && !path.ends_with(b"/") {
            path.push(b'/');
        }
        let segments = entry.sparse.as_deref().filter(|_| entry.kind == Kind::File);
        let map = segments.map(write_map).unwrap_or_default();
        let content = match segments {
            Some(segments) => segments.iter().map(|segment| segment.length).sum(),
            None if entry.kind == Kind::File => entry.size,
            None => 0,
        };
        let size = content + map.len() as u64;
        let records = records(entry, &path, size, segments.is_some());
        if !records.is_empty() {
            let mut header = Header::new(b'x');
            header.text(0, 100, b"pax");
            header.number(100, 8, 0o644);
            header.number(124, 12, records.len() as u64);
            self.sink.write_all(&header.finish())?;
            self.sink.write_all(&records)?;
            self.pad(records.len() as u64)?;
        }
        let mut header = Header::new(type_flag(entry.kind));
        if segments.is_some() {
            // Who does not know the format sees that this is not the file itself.
            let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or_default();
            header.text(0, 100, &[b"GNUSparseFile.0/", name].concat());
        } else {
            header.text(0, 100, &path);
        }
        header.number(100, 8, entry.mode.into());
        header.number(108, 8, entry.uid);
        header.number(116, 8, entry.gid);
        header.number(124, 12, size);
        header.number(136, 12, u64::try_from(entry.mtime).unwrap_or(0));
        header.text(157, 100, &entry.link);
        if matches!(entry.kind, Kind::CharacterDevice | Kind::BlockDevice) {
            header.number(329, 8, entry.major.into());
            header.number(337, 8, entry.minor.into());
        }
        self.sink.write_all(&header.finish())?;
        self.sink.write_all(&map)?;
        self.remaining = content;
        self.padding = (size.wrapping_neg() % BLOCK as u64) as usize;
        Ok(())
    }

    /// Adds to the current file's content; whether it is complete. What is too much is left out: a
    /// file may grow while it is read.
    pub fn content(&mut self, bytes: &[u8]) -> io::Result<bool> {
        let room = usize::try_from(self.remaining).unwrap_or(usize::MAX);
        let bytes = &bytes[..bytes.len().min(room)];
        self.sink.write_all(bytes)?;
        self.remaining -= bytes.len() as u64;
        Ok(self.remaining == 0)
    }

    /// Ends the archive; gives the sink back, flushed.
    pub fn finish(mut self) -> io::Result<W> {
        self.end_content()?;
        self.sink.write_all(&[0; 2 * BLOCK])?;
        self.sink.flush()?;
        Ok(self.sink)
    }

    /// A file that was cut while it was read is filled up with zeros: its size has been told.
    fn end_content(&mut self) -> io::Result<()> {
        let zeros = [0; BLOCK];
        while self.remaining > 0 {
            let count = zeros.len().min(self.remaining as usize);
            self.sink.write_all(&zeros[..count])?;
            self.remaining -= count as u64;
        }
        self.sink.write_all(&zeros[..self.padding])?;
        self.padding = 0;
        Ok(())
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        let padding = (size.wrapping_neg() % BLOCK as u64) as usize;
        self.sink.write_all(&[0; BLOCK][..padding])
    }
}

fn type_flag(kind: Kind) -> u8 {
    match kind {
        Kind::File => b'0',
        Kind::HardLink => b'1',
        Kind::Symlink => b'2',
        Kind::CharacterDevice => b'3',
        Kind::BlockDevice => b'4',
        Kind::Directory => b'5',
        Kind::Fifo => b'6',
    }
}

/// The largest number of an octal field of `width` bytes, of which the last ends it.
fn largest(width: usize) -> u64 {
    (1 << (3 * (width - 1))) - 1
}

/// What does not fit the header, as pax records; `size` is that of what is stored.
fn records(entry: &Entry, path: &[u8], size: u64, is_sparse: bool) -> Vec<u8> {
    let mut records = Vec::new();
    let mut add = |keyword: &[u8], value: &[u8]| {
        // The length counts its own digits.
        let rest = keyword.len() + value.len() + 3;
        let mut length = rest + 1;
        while rest + length.to_string().len() != length {
            length = rest + length.to_string().len();
        }
        records.extend_from_slice(length.to_string().as_bytes());
        records.push(b' ');
        records.extend_from_slice(keyword);
        records.push(b'=');
        records.extend_from_slice(value);
        records.push(b'\n');
    };
    let number = |number: u64| number.to_string().into_bytes();
    if is_sparse {
        add(b"GNU.sparse.major", b"1");
        add(b"GNU.sparse.minor", b"0");
        add(b"GNU.sparse.name", path);
        add(b"GNU.sparse.realsize", &number(entry.size));
    } else if path.len() > 100 {
        add(b"path", path);
    }
    if entry.link.len() > 100 {
        add(b"linkpath", &entry.link);
    }
    if size > largest(12) {
        add(b"size", &number(size));
    }
    if entry.uid > largest(8) {
        add(b"uid", &number(entry.uid));
    }
    if entry.gid > largest(8) {
        add(b"gid", &number(entry.gid));
    }
    let is_plain_time = entry.mtime_nanoseconds == 0
        && u64::try_from(entry.mtime).is_ok_and(|seconds| seconds <= largest(12));
    if !is_plain_time {
        add(b"mtime", decimal(entry).as_bytes());
    }
    for (name, value) in &entry.xattrs {
        // The form has no way to write these.
        if !name.contains(&b'=') && !name.contains(&0) {
            add(&[b"SCHILY.xattr.", name.as_slice()].concat(), value);
        }
    }
    records
}

/// The time as a decimal number: before 1970, the nanoseconds count towards it.
fn decimal(entry: &Entry) -> String {
    let (seconds, nanoseconds) = (entry.mtime, entry.mtime_nanoseconds);
    if nanoseconds == 0 {
        return seconds.to_string();
    }
    if seconds >= 0 {
        return format!("{seconds}.{nanoseconds:09}");
    }
    format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds)
}

struct Header([u8; BLOCK]);

impl Header {
    fn new(type_flag: u8) -> Self {
        let mut header = Self([0; BLOCK]);
        header.0[156] = type_flag;
        header.0[257..265].copy_from_slice(b"ustar\x0000");
        for (at, width) in [(100, 8), (108, 8), (116, 8), (124, 12), (136, 12)] {
            header.number(at, width, 0);
        }
        header
    }

    fn text(&mut self, at: usize, width: usize, text: &[u8]) {
        let text = &text[..text.len().min(width)];
        self.0[at..at + text.len()].copy_from_slice(text);
    }

    /// A number that is too large is told by a pax record, and is 0 here.
    fn number(&mut self, at: usize, width: usize, number: u64) {
        let number = if number > largest(width) { 0 } else { number };
        let text = format!("{number:0width$o}\0", width = width - 1);
        self.0[at..at + width].copy_from_slice(text.as_bytes());
    }

    fn finish(mut self) -> [u8; BLOCK] {
        self.0[148..156].fill(b' ');
        let sum: u64 = self.0.iter().map(|&byte| u64::from(byte)).sum();
        self.0[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tar::TarReader;

    fn read(archive: &[u8]) -> Vec<(Entry, Vec<u8>)> {
        let mut reader = TarReader::new(archive);
        let mut entries = Vec::new();
        let mut entry = Entry::default();
        while reader.next(&mut entry).unwrap() {
            let mut content = Vec::new();
            while reader.remaining() > 0 {
                let part = reader.content().unwrap().to_vec();
                reader.consume(part.len());
                content.extend(part);
            }
            entries.push((entry.clone(), content));
        }
        entries
    }

    #[test]
    fn what_is_written_is_read_again() {
        let long = |byte: u8| vec![byte; 300];
        let entries = [
            Entry {
                path: b"a/".to_vec(),
                kind: Kind::Directory,
                mode: 0o1755,
                mtime: 1_000_000_000,
                ..Entry::default()
            },
            Entry {
                path: long(b'p'),
                mode: 0o644,
                uid: 100_000,
                gid: 0o10_000_000,
                size: 5,
                mtime: 1,
                mtime_nanoseconds: 5,
                xattrs: vec![(b"user.a".to_vec(), b"x\0\n=y".to_vec())],
                ..Entry::default()
            },
            Entry {
                path: b"old".to_vec(),
                mtime: -2,
                mtime_nanoseconds: 250_000_000,
                ..Entry::default()
            },
            Entry {
                path: b"link".to_vec(),
                kind: Kind::Symlink,
                link: long(b'l'),
                ..Entry::default()
            },
            Entry {
                path: b"device".to_vec(),
                kind: Kind::CharacterDevice,
                major: 1,
                minor: 3,
                ..Entry::default()
            },
        ];
        let mut writer = TarWriter::new(Vec::new());
        for entry in &entries {
            writer.entry(entry).unwrap();
            if entry.size > 0 {
                assert!(!writer.content(b"he").unwrap());
                assert!(writer.content(b"llo and more").unwrap());
            }
        }
        let archive = writer.finish().unwrap();
        assert_eq!(archive.len() % BLOCK, 0);
        let found = read(&archive);
        assert_eq!(found.len(), entries.len());
        for ((found, content), entry) in found.iter().zip(&entries) {
            assert_eq!(found, entry);
            assert_eq!(
                content.as_slice(),
                if entry.size > 0 { &b"hello"[..] } else { b"" }
            );
        }
    }

    #[test]
    fn a_sparse_file_is_written_without_its_holes() {
        let segment = |offset, length| crate::tar::sparse::Segment { offset, length };
        let entry = Entry {
            path: [b"d/".as_slice(), &[b'n'; 200]].concat(),
            size: 1 << 40,
            sparse: Some(vec![
                segment(4096, 3),
                segment(1 << 39, 2),
                segment(1 << 40, 0),
            ]),
            ..Entry::default()
        };
        let mut writer = TarWriter::new(Vec::new());
        writer.entry(&entry).unwrap();
        assert!(!writer.content(b"abc").unwrap());
        assert!(writer.content(b"de").unwrap());
        let after = Entry {
            path: b"after".to_vec(),
            ..Entry::default()
        };
        writer.entry(&after).unwrap();
        let archive = writer.finish().unwrap();
        assert!(archive.len() < 8 * BLOCK + 2 * BLOCK);
        let found = read(&archive);
        assert_eq!(found, [(entry, b"abcde".to_vec()), (after, Vec::new())]);
    }

    #[test]
    fn a_file_that_was_cut_keeps_the_archive_whole() {
        let mut writer = TarWriter::new(Vec::new());
        let mut entry = Entry {
            path: b"a".to_vec(),
            size: 1000,
            ..Entry::default()
        };
        writer.entry(&entry).unwrap();
        writer.content(b"abc").unwrap();
        entry.path = b"b".to_vec();
        entry.size = 0;
        writer.entry(&entry).unwrap();
        let found = read(&writer.finish().unwrap());
        assert_eq!(found[0].1.len(), 1000);
        assert_eq!(&found[0].1[..4], b"abc\0");
        assert_eq!(found[1].0.path, b"b");
    }
}
