//! A reader of tar archives.
//!
//! Reads what tar programs write: the original format, ustar, pax (POSIX.1-2001, pax(1)), GNU with its
//! long names, base-256 numbers and four kinds of sparse files, and star's prefix. It makes no system
//! call and knows nothing of file systems: names come out as the bytes that stand in the archive, and
//! it is for the extractor to refuse those that lead elsewhere.
//!
//! Everything an archive can make it remember is bounded: an extension header by
//! [`EXTENSION_LIMIT`], a run of them by [`EXTENSIONS_IN_A_ROW`], a sparse map by
//! [`sparse::SEGMENT_LIMIT`].

#[cfg(test)]
pub(crate) mod build;
mod header;
mod pax;
pub mod sparse;
pub mod write;

use std::io::{self, BufRead};

use header::Header;
use pax::Pax;
use sparse::Segment;

/// The size of a header, and what content is padded to.
pub const BLOCK: usize = 512;

/// The most bytes of one pax header or long name.
pub const EXTENSION_LIMIT: u64 = 1 << 20;

/// The most extension headers before one entry.
pub const EXTENSIONS_IN_A_ROW: usize = 64;

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Kind {
    /// A regular file.
    #[default]
    File,
    /// Another name for an earlier entry, whose name is [`Entry::link`].
    HardLink,
    /// A symbolic link to [`Entry::link`].
    Symlink,
    /// A character device.
    CharacterDevice,
    /// A block device.
    BlockDevice,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
}

/// One entry's metadata.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    /// Its name: any bytes but NUL, not made safe in any way.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Permission, setuid, setgid and sticky bits: the low 12 bits of the mode.
    pub mode: u32,
    /// Its owner.
    pub uid: u64,
    /// Its group.
    pub gid: u64,
    /// How many bytes the file has once it is extracted, holes included.
    pub size: u64,
    /// Modification time: seconds since 1970, before it negative.
    pub mtime: i64,
    /// Modification time: the nanoseconds beyond the seconds.
    pub mtime_nanoseconds: u32,
    /// The target of a hard or symbolic link.
    pub link: Vec<u8>,
    /// A device's major number.
    pub major: u32,
    /// A device's minor number.
    pub minor: u32,
    /// Extended attributes, name and value.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the stored bytes go, ascending and apart; `None` if the file has no holes.
    pub sparse: Option<Vec<Segment>>,
}

