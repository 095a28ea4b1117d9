//! Archives for tests, entry by entry and with whatever is wrong in them.

/// An archive being written.
#[derive(Clone, Debug, Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    owner: (u32, u32),
    mode: u32,
    mtime: u64,
}

impl Archive {
    pub(crate) fn new() -> Self {
        Self {
            bytes: Vec::new(),
            owner: (0, 0),
            mode: 0o755,
            mtime: 1_000_000_000,
        }
    }

    pub(crate) fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    pub(crate) fn owner(mut self, uid: u32, gid: u32) -> Self {
        self.owner = (uid, gid);
        self
    }

    pub(crate) fn mtime(mut self, mtime: u64) -> Self {
        self.mtime = mtime;
        self
    }

    /// A header with a right checksum, after `change` had its way.
    pub(crate) fn header(
        mut self,
        type_flag: u8,
        path: &[u8],
        link: &[u8],
        size: u64,
        change: impl FnOnce(&mut [u8; 512]),
    ) -> Self {
        let mut block = [0; 512];
        block[..path.len().min(100)].copy_from_slice(&path[..path.len().min(100)]);
        let mut field = |at: usize, width: usize, value: u64| {
            let text = format!("{value:0width$o}\0", width = width - 1);
            block[at..at + width].copy_from_slice(text.as_bytes());
        };
        field(100, 8, self.mode.into());
        field(108, 8, self.owner.0.into());
        field(116, 8, self.owner.1.into());
        field(124, 12, size);
        field(136, 12, self.mtime);
        block[156] = type_flag;
        block[157..157 + link.len().min(100)].copy_from_slice(&link[..link.len().min(100)]);
        block[257..265].copy_from_slice(b"ustar\x0000");
        change(&mut block);
        block[148..156].fill(b' ');
        let sum: u64 = block.iter().map(|&byte| u64::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.bytes.extend_from_slice(&block);
        self
    }

    /// Content, padded to a block.
    pub(crate) fn content(mut self, content: &[u8]) -> Self {
        self.bytes.extend_from_slice(content);
        let length = self.bytes.len().next_multiple_of(512);
        self.bytes.resize(length, 0);
        self
    }

    pub(crate) fn entry(self, type_flag: u8, path: &str, link: &str, content: &[u8]) -> Self {
        self.header(
            type_flag,
            path.as_bytes(),
            link.as_bytes(),
            content.len() as u64,
            |_| {},
        )
        .content(content)
    }

    pub(crate) fn file(self, path: &str, content: &[u8]) -> Self {
        self.entry(b'0', path, "", content)
    }

    pub(crate) fn directory(self, path: &str) -> Self {
        self.entry(b'5', path, "", b"")
    }

    pub(crate) fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(b'2', path, target, b"")
    }

    pub(crate) fn hard_link(self, path: &str, target: &str) -> Self {
        self.entry(b'1', path, target, b"")
    }

    /// A pax header for the next entry.
    pub(crate) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        self.extension(b'x', records)
    }

    pub(crate) fn extension(self, type_flag: u8, records: &[(&str, &[u8])]) -> Self {
        let mut content = Vec::new();
        for (keyword, value) in records {
            let rest = keyword.len() + value.len() + 3;
            let mut length = rest + 1;
            while rest + length.to_string().len() != length {
                length = rest + length.to_string().len();
            }
            content.extend_from_slice(format!("{length} {keyword}=").as_bytes());
            content.extend_from_slice(value);
            content.push(b'\n');
        }
        let size = content.len() as u64;
        self.header(type_flag, b"pax", b"", size, |_| {})
            .content(&content)
    }

    /// The archive so far, without an end mark.
    pub(crate) fn bytes(self) -> Vec<u8> {
        self.bytes
    }

    /// The archive with its end mark.
    pub(crate) fn end(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 1024, 0);
        self.bytes
    }
}
