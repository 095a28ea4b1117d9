//! Entries to bytes.

use kelp_image::tar::Kind;
use kelp_image::tar::write::TarWriter;

use super::{Format, Item};

/// The archive that has these entries.
#[must_use]
pub fn encode(items: &[Item]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for item in items {
        if item.format == Format::Own {
            own(item, &mut bytes);
        } else {
            Encoder {
                item,
                bytes: &mut bytes,
            }
            .encode();
        }
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

/// What the engine's writer makes of it, without the end mark.
fn own(item: &Item, bytes: &mut Vec<u8>) {
    let mut writer = TarWriter::new(Vec::new());
    let written = writer
        .entry(&item.entry)
        .and_then(|()| writer.content(&item.content))
        .and_then(|_| writer.finish());
    let archive = written.expect("memory takes everything");
    bytes.extend_from_slice(&archive[..archive.len() - 1024]);
}

/// Writes a block's checksum over all of it, the checksum being spaces.
pub(super) fn write_checksum(block: &mut [u8]) {
    block[148..156].fill(b' ');
    let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
}

struct Encoder<'a> {
    item: &'a Item,
    bytes: &'a mut Vec<u8>,
}

impl Encoder<'_> {
    fn encode(&mut self) {
        let entry = &self.item.entry;
        let mut format = self.item.format;
        let needs_pax = entry.mtime_nanoseconds != 0 || !entry.xattrs.is_empty();
        if needs_pax && matches!(format, Format::Ustar | Format::Gnu) {
            format = Format::Pax10;
        }
        match format {
            Format::Ustar if self.ustar() => {}
            Format::Gnu => self.gnu(),
            Format::Ustar | Format::Own | Format::Pax10 => self.pax(10),
            Format::Pax00 => self.pax(0),
            Format::Pax01 => self.pax(1),
        }
    }

    /// The name as it is stored: a directory's ends with a slash.
    fn path(&self) -> Vec<u8> {
        let mut path = self.item.entry.path.clone();
        if self.item.entry.kind == Kind::Directory && !path.ends_with(b"/") {
            path.push(b'/');
        }
        path
    }

    fn ustar(&mut self) -> bool {
        let entry = &self.item.entry;
        let path = self.path();
        let fits = entry.link.len() <= 100
            && entry.sparse.is_none()
            && (0..1 << 33).contains(&entry.mtime)
            && entry.uid.max(entry.gid) < 1 << 21;
        if !fits {
            return false;
        }
        // The prefix ends before a slash that is left out.
        let split = if path.len() <= 100 {
            None
        } else {
            let slash = |at: &usize| path[*at] == b'/' && (1..=155).contains(at);
            match (path.len() - 101..path.len() - 1).find(slash) {
                Some(at) => Some(at),
                None => return false,
            }
        };
        let (prefix, name) = match split {
            Some(at) => (&path[..at], &path[at + 1..]),
            None => (&[][..], path.as_slice()),
        };
        let mut block = self.header(type_flag(entry.kind), name, self.item.content.len() as u64);
        block[257..265].copy_from_slice(b"ustar\x0000");
        block[345..345 + prefix.len()].copy_from_slice(prefix);
        self.finish(block);
        self.content(&[]);
        true
    }

    fn gnu(&mut self) {
        let path = self.path();
        let entry = &self.item.entry;
        for (flag, text) in [(b'K', &entry.link), (b'L', &path)] {
            if text.len() > 100 {
                let text = [text.as_slice(), b"\0"].concat();
                let mut block = self.header(flag, b"././@LongLink", text.len() as u64);
                block[257..265].copy_from_slice(b"ustar  \0");
                self.finish(block);
                self.padded(&text);
            }
        }
        let flag = if entry.sparse.is_some() {
            b'S'
        } else {
            type_flag(entry.kind)
        };
        let mut block = self.header(flag, &path, self.item.content.len() as u64);
        block[257..265].copy_from_slice(b"ustar  \0");
        let mut more = Vec::new();
        if entry.sparse.is_some() {
            let pairs = self.item.segments().iter();
            let mut pairs = pairs
                .map(|segment| [octal(segment.offset), octal(segment.length)].concat())
                .collect::<Vec<_>>();
            let rest = pairs.split_off(pairs.len().min(4));
            let first = pairs.concat();
            block[386..386 + first.len()].copy_from_slice(&first);
            block[482] = u8::from(!rest.is_empty());
            block[483..495].copy_from_slice(&octal(entry.size));
            let blocks = rest.chunks(21).count();
            for (index, chunk) in rest.chunks(21).enumerate() {
                let mut bytes = chunk.concat();
                bytes.resize(504, 0);
                bytes.push(u8::from(index + 1 < blocks));
                bytes.resize(512, 0);
                more.extend(bytes);
            }
        }
        self.finish(block);
        self.bytes.extend(more);
        self.content(&[]);
    }

    fn pax(&mut self, version: u8) {
        let entry = &self.item.entry;
        let path = self.path();
        let mut records = Vec::new();
        let number = |number: u64| number.to_string().into_bytes();
        let mut map = Vec::new();
        if entry.sparse.is_some() {
            let segments = self.item.segments();
            match version {
                0 => {
                    record(&mut records, b"GNU.sparse.size", &number(entry.size));
                    record(
                        &mut records,
                        b"GNU.sparse.numblocks",
                        &number(segments.len() as u64),
                    );
                    for segment in segments {
                        record(&mut records, b"GNU.sparse.offset", &number(segment.offset));
                        record(
                            &mut records,
                            b"GNU.sparse.numbytes",
                            &number(segment.length),
                        );
                    }
                }
                1 => {
                    let pairs = segments.iter().flat_map(|s| [s.offset, s.length]);
                    let text: Vec<_> = pairs.map(|number| number.to_string()).collect();
                    record(&mut records, b"GNU.sparse.size", &number(entry.size));
                    record(
                        &mut records,
                        b"GNU.sparse.numblocks",
                        &number(segments.len() as u64),
                    );
                    record(&mut records, b"GNU.sparse.map", text.join(",").as_bytes());
                    record(&mut records, b"GNU.sparse.name", &path);
                }
                _ => {
                    record(&mut records, b"GNU.sparse.major", b"1");
                    record(&mut records, b"GNU.sparse.minor", b"0");
                    record(&mut records, b"GNU.sparse.name", &path);
                    record(&mut records, b"GNU.sparse.realsize", &number(entry.size));
                    map = format!("{}\n", segments.len()).into_bytes();
                    for segment in segments {
                        map.extend(format!("{}\n{}\n", segment.offset, segment.length).bytes());
                    }
                    map.resize(map.len().next_multiple_of(512), 0);
                }
            }
        }
        record(&mut records, b"path", &path);
        if !entry.link.is_empty() {
            record(&mut records, b"linkpath", &entry.link);
        }
        record(&mut records, b"uid", &number(entry.uid));
        record(&mut records, b"gid", &number(entry.gid));
        record(
            &mut records,
            b"mtime",
            &time(entry.mtime, entry.mtime_nanoseconds),
        );
        for (name, value) in &entry.xattrs {
            record(
                &mut records,
                &[b"SCHILY.xattr.", name.as_slice()].concat(),
                value,
            );
        }
        let stored = (map.len() + self.item.content.len()) as u64;
        if self.item.has_content() {
            record(&mut records, b"size", &number(stored));
        }
        let mut block = self.header(b'x', b"pax", records.len() as u64);
        block[257..265].copy_from_slice(b"ustar\x0000");
        self.finish(block);
        self.padded(&records);
        let mut block = self.header(type_flag(entry.kind), &path, stored);
        block[257..265].copy_from_slice(b"ustar\x0000");
        self.finish(block);
        self.content(&map);
    }

    fn header(&self, flag: u8, name: &[u8], size: u64) -> [u8; 512] {
        let entry = &self.item.entry;
        let mut block = [0; 512];
        let name = &name[..name.len().min(100)];
        block[..name.len()].copy_from_slice(name);
        block[100..108].copy_from_slice(format!("{:07o}\0", entry.mode).as_bytes());
        put(&mut block[108..116], entry.uid as i64);
        put(&mut block[116..124], entry.gid as i64);
        put(&mut block[124..136], size as i64);
        put(&mut block[136..148], entry.mtime);
        block[156] = flag;
        let link = &entry.link[..entry.link.len().min(100)];
        block[157..157 + link.len()].copy_from_slice(link);
        if matches!(entry.kind, Kind::CharacterDevice | Kind::BlockDevice) {
            put(&mut block[329..337], entry.major.into());
            put(&mut block[337..345], entry.minor.into());
        }
        block
    }

    fn finish(&mut self, mut block: [u8; 512]) {
        write_checksum(&mut block);
        self.bytes.extend_from_slice(&block);
    }

    fn content(&mut self, before: &[u8]) {
        if self.item.has_content() {
            self.padded(&[before, &self.item.content].concat());
        }
    }

    fn padded(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
        let length = self.bytes.len().next_multiple_of(512);
        self.bytes.resize(length, 0);
    }
}

