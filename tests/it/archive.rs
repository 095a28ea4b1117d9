//! Layers: tar archives, written entry by entry so that a test says exactly what is in one.

/// A layer under construction.
#[derive(Clone, Debug, Default)]
pub(crate) struct Layer {
    bytes: Vec<u8>,
}

/// What an entry is besides its name.
#[derive(Clone, Copy, Debug)]
struct Entry<'a> {
    kind: u8,
    mode: u32,
    owner: (u32, u32),
    link: &'a str,
    content: &'a [u8],
}

impl Layer {
    /// A directory.
    pub(crate) fn directory(self, path: &str, mode: u32) -> Self {
        self.owned_directory(path, mode, (0, 0))
    }

    /// A directory of somebody.
    pub(crate) fn owned_directory(self, path: &str, mode: u32, owner: (u32, u32)) -> Self {
        self.entry(
            &format!("{path}/"),
            Entry {
                kind: b'5',
                mode,
                owner,
                link: "",
                content: b"",
            },
        )
    }

    /// A file of root's.
    pub(crate) fn file(self, path: &str, mode: u32, content: &[u8]) -> Self {
        self.owned_file(path, mode, (0, 0), content)
    }

    /// A file of somebody.
    pub(crate) fn owned_file(
        self,
        path: &str,
        mode: u32,
        owner: (u32, u32),
        content: &[u8],
    ) -> Self {
        self.entry(
            path,
            Entry {
                kind: b'0',
                mode,
                owner,
                link: "",
                content,
            },
        )
    }

    /// A file of root's whose name is any bytes.
    pub(crate) fn file_of_bytes(self, path: &[u8], content: &[u8]) -> Self {
        self.raw_entry(
            path,
            Entry {
                kind: b'0',
                mode: 0o644,
                owner: (0, 0),
                link: "",
                content,
            },
            &[],
        )
    }

    /// A file of somebody's with extended attributes, in the form that pax headers have for them.
    pub(crate) fn file_with_xattrs(
        self,
        path: &str,
        mode: u32,
        owner: (u32, u32),
        xattrs: &[(&str, &[u8])],
    ) -> Self {
        let mut records = Vec::new();
        for (name, value) in xattrs {
            let rest = " SCHILY.xattr.=\n".len() + name.len() + value.len();
            // The length counts its own digits, of which there are two.
            records.extend(format!("{} SCHILY.xattr.{name}=", rest + 2).into_bytes());
            records.extend_from_slice(value);
            records.push(b'\n');
        }
        let header = Entry {
            kind: b'x',
            mode: 0o644,
            owner: (0, 0),
            link: "",
            content: &records,
        };
        self.raw_entry(b"pax", header, &[])
            .owned_file(path, mode, owner, b"x")
    }

    /// A file of `size` bytes that is one hole but for its last ones, in GNU tar's old format: the
    /// map of what is there stands in the header, the real size behind it.
    pub(crate) fn sparse_file(self, path: &str, size: u64, end: &[u8]) -> Self {
        let number = |value: u64| format!("{value:011o}\0");
        let begin = number(size - end.len() as u64);
        let length = number(end.len() as u64);
        self.raw_entry(
            path.as_bytes(),
            Entry {
                kind: b'S',
                mode: 0o644,
                owner: (0, 0),
                link: "",
                content: end,
            },
            &[
                (257, b"ustar  \0"),
                (386, begin.as_bytes()),
                (398, length.as_bytes()),
                (483, number(size).as_bytes()),
            ],
        )
    }

    /// A symbolic link.
    pub(crate) fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(
            path,
            Entry {
                kind: b'2',
                mode: 0o777,
                owner: (0, 0),
                link: target,
                content: b"",
            },
        )
    }

    /// A named pipe.
    pub(crate) fn fifo(self, path: &str) -> Self {
        self.owned_fifo(path, 0o644, (0, 0))
    }

    /// A named pipe of somebody's.
    pub(crate) fn owned_fifo(self, path: &str, mode: u32, owner: (u32, u32)) -> Self {
        self.entry(
            path,
            Entry {
                kind: b'6',
                mode,
                owner,
                link: "",
                content: b"",
            },
        )
    }

    /// A hard link to an entry of this layer or one below.
    pub(crate) fn hardlink(self, path: &str, target: &str) -> Self {
        self.entry(
            path,
            Entry {
                kind: b'1',
                mode: 0o644,
                owner: (0, 0),
                link: target,
                content: b"",
            },
        )
    }

    /// Deletes what the layers below have at this path (OCI image specification, layer.md).
    pub(crate) fn whiteout(self, path: &str) -> Self {
        let (directory, name) = path.rsplit_once('/').unwrap_or((".", path));
        self.file(&format!("{directory}/.wh.{name}"), 0o644, b"")
    }

    /// Hides all that the layers below have in this directory.
    pub(crate) fn opaque(self, directory: &str) -> Self {
        self.file(&format!("{directory}/.wh..wh..opq"), 0o644, b"")
    }

    /// The archive.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.bytes.extend([0; 1024]);
        self.bytes
    }

    fn entry(self, path: &str, entry: Entry<'_>) -> Self {
        self.raw_entry(path.as_bytes(), entry, &[])
    }

    /// `more` is what else stands in the header, at which offset.
    fn raw_entry(mut self, path: &[u8], entry: Entry<'_>, more: &[(usize, &[u8])]) -> Self {
        assert!(path.len() <= 100 && entry.link.len() <= 100, "{path:?}");
        let mut header = [0_u8; 512];
        let mut put = |offset: usize, bytes: &[u8]| {
            header[offset..offset + bytes.len()].copy_from_slice(bytes);
        };
        // POSIX.1-1988: numbers are octal text that ends in a null byte.
        put(0, path);
        put(100, format!("{:07o}\0", entry.mode).as_bytes());
        put(108, format!("{:07o}\0", entry.owner.0).as_bytes());
        put(116, format!("{:07o}\0", entry.owner.1).as_bytes());
        put(124, format!("{:011o}\0", entry.content.len()).as_bytes());
        put(136, format!("{:011o}\0", 1_700_000_000).as_bytes());
        put(148, b"        ");
        put(156, &[entry.kind]);
        put(157, entry.link.as_bytes());
        put(257, b"ustar\x0000");
        for (offset, bytes) in more {
            put(*offset, bytes);
        }
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.bytes.extend(header);
        self.bytes.extend(entry.content);
        let padding = self.bytes.len().next_multiple_of(512) - self.bytes.len();
        self.bytes.extend(std::iter::repeat_n(0, padding));
        self
    }
}

/// Bytes that no compression makes smaller, the same ones for the same seed.
pub(crate) fn noise(mut seed: u32, length: usize) -> Vec<u8> {
    let next = || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 24) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}
