//! Tests of the tar reader.

use std::io::{BufReader, Read};

use super::build::Archive;
use super::*;

/// Reads a whole archive through a small buffer: every entry and its stored bytes.
fn read(bytes: &[u8]) -> Result<Vec<(Entry, Vec<u8>)>, TarError> {
    read_with_buffer(bytes, 100)
}

fn read_with_buffer(bytes: &[u8], buffer: usize) -> Result<Vec<(Entry, Vec<u8>)>, TarError> {
    let mut reader = TarReader::new(BufReader::with_capacity(buffer, bytes));
    let mut entries = Vec::new();
    let mut entry = Entry::default();
    while reader.next(&mut entry)? {
        let mut content = Vec::new();
        while reader.remaining() > 0 {
            let part = reader.content()?;
            let count = part.len();
            content.extend_from_slice(part);
            reader.consume(count);
        }
        entries.push((entry.clone(), content));
    }
    Ok(entries)
}

fn one(bytes: &[u8]) -> (Entry, Vec<u8>) {
    let mut entries = read(bytes).unwrap();
    assert_eq!(entries.len(), 1);
    entries.remove(0)
}

fn path(entry: &Entry) -> String {
    String::from_utf8_lossy(&entry.path).into_owned()
}

#[test]
fn every_kind_of_entry() {
    let archive = Archive::new()
        .mode(0o4755)
        .owner(1000, 100)
        .file("file", b"content")
        .directory("directory/")
        .symlink("symlink", "../target")
        .hard_link("hardlink", "file")
        .entry(b'6', "fifo", "", b"")
        .header(b'3', b"char", b"", 0, |block| {
            block[329..345].copy_from_slice(b"0000001\x000000003\0");
        })
        .header(b'4', b"block", b"", 0, |block| {
            block[329..345].copy_from_slice(b"0000010\x000000000\0");
        })
        .entry(b'7', "contiguous", "", b"c")
        .entry(b'\0', "old", "", b"o")
        .entry(b'0', "old-directory/", "", b"")
        .end();
    let entries = read(&archive).unwrap();
    let kinds: Vec<_> = entries.iter().map(|(e, _)| (path(e), e.kind)).collect();
    let expected = [
        ("file", Kind::File),
        ("directory/", Kind::Directory),
        ("symlink", Kind::Symlink),
        ("hardlink", Kind::HardLink),
        ("fifo", Kind::Fifo),
        ("char", Kind::CharacterDevice),
        ("block", Kind::BlockDevice),
        ("contiguous", Kind::File),
        ("old", Kind::File),
        ("old-directory/", Kind::Directory),
    ];
    assert_eq!(kinds, expected.map(|(name, kind)| (name.to_owned(), kind)));
    let (file, content) = &entries[0];
    assert_eq!(content, b"content");
    assert_eq!((file.mode, file.uid, file.gid), (0o4755, 1000, 100));
    assert_eq!((file.size, file.mtime), (7, 1_000_000_000));
    assert_eq!(entries[2].0.link, b"../target");
    assert_eq!((entries[5].0.major, entries[5].0.minor), (1, 3));
    assert_eq!((entries[6].0.major, entries[6].0.minor), (8, 0));
}

#[test]
fn long_names_of_every_format() {
    let long = "d/".repeat(200) + "file";
    let link = "l".repeat(300);
    let gnu = Archive::new()
        .entry(b'K', "././@LongLink", "", format!("{link}\0").as_bytes())
        .entry(b'L', "././@LongLink", "", format!("{long}\0").as_bytes())
        .symlink("short", "short");
    let pax = Archive::new()
        .pax(&[("path", long.as_bytes()), ("linkpath", link.as_bytes())])
        .symlink("short", "short");
    for archive in [gnu, pax] {
        // What was said of one entry must not stick to the next.
        let entries = read(&archive.symlink("next", "n").end()).unwrap();
        assert_eq!(path(&entries[0].0), long);
        assert_eq!(entries[0].0.link, link.as_bytes());
        assert_eq!(path(&entries[1].0), "next");
        assert_eq!(entries[1].0.link, b"n");
    }
    let ustar = Archive::new().header(b'0', b"name", b"", 0, |block| {
        block[345..355].copy_from_slice(b"the/prefix");
    });
    assert_eq!(path(&one(&ustar.end()).0), "the/prefix/name");
    let full = Archive::new().header(b'0', &[b'n'; 100], b"", 0, |block| {
        block[345..500].fill(b'p');
    });
    assert_eq!(one(&full.end()).0.path.len(), 256);
    let gnu_times = Archive::new().header(b'0', b"name", b"", 0, |block| {
        block[257..265].copy_from_slice(b"ustar  \0");
        block[345..357].copy_from_slice(b"12345670123\0");
    });
    assert_eq!(path(&one(&gnu_times.end()).0), "name");
}