/// An octal number, or one in base 256 where that has no room.
fn put(field: &mut [u8], number: i64) {
    let digits = field.len() - 1;
    if (0..1 << (3 * digits)).contains(&number) {
        let text = format!("{number:0digits$o}\0");
        field.copy_from_slice(text.as_bytes());
        return;
    }
    let bytes = number.to_be_bytes();
    let fill = if number < 0 { 0xff } else { 0 };
    let (start, end) = field.split_at_mut(field.len().saturating_sub(8));
    start.fill(fill);
    end.copy_from_slice(&bytes[8 - end.len()..]);
    field[0] = (field[0] & 0x7f) | 0x80;
}

fn octal(number: u64) -> Vec<u8> {
    let mut field = vec![0; 12];
    put(&mut field, number as i64);
    field
}

fn record(records: &mut Vec<u8>, keyword: &[u8], value: &[u8]) {
    let rest = keyword.len() + value.len() + 3;
    let mut length = rest + 1;
    while rest + length.to_string().len() != length {
        length = rest + length.to_string().len();
    }
    records.extend(format!("{length} ").bytes());
    records.extend([keyword, b"=", value, b"\n"].concat());
}

fn time(seconds: i64, nanoseconds: u32) -> Vec<u8> {
    let text = match (seconds, nanoseconds) {
        (_, 0) => seconds.to_string(),
        (0.., _) => format!("{seconds}.{nanoseconds:09}"),
        _ => format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds),
    };
    text.into_bytes()
}

/// Not the writer's table: what is held against it is written once more.
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
