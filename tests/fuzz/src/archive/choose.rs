//! What bytes choose.

use std::collections::BTreeMap;

use kelp_image::tar::sparse::Segment;
use kelp_image::tar::{Entry, Kind};

use super::{Format, Item};

/// Bytes that are taken for decisions; at their end every decision is the first one.
#[derive(Debug)]
pub struct Choice<'a>(&'a [u8]);

impl<'a> Choice<'a> {
    /// Decides by these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether there is nothing left to decide by.
    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    fn byte(&mut self) -> u8 {
        match self.0 {
            [first, rest @ ..] => {
                self.0 = rest;
                *first
            }
            [] => 0,
        }
    }

    /// A number below `count`, which is at most 256.
    pub fn below(&mut self, count: usize) -> usize {
        usize::from(self.byte()) % count
    }

    fn one_of<T: Clone>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())].clone()
    }
}

const FORMATS: [Format; 6] = [
    Format::Ustar,
    Format::Gnu,
    Format::Pax00,
    Format::Pax01,
    Format::Pax10,
    Format::Own,
];

/// Names that are alike, odd, long, or not UTF-8.
fn names() -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = [
        &b"a"[..],
        b"b",
        b"A",
        b"dir",
        b"file",
        b"caf\xc3\xa9",
        b"cafe\xcc\x81",
        b"caf\xe9",
        b"\xff\xfe",
        b"new\nline",
        b" space ",
        b"-dash",
        b"back\\slash",
        b"quote'\"",
        b"*?[a]",
        b"...",
        b"tab\t",
        b"\x01\x7f",
        b"=",
    ]
    .map(<[u8]>::to_vec)
    .to_vec();
    names.extend([99, 100, 101, 155, 255].map(|length| vec![b'n'; length]));
    names
}

fn time(choice: &mut Choice<'_>) -> (i64, u32) {
    let seconds = [
        1_000_000_000,
        0,
        1,
        -1,
        -2_000_000_000,
        i64::from(i32::MAX),
        1 << 31,
        (1 << 32) + 5,
        (1 << 33) - 1,
        1 << 33,
    ];
    let nanoseconds = [0, 1, 500_000_000, 999_999_999, 123_456_789, 100];
    (choice.one_of(&seconds), choice.one_of(&nanoseconds))
}

fn content(choice: &mut Choice<'_>) -> Vec<u8> {
    let length = choice.one_of(&[0_usize, 1, 3, 511, 512, 513, 1000, 4096, 70_000]);
    let first = choice.byte();
    let byte = |index: usize| (index as u8).wrapping_mul(7).wrapping_add(first);
    (0..length).map(byte).collect()
}

/// Makes a file one with holes.
fn sparse(choice: &mut Choice<'_>, item: &mut Item) {
    let mut segments = Vec::new();
    let (mut offset, mut stored) = (0, 0);
    // The old format has room for four in the header, and for 21 in each block behind it.
    let count = choice.one_of(&[1, 2, 4, 5, 30]);
    for index in 0..count {
        offset += choice.one_of(&[0_u64, 4096, 8192, 65_536, 1, 5000]);
        // GNU tar begins each stretch with a block of its own, and others do not: only the last may
        // end within one.
        let length = if index + 1 < count {
            choice.one_of(&[4096_u64, 512, 0, 1024])
        } else {
            choice.one_of(&[4096_u64, 1, 0, 512, 5000])
        };
        segments.push(Segment { offset, length });
        offset += length;
        stored += length as usize;
    }
    let first = choice.byte() | 1;
    item.content = (0..stored).map(|index| index as u8 ^ first).collect();
    let hole = choice.one_of(&[0_u64, 1, 4096, 1 << 20, 8 << 30]);
    item.entry.size = offset + hole;
    if hole > 0 {
        // That is how a hole at the end is told.
        let (offset, length) = (item.entry.size, 0);
        segments.push(Segment { offset, length });
    }
    item.entry.sparse = Some(segments);
    if matches!(item.format, Format::Own | Format::Ustar) {
        item.format = Format::Gnu;
    }
}

fn metadata(choice: &mut Choice<'_>, entry: &mut Entry) {
    let modes = [
        0o644, 0o755, 0o600, 0o777, 0o000, 0o444, 0o111, 0o700, 0o1777, 0o4755, 0o2755, 0o6711,
    ];
    entry.mode = choice.one_of(&modes);
    (entry.mtime, entry.mtime_nanoseconds) = time(choice);
    (entry.uid, entry.gid) = (
        choice.one_of(&[0, 0, 1, 1000, 65_534]),
        choice.one_of(&[0, 0, 5, 100]),
    );
    if matches!(entry.kind, Kind::File | Kind::Directory) {
        for _ in 0..choice.one_of(&[0, 0, 0, 1, 3]) {
            let names = [&b"user.a"[..], b"user.b.c", b"user.caf\xe9"];
            let values = [&b""[..], b"value", b"\0\n=\xff", &[b'x'; 200]];
            let (name, value) = (choice.one_of(&names), choice.one_of(&values));
            entry.xattrs.retain(|(other, _)| other != name);
            entry.xattrs.push((name.to_vec(), value.to_vec()));
        }
    }
}