#[test]
fn names_are_bytes() {
    let name = b"caf\xe9/\xff\xfe";
    let plain = Archive::new().header(b'0', name, b"", 0, |_| {}).end();
    assert_eq!(one(&plain).0.path, name);
    let pax = Archive::new().pax(&[("path", name)]).file("x", b"").end();
    assert_eq!(one(&pax).0.path, name);
}

#[test]
fn pax_overrides_the_header() {
    let archive = Archive::new()
        .pax(&[
            ("uid", b"4294967294"),
            ("gid", b"2097152"),
            ("mtime", b"1234567890.987654321"),
            ("size", b"3"),
            ("SCHILY.xattr.user.a", b"one=1\nand \0 more"),
            ("SCHILY.xattr.security.capability", b"\x01\0\0\x02"),
            ("comment", b"ignored"),
        ])
        .header(b'0', b"f", b"", 0, |_| {})
        .content(b"abc")
        .file("next", b"")
        .end();
    let entries = read(&archive).unwrap();
    let (entry, content) = &entries[0];
    assert_eq!(content, b"abc");
    assert_eq!((entry.uid, entry.gid), (4_294_967_294, 2_097_152));
    assert_eq!(entry.mtime, 1_234_567_890);
    assert_eq!(entry.mtime_nanoseconds, 987_654_321);
    assert_eq!(entry.xattrs.len(), 2);
    assert_eq!(entry.xattrs[0].0, b"user.a");
    assert_eq!(entry.xattrs[0].1, b"one=1\nand \0 more");
    assert!(entries[1].0.xattrs.is_empty());
    assert_eq!(entries[1].0.uid, 0);
}

#[test]
fn global_headers_hold_until_the_next() {
    let archive = Archive::new()
        .extension(
            b'g',
            &[("uid", b"7"), ("path", b"nonsense"), ("comment", b"c")],
        )
        .file("a", b"")
        .pax(&[("uid", b"8")])
        .file("b", b"")
        .extension(b'g', &[("uid", b"")])
        .file("c", b"")
        .end();
    let entries = read(&archive).unwrap();
    let seen: Vec<_> = entries.iter().map(|(e, _)| (path(e), e.uid)).collect();
    let expected = [("a", 7), ("b", 8), ("c", 0)];
    assert_eq!(seen, expected.map(|(name, uid)| (name.to_owned(), uid)));
}

#[test]
fn sizes_beyond_octal() {
    let archive = Archive::new().header(b'0', b"huge", b"", 0, |block| {
        block[124..136].copy_from_slice(&[0x80, 0, 0, 0, 0, 0, 0, 2, 0x80, 0, 0, 0]);
    });
    let mut reader = TarReader::new(BufReader::new(io::Cursor::new(archive.bytes())));
    let mut entry = Entry::default();
    assert!(reader.next(&mut entry).unwrap());
    assert_eq!(entry.size, 10 << 30);
    assert!(matches!(
        reader.next(&mut entry),
        Err(TarError::Truncated(_))
    ));
    for size in [[0x80, 0, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0], [0xff; 12]] {
        let archive = Archive::new().header(b'0', b"f", b"", 0, |block| {
            block[124..136].copy_from_slice(&size);
        });
        assert!(read(&archive.end()).is_err());
    }
    let pax = Archive::new()
        .pax(&[("size", b"18446744073709551615")])
        .file("f", b"");
    assert!(read(&pax.end()).is_err());
}

fn segments(pairs: &[(u64, u64)]) -> Vec<Segment> {
    let segment = |&(offset, length): &(u64, u64)| Segment { offset, length };
    pairs.iter().map(segment).collect()
}

