//! The log's files: the one that is written, and older ones that were renamed away.
//!
//! A file is known by its inode, for its name changes when the log is rotated: `log` becomes `log.1`,
//! that one `log.2`, and the last falls off. Nothing is written to a file once it has been renamed.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use kelp_monitor::launch::LogConfig;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::Error;

/// One file, read from its beginning on.
#[derive(Debug)]
pub(super) struct LogFile {
    pub(super) file: File,
    identity: (u64, u64),
    /// What was read and not yet given away: the beginning of a line.
    rest: Vec<u8>,
    /// Where `rest` begins.
    pub(super) offset: u64,
}

const CHUNK: usize = 64 * 1024;

/// How a piece ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// At the file's present end.
    End,
    /// There may be more.
    More,
    /// Whoever was given the lines wants no more.
    Enough,
}

impl LogFile {
    /// Opens a file; `None` if there is none. A record that was restored may hold a link or a pipe
    /// in the log's place: neither is read.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, Error> {
        let what = || format!("open log {}", path.display());
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = match rustix::fs::open(path, flags, Mode::empty()) {
            Ok(fd) => File::from(fd),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(not_regular(path)),
            Err(error) => return Err(Error::io(what())(error)),
        };
        let metadata = file.metadata().map_err(Error::io(what()))?;
        if !metadata.is_file() {
            return Err(not_regular(path));
        }
        Ok(Some(Self {
            file,
            identity: (metadata.dev(), metadata.ino()),
            rest: Vec::new(),
            offset: 0,
        }))
    }

    /// Goes on from this offset, which must be the beginning of a line.
    pub(super) fn seek(&mut self, offset: u64) -> io::Result<()> {
        io::Seek::seek(&mut self.file, io::SeekFrom::Start(offset))?;
        self.offset = offset;
        Ok(())
    }

    /// Gives the whole lines of one read, each with its offset, until `each` says that it is enough.
    pub(super) fn piece(
        &mut self,
        mut each: impl FnMut(u64, &[u8]) -> io::Result<bool>,
    ) -> io::Result<Read> {
        let old = self.rest.len();
        self.rest.resize(old + CHUNK, 0);
        let read = match self.file.read(&mut self.rest[old..]) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {
                self.rest.truncate(old);
                return Ok(Read::More);
            }
            Err(error) => return Err(error),
            Ok(0) => {
                self.rest.truncate(old);
                return Ok(Read::End);
            }
            Ok(read) => read,
        };
        self.rest.truncate(old + read);
        let mut start = 0;
        let mut from = old;
        while let Some(end) = self.rest[from..].iter().position(|&byte| byte == b'\n') {
            let next = from + end + 1;
            if each(self.offset, &self.rest[start..next])? {
                return Ok(Read::Enough);
            }
            self.offset += (next - start) as u64;
            start = next;
            from = next;
        }
        self.rest.drain(..start);
        Ok(Read::More)
    }

    /// What follows the last whole line: left by a monitor that was killed in the middle of one.
    pub(super) fn rest(&self) -> &[u8] {
        &self.rest
    }
}

fn not_regular(path: &Path) -> Error {
    Error::invalid(format!("log {} is not a regular file", path.display()))
}

fn name(config: &LogConfig, number: u32) -> PathBuf {
    let mut name = config.path.clone().into_os_string();
    if number > 0 {
        name.push(format!(".{number}"));
    }
    name.into()
}

/// Opens every file, the oldest first.
///
/// They are opened from the newest on: one that is renamed meanwhile is met again under its next
/// name, and left out there.
pub(super) fn open_all(config: &LogConfig) -> Result<Vec<LogFile>, Error> {
    let mut files: Vec<LogFile> = Vec::new();
    for number in 0..config.max_files.max(1) {
        let Some(file) = LogFile::open(&name(config, number))? else {
            continue;
        };
        if files.iter().all(|known| known.identity != file.identity) {
            files.push(file);
        }
    }
    files.reverse();
    Ok(files)
}

/// The file that follows `current`: `None` while that one is still written, or if it has no
/// successor any more.
pub(super) fn next(config: &LogConfig, current: &LogFile) -> Result<Option<LogFile>, Error> {
    loop {
        let Some(newest) = LogFile::open(&name(config, 0))? else {
            return Ok(None);
        };
        if newest.identity == current.identity {
            return Ok(None);
        }
        // More than one rotation may have passed: the successor has the name before current's.
        let Some(number) = find(config, current)? else {
            // It has fallen off, and what is oldest now is next.
            return Ok(open_all(config)?.into_iter().next());
        };
        let successor = LogFile::open(&name(config, number - 1))?;
        // A rotation in between moves both names on.
        if find(config, current)? == Some(number) && successor.is_some() {
            return Ok(successor);
        }
    }
}

fn find(config: &LogConfig, file: &LogFile) -> Result<Option<u32>, Error> {
    for number in 1..config.max_files.max(1) {
        let other = LogFile::open(&name(config, number))?;
        if other.is_some_and(|other| other.identity == file.identity) {
            return Ok(Some(number));
        }
    }
    Ok(None)
}