/// Entries that every tar program takes and makes the same of: no name leads anywhere else, and
/// nothing is replaced that has something in it. What is on disk by each name is known.
pub fn well_formed(choice: &mut Choice<'_>) -> Vec<Item> {
    let names = names();
    let mut items = Vec::new();
    let mut tree: BTreeMap<Vec<u8>, Kind> = BTreeMap::new();
    while !choice.is_over() && items.len() < 60 {
        let directories: Vec<&[u8]> = tree
            .iter()
            .filter(|(_, kind)| **kind == Kind::Directory)
            .map(|(path, _)| path.as_slice())
            .collect();
        let mut path = match choice.below(directories.len().min(250) + 1) {
            0 => Vec::new(),
            index => directories[index - 1].to_vec(),
        };
        let levels = choice.one_of(&[1, 1, 1, 1, 2, 3]);
        for _ in 0..levels {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend(choice.one_of(&names));
        }
        let kinds = [
            Kind::File,
            Kind::Directory,
            Kind::File,
            Kind::Symlink,
            Kind::HardLink,
            Kind::Fifo,
        ];
        let kind = choice.one_of(&kinds);
        if path.len() > 3000 || !fits(&tree, &path) {
            choice.byte();
            continue;
        }
        let others = tree
            .iter()
            .filter(|(other, kind)| **kind != Kind::Directory && **other != path)
            .map(|(path, _)| path.clone())
            .collect::<Vec<_>>();
        if kind == Kind::HardLink && others.is_empty() {
            choice.byte();
            continue;
        }
        let mut item = item(choice, kind);
        match kind {
            Kind::HardLink => item.entry.link = choice.one_of(&others[..others.len().min(250)]),
            Kind::Symlink => item.entry.link = link(choice),
            _ => {}
        }
        let is = match kind {
            Kind::HardLink => tree[&item.entry.link],
            kind => kind,
        };
        for (at, _) in path.iter().enumerate().filter(|(_, byte)| **byte == b'/') {
            tree.insert(path[..at].to_vec(), Kind::Directory);
        }
        tree.insert(path.clone(), is);
        let before = choice.one_of(&[&b""[..], b"./", b".//"]);
        item.entry.path = [before, &path].concat();
        items.push(item);
    }
    items
}

fn item(choice: &mut Choice<'_>, kind: Kind) -> Item {
    let mut item = Item {
        entry: Entry {
            kind,
            ..Entry::default()
        },
        content: Vec::new(),
        format: choice.one_of(&FORMATS),
    };
    metadata(choice, &mut item.entry);
    if kind == Kind::File {
        if choice.below(4) == 3 {
            sparse(choice, &mut item);
        } else {
            item.content = content(choice);
            item.entry.size = item.content.len() as u64;
        }
    }
    item
}

fn link(choice: &mut Choice<'_>) -> Vec<u8> {
    let long = vec![b'l'; 300];
    let targets = [
        &b"a"[..],
        b"/etc/passwd",
        b"../../x",
        b"nowhere\xff\n",
        b".",
        &long[..100],
        &long,
    ];
    choice.one_of(&targets).to_vec()
}

/// Whether an entry can be there without taking a directory away or going through a link.
fn fits(tree: &BTreeMap<Vec<u8>, Kind>, path: &[u8]) -> bool {
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    let mut parents = slashes.map(|(at, _)| tree.get(&path[..at]));
    parents.all(|kind| matches!(kind, None | Some(Kind::Directory)))
        // Of several entries of one directory GNU tar takes the first one's owner and mode when it sets
        // them at the end, and here the last one counts.
        && tree.get(path) != Some(&Kind::Directory)
}

/// Entries that do whatever they can: names and links lead up, out and in circles, whiteouts hide what
/// is being made, and kinds replace one another. `canary` is a path outside that nobody may change.
pub fn hostile(choice: &mut Choice<'_>, canary: &[u8]) -> Vec<Item> {
    let count = choice.below(24) + 1;
    let mut items = Vec::new();
    while !choice.is_over() && items.len() < count {
        let kinds = [
            Kind::File,
            Kind::Directory,
            Kind::Symlink,
            Kind::HardLink,
            Kind::Fifo,
            Kind::CharacterDevice,
            Kind::BlockDevice,
            Kind::File,
        ];
        let kind = choice.one_of(&kinds);
        let mut item = item(choice, kind);
        item.entry.path = hostile_path(choice, canary);
        if matches!(kind, Kind::Symlink | Kind::HardLink) {
            item.entry.link = hostile_path(choice, canary);
        }
        if matches!(kind, Kind::CharacterDevice | Kind::BlockDevice) {
            item.entry.major = choice.one_of(&[0, 1, 4095]);
            item.entry.minor = choice.one_of(&[0, 3, 255]);
        }
        if kind == Kind::File && choice.below(8) == 0 {
            item.entry.xattrs.push((
                choice
                    .one_of(&[
                        &b"user.overlay.opaque"[..],
                        b"user.overlay.redirect",
                        b"user.overlay.metacopy",
                        b"user.kelp.owner",
                        b"security.capability",
                        b"system.posix_acl_access",
                        b"trusted.overlay.opaque",
                        b"",
                        b"no-prefix",
                    ])
                    .to_vec(),
                b"y".to_vec(),
            ));
        }
        items.push(item);
    }
    items
}

fn hostile_path(choice: &mut Choice<'_>, canary: &[u8]) -> Vec<u8> {
    let parts: [&[u8]; 25] = [
        b"a",
        b"b",
        b"c",
        b"..",
        b".",
        b"",
        b"escape",
        b"up",
        b"loop",
        b".wh.a",
        b".wh.b",
        b".wh.escape",
        b".wh..wh..opq",
        b".wh..wh.plnk",
        b".wh..wh.aufs",
        b".wh...",
        b".wh.",
        b".wh.c",
        b"canary",
        b"file",
        b"/",
        b"proc/self/root",
        canary,
        b"caf\xe9",
        &[b'n'; 256],
    ];
    let count = choice.one_of(&[1, 1, 2, 2, 3, 4]);
    let parts: Vec<_> = (0..count).map(|_| choice.one_of(&parts)).collect();
    parts.join(&b'/')
}