#[test]
fn sparse_files_of_every_format() {
    let expected = segments(&[(0, 512), (1024, 3), (5000, 0)]);
    let mut stored = vec![b'a'; 512];
    stored.extend_from_slice(b"bcd");
    let old = |more: bool| {
        let archive = Archive::new().header(b'S', b"s", b"", 515, |block| {
            block[257..265].copy_from_slice(b"ustar  \0");
            let mut pairs: Vec<_> = vec!["0", "1000", "2000", "3"];
            if !more {
                pairs.extend(["11610", "0"]);
            }
            for (index, number) in pairs.iter().enumerate() {
                let at = 386 + 12 * index;
                block[at..at + 11].copy_from_slice(format!("{number:0>11}").as_bytes());
            }
            block[482] = more.into();
            block[483..494].copy_from_slice(b"00000011610");
        });
        if !more {
            return archive.content(&stored);
        }
        let mut extension = [0; 512];
        extension[..11].copy_from_slice(b"00000011610");
        extension[12..23].copy_from_slice(b"00000000000");
        archive.content(&extension).content(&stored)
    };
    let pax_0_0 = Archive::new().pax(&[
        ("GNU.sparse.size", b"5000"),
        ("GNU.sparse.numblocks", b"3"),
        ("GNU.sparse.offset", b"0"),
        ("GNU.sparse.numbytes", b"512"),
        ("GNU.sparse.offset", b"1024"),
        ("GNU.sparse.numbytes", b"3"),
        ("GNU.sparse.offset", b"5000"),
        ("GNU.sparse.numbytes", b"0"),
    ]);
    let pax_0_1 = Archive::new().pax(&[
        ("GNU.sparse.size", b"5000"),
        ("GNU.sparse.numblocks", b"3"),
        ("GNU.sparse.map", b"0,512,1024,3,5000,0"),
        ("GNU.sparse.name", b"s"),
    ]);
    let mut with_map = b"3\n0\n512\n1024\n3\n5000\n0\n".to_vec();
    with_map.resize(512, 0);
    with_map.extend_from_slice(&stored);
    let pax_1_0 = Archive::new()
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"s"),
            ("GNU.sparse.realsize", b"5000"),
        ])
        .file("GNUSparseFile.0/s", &with_map);
    for archive in [
        old(false),
        old(true),
        pax_0_0.file("s", &stored),
        pax_0_1.file("GNUSparseFile.0/s", &stored),
        pax_1_0,
    ] {
        let entries = read(&archive.file("next", b"n").end()).unwrap();
        let (entry, content) = &entries[0];
        assert_eq!(path(entry), "s");
        assert_eq!(entry.size, 5000);
        assert_eq!(entry.sparse.as_ref(), Some(&expected));
        assert_eq!(content, &stored);
        assert_eq!(path(&entries[1].0), "next");
        assert_eq!(entries[1].1, b"n");
    }
}

#[test]
fn impossible_sparse_maps_are_refused() {
    let pax = |size: &[u8], map: &[u8]| {
        Archive::new()
            .pax(&[("GNU.sparse.size", size), ("GNU.sparse.map", map)])
            .file("s", b"abcd")
            .end()
    };
    assert!(read(&pax(b"10", b"0,2,4,2")).is_ok());
    for (size, map) in [
        (&b"10"[..], &b"0,2,1,2"[..]),
        (b"10", b"4,2,0,2"),
        (b"10", b"0,4,8,4"),
        (b"10", b"0,3"),
        (b"10", b"0,5"),
        (b"10", b"8,4"),
        (b"10", b"0"),
        (b"10", b"a,b"),
        (b"10", b"18446744073709551615,4"),
        (b"10", b"18446744073709551614,18446744073709551614,0,6"),
        (b"18446744073709551615", b"0,4"),
    ] {
        assert!(read(&pax(size, map)).is_err(), "{}", map.escape_ascii());
    }
    for map in [
        "9999999\n",
        "1\nx\n",
        "1\n0\n",
        "111111111111111111111111\n",
        "",
    ] {
        let mut content = map.as_bytes().to_vec();
        content.resize(512, b'0');
        let archive = Archive::new()
            .pax(&[
                ("GNU.sparse.major", b"1"),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.realsize", b"10"),
            ])
            .file("s", &content)
            .end();
        assert!(read(&archive).is_err(), "{map}");
    }
}