/// Why an archive can't be read.
#[derive(Debug, thiserror::Error)]
pub enum TarError {
    /// The archive ends within an entry.
    #[error("the archive ends in the middle of {0}")]
    Truncated(&'static str),
    /// The archive is damaged or of a kind that is not known.
    #[error("the archive is damaged: {0}")]
    Damaged(&'static str),
    /// The source of the archive failed.
    #[error("read the archive")]
    Io(#[from] io::Error),
}

/// Reads the entries of an archive one after another.
///
/// Content is lent from the source's buffer: with a large one nothing is copied.
#[derive(Debug)]
pub struct TarReader<R> {
    source: R,
    globals: Pax,
    pax: Pax,
    long_path: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
    /// Stored bytes of the current entry that were not consumed yet.
    remaining: u64,
    /// Zero bytes that follow them.
    padding: u64,
    ended: bool,
}

impl<R: BufRead> TarReader<R> {
    /// Reads the archive that `source` has.
    pub fn new(source: R) -> Self {
        Self {
            source,
            globals: Pax::default(),
            pax: Pax::default(),
            long_path: None,
            long_link: None,
            remaining: 0,
            padding: 0,
            ended: false,
        }
    }

    /// Moves on to the next entry and puts its metadata into `entry`; false at the end.
    ///
    /// Content of the entry before that was not read is skipped.
    pub fn next(&mut self, entry: &mut Entry) -> Result<bool, TarError> {
        if self.ended {
            return Ok(false);
        }
        self.skip_content()?;
        self.pax.clear();
        self.long_path = None;
        self.long_link = None;
        for _ in 0..=EXTENSIONS_IN_A_ROW {
            let Some(header) = self.read_header()? else {
                self.ended = true;
                return Ok(false);
            };
            match header.type_flag() {
                b'x' | b'X' => {
                    let bytes = self.read_extension(&header)?;
                    self.pax.read(&bytes).map_err(TarError::Damaged)?;
                }
                b'g' => {
                    let bytes = self.read_extension(&header)?;
                    self.globals
                        .read_global(&bytes)
                        .map_err(TarError::Damaged)?;
                }
                b'L' => self.long_path = Some(until_nul(self.read_extension(&header)?)),
                b'K' => self.long_link = Some(until_nul(self.read_extension(&header)?)),
                // A volume's label, and long names of a GNU tar older than its own format.
                b'V' | b'N' => {
                    self.begin_content(header.size()?)?;
                    self.skip_content()?;
                }
                _ => {
                    self.finish_entry(&header, entry)?;
                    return Ok(true);
                }
            }
        }
        Err(TarError::Damaged(
            "too many extension headers before one entry",
        ))
    }

    /// Stored bytes of the current entry, as many as the source has at hand; empty at the end.
    ///
    /// They stay until [`TarReader::consume`].
    pub fn content(&mut self) -> Result<&[u8], TarError> {
        if self.remaining == 0 {
            return Ok(&[]);
        }
        let limit = usize::try_from(self.remaining).unwrap_or(usize::MAX);
        let bytes = fill(&mut self.source, "a file's content")?;
        Ok(&bytes[..bytes.len().min(limit)])
    }

    /// Marks `count` bytes of what [`TarReader::content`] lent as read.
    pub fn consume(&mut self, count: usize) {
        debug_assert!(count as u64 <= self.remaining);
        self.source.consume(count);
        self.remaining -= count as u64;
    }

    /// Stored bytes of the current entry that are still to be read.
    pub fn remaining(&self) -> u64 {
        self.remaining
    }

    /// The source, which stands at the current entry's content.
    pub fn source_mut(&mut self) -> &mut R {
        &mut self.source
    }

    /// Passes over the current entry's content by `skip`, which is told how many bytes that is.
    pub fn skip_by(
        &mut self,
        skip: impl FnOnce(&mut R, u64) -> io::Result<()>,
    ) -> Result<(), TarError> {
        skip(&mut self.source, self.remaining + self.padding)?;
        self.remaining = 0;
        self.padding = 0;
        Ok(())
    }

    /// Gives back the source, which stands behind the last entry that was read.
    pub fn into_inner(self) -> R {
        self.source
    }

    fn read_header(&mut self) -> Result<Option<Header>, TarError> {
        let mut block = [0; BLOCK];
        if !self.read_block(&mut block)? {
            // Archives without an end mark exist, and other readers take them.
            return Ok(None);
        }
        if block.iter().all(|&byte| byte == 0) {
            let second = self.read_block(&mut block)?;
            if second && block.iter().any(|&byte| byte != 0) {
                return Err(TarError::Damaged("an entry follows half an end mark"));
            }
            return Ok(None);
        }
        Header::new(&block).map(Some).map_err(TarError::Damaged)
    }

    /// Reads a whole block; false if the source is at its end.
    fn read_block(&mut self, block: &mut [u8; BLOCK]) -> Result<bool, TarError> {
        let mut filled = 0;
        while filled < BLOCK {
            let bytes = fill_or_end(&mut self.source)?;
            if bytes.is_empty() {
                if filled == 0 {
                    return Ok(false);
                }
                return Err(TarError::Truncated("a header"));
            }
            let count = bytes.len().min(BLOCK - filled);
            block[filled..filled + count].copy_from_slice(&bytes[..count]);
            self.source.consume(count);
            filled += count;
        }
        Ok(true)
    }

    fn begin_content(&mut self, size: u64) -> Result<(), TarError> {
        // The kernel's file sizes are signed, and so nothing larger is a file.
        if i64::try_from(size).is_err() {
            return Err(TarError::Damaged("an entry's size is out of range"));
        }
        self.remaining = size;
        self.padding = size.wrapping_neg() % BLOCK as u64;
        Ok(())
    }

    fn skip_content(&mut self) -> Result<(), TarError> {
        let mut left = self.remaining + self.padding;
        while left > 0 {
            let bytes = fill(&mut self.source, "a file's content")?;
            let count = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
            self.source.consume(count);
            left -= count as u64;
        }
        self.remaining = 0;
        self.padding = 0;
        Ok(())
    }

    fn read_extension(&mut self, header: &Header) -> Result<Vec<u8>, TarError> {
        let size = header.size()?;
        if size > EXTENSION_LIMIT {
            return Err(TarError::Damaged("an extension header is too large"));
        }
        self.begin_content(size)?;
        let mut bytes = Vec::with_capacity(size as usize);
        while self.remaining > 0 {
            let part = self.content()?;
            let count = part.len();
            bytes.extend_from_slice(part);
            self.consume(count);
        }
        self.skip_content()?;
        Ok(bytes)
    }

    fn finish_entry(&mut self, header: &Header, entry: &mut Entry) -> Result<(), TarError> {
        header.read_into(entry).map_err(TarError::Damaged)?;
        let mut size = header.size()?;
        if let Some(path) = self.long_path.take() {
            entry.path = path;
        }
        if let Some(link) = self.long_link.take() {
            entry.link = link;
        }
        self.globals.apply(entry);
        self.pax.apply(entry);
        if let Some(larger) = self.pax.size {
            size = larger;
        }
        let type_flag = header.type_flag();
        entry.kind = match type_flag {
            b'0' | 0 if entry.path.last() == Some(&b'/') => Kind::Directory,
            b'0' | 0 | b'7' | b'S' => Kind::File,
            b'1' => Kind::HardLink,
            b'2' => Kind::Symlink,
            b'3' => Kind::CharacterDevice,
            b'4' => Kind::BlockDevice,
            b'5' | b'D' => Kind::Directory,
            b'6' => Kind::Fifo,
            b'M' => return Err(TarError::Damaged("a part of an archive in several volumes")),
            _ => return Err(TarError::Damaged("an entry of an unknown type")),
        };
        if entry.path.contains(&0) || entry.link.contains(&0) {
            return Err(TarError::Damaged("a name holds a NUL byte"));
        }
        // The links, devices and directories that programs write have no content, whatever their
        // size field says; only a GNU dump directory does.
        if entry.kind != Kind::File && type_flag != b'D' {
            size = 0;
        }
        self.begin_content(size)?;
        entry.size = size;
        entry.sparse = None;
        if type_flag == b'S' {
            let (real_size, segments) = self.read_old_sparse(header)?;
            entry.size = real_size;
            entry.sparse = Some(segments);
        } else if entry.kind == Kind::File {
            self.read_pax_sparse(entry)?;
        }
        if let Some(segments) = &entry.sparse {
            sparse::check(segments, self.remaining, entry.size).map_err(TarError::Damaged)?;
        }
        Ok(())
    }

    fn read_old_sparse(&mut self, header: &Header) -> Result<(u64, Vec<Segment>), TarError> {
        let (real_size, mut segments, mut more) = header.old_sparse().map_err(TarError::Damaged)?;
        while more {
            let mut block = [0; BLOCK];
            if !self.read_block(&mut block)? {
                return Err(TarError::Truncated("a sparse map"));
            }
            more =
                sparse::read_extension_block(&block, &mut segments).map_err(TarError::Damaged)?;
        }
        Ok((real_size, segments))
    }

    fn read_pax_sparse(&mut self, entry: &mut Entry) -> Result<(), TarError> {
        let Some(map) = self.pax.take_sparse().map_err(TarError::Damaged)? else {
            return Ok(());
        };
        if let Some(name) = map.name {
            entry.path = name;
        }
        entry.size = map.real_size.unwrap_or(self.remaining);
        entry.sparse = Some(match map.segments {
            Some(segments) => segments,
            None => self.read_sparse_1_0()?,
        });
        if entry.path.contains(&0) {
            return Err(TarError::Damaged("a name holds a NUL byte"));
        }
        Ok(())
    }

    /// The map of pax format 1.0 stands in front of the content, padded to a block.
    fn read_sparse_1_0(&mut self) -> Result<Vec<Segment>, TarError> {
        let mut map = sparse::MapParser::default();
        loop {
            if self.remaining < BLOCK as u64 {
                return Err(TarError::Damaged("a sparse map without an end"));
            }
            let mut block = [0; BLOCK];
            if !self.read_block(&mut block)? {
                return Err(TarError::Truncated("a sparse map"));
            }
            self.remaining -= BLOCK as u64;
            if map.read(&block).map_err(TarError::Damaged)? {
                return Ok(map.segments);
            }
        }
    }
}

fn fill_or_end<R: BufRead>(source: &mut R) -> Result<&[u8], TarError> {
    // The borrow checker can't see that an interrupted call lends nothing, hence two calls.
    loop {
        match source.fill_buf() {
            Ok(_) => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(source.fill_buf()?)
}

fn fill<'a, R: BufRead>(source: &'a mut R, within: &'static str) -> Result<&'a [u8], TarError> {
    let bytes = fill_or_end(source)?;
    if bytes.is_empty() {
        return Err(TarError::Truncated(within));
    }
    Ok(bytes)
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|&byte| byte == 0);
    bytes.truncate(end.unwrap_or(bytes.len()));
    bytes
}

#[cfg(test)]
mod tests;