#[test]
fn what_is_damaged_is_refused() {
    let mut wrong_sum = Archive::new().file("f", b"").end();
    wrong_sum[0] = b'g';
    let mut half_end = Archive::new().file("a", b"").bytes();
    half_end.extend_from_slice(&[0; 512]);
    half_end.extend_from_slice(&Archive::new().file("b", b"").end());
    let nul = Archive::new().pax(&[("path", b"a\0b")]).file("f", b"");
    for archive in [
        wrong_sum,
        half_end,
        nul.end(),
        b"this is no archive, but it is longer than a block".repeat(20),
        Archive::new().entry(b'M', "volume", "", b"").end(),
        Archive::new().entry(b'?', "unknown", "", b"").end(),
        Archive::new().entry(b'S', "not-gnu", "", b"").end(),
        Archive::new().entry(b'x', "pax", "", b"garbage").end(),
    ] {
        assert!(matches!(read(&archive), Err(TarError::Damaged(_))));
    }
}

#[test]
fn extension_headers_are_bounded() {
    let large = Archive::new().header(b'x', b"pax", b"", EXTENSION_LIMIT + 1, |_| {});
    assert!(matches!(read(&large.bytes()), Err(TarError::Damaged(_))));
    let long = Archive::new().header(b'L', b"long", b"", 1 << 32, |_| {});
    assert!(matches!(read(&long.bytes()), Err(TarError::Damaged(_))));
    let mut many = Archive::new();
    for _ in 0..=EXTENSIONS_IN_A_ROW {
        many = many.pax(&[("comment", b"x")]);
    }
    assert!(read(&many.file("f", b"").end()).is_err());
    // An archive that never ends, of headers that never do anything.
    let block = Archive::new().extension(b'g', &[("comment", b"x")]).bytes();
    let endless = Endless { block, position: 0 };
    let mut reader = TarReader::new(BufReader::new(endless));
    assert!(reader.next(&mut Entry::default()).is_err());
}

struct Endless {
    block: Vec<u8>,
    position: usize,
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        for byte in &mut *buffer {
            *byte = self.block[self.position];
            self.position = (self.position + 1) % self.block.len();
        }
        Ok(buffer.len())
    }
}

fn mixed() -> Vec<u8> {
    Archive::new()
        .directory("d/")
        .pax(&[("path", b"d/long"), ("SCHILY.xattr.user.x", b"y")])
        .file("d/x", b"some content")
        .entry(b'L', "././@LongLink", "", b"a-name\0")
        .symlink("s", "t")
        .pax(&[("GNU.sparse.size", b"9"), ("GNU.sparse.map", b"0,2,4,2")])
        .file("sparse", b"abcd")
        .end()
}

#[test]
fn an_archive_cut_anywhere_ends_or_fails() {
    let archive = mixed();
    let whole = read(&archive).unwrap().len();
    assert_eq!(whole, 4);
    for end in 0..archive.len() {
        match read(&archive[..end]) {
            Ok(entries) => {
                assert!(entries.len() <= whole);
                // Only between entries, or within the padding behind the last one.
                assert!(end % 512 == 0, "cut at {end}");
            }
            Err(TarError::Truncated(_) | TarError::Damaged(_)) => {}
            Err(TarError::Io(error)) => panic!("{error}"),
        }
    }
}

#[test]
fn a_changed_byte_never_panics() {
    let archive = mixed();
    for index in 0..archive.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut changed = archive.clone();
            changed[index] ^= change;
            // Also past the checksum, as somebody with a purpose would.
            repair_checksum(&mut changed[index / 512 * 512..][..512]);
            let _ = read_with_buffer(&changed, 4096);
        }
    }
}

fn repair_checksum(block: &mut [u8]) {
    if block[257..262] == *b"ustar" {
        block[148..156].fill(b' ');
        let sum: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    }
}

#[test]
fn content_that_is_not_read_is_skipped() {
    let archive = Archive::new().file("a", &[1; 1500]).file("b", b"2").end();
    let mut reader = TarReader::new(BufReader::with_capacity(64, archive.as_slice()));
    let mut entry = Entry::default();
    assert!(reader.next(&mut entry).unwrap());
    let count = reader.content().unwrap().len().min(10);
    reader.consume(count);
    assert!(reader.next(&mut entry).unwrap());
    assert_eq!(entry.path, b"b");
    assert!(!reader.next(&mut entry).unwrap());
    assert!(!reader.next(&mut entry).unwrap());
}
