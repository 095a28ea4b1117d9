//! The files of a directory or of a tar archive, found by name and read in place.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::Error;
use crate::decompress::{Compression, Decompressor};
use crate::tar::{Entry, Kind, TarError, TarReader};
use crate::temporary;

/// The most entries of an archive of images: a layer is one, and an image has some hundreds at most.
const ENTRY_LIMIT: usize = 100_000;

/// How many links are followed within an archive.
const LINK_LIMIT: usize = 8;

/// A part of a file.
#[derive(Clone, Debug)]
pub struct Region {
    /// The file.
    pub file: Arc<File>,
    /// Where in it the part begins.
    pub start: u64,
    /// How many bytes it has.
    pub length: u64,
}

impl Region {
    /// All of a file.
    pub(crate) fn whole(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        Ok(Self {
            file: Arc::new(file),
            start: 0,
            length,
        })
    }

    pub(crate) fn reader(&self) -> RegionReader {
        RegionReader {
            region: self.clone(),
            position: 0,
        }
    }
}

/// Reads a [`Region`]; several may read the same file.
pub(crate) struct RegionReader {
    region: Region,
    position: u64,
}

impl Read for RegionReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.region.length - self.position;
        let wanted = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let at = self.region.start + self.position;
        let count = self.region.file.read_at(&mut buffer[..wanted], at)?;
        if count == 0 && wanted > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.position += count as u64;
        Ok(count)
    }
}

/// Named files.
#[derive(Debug)]
pub(crate) enum Files {
    /// Of a directory.
    Directory(OwnedFd),
    /// Of an archive.
    Archive(HashMap<Vec<u8>, Member>),
}

/// An entry of an archive.
#[derive(Debug)]
pub(crate) enum Member {
    File(Region),
    /// Another name for what has this one.
    Link(Vec<u8>),
}

impl Files {
    /// Opens a directory, or an archive, compressed or not. `data` is where an archive is kept that can't
    /// be read in place.
    pub(crate) fn open(path: &Path, data: &Path) -> Result<Self, Error> {
        let file = File::open(path).map_err(Error::io(format!("open {}", path.display())))?;
        let metadata = file
            .metadata()
            .map_err(Error::io(format!("look at {}", path.display())))?;
        if metadata.is_dir() {
            return Ok(Self::Directory(file.into()));
        }
        Self::of_stream(file, data)
    }

    /// The files of an archive that is read from a file or a pipe.
    pub(crate) fn of_stream(mut file: File, data: &Path) -> Result<Self, Error> {
        let seekable = file.metadata().is_ok_and(|metadata| metadata.is_file());
        let mut start = [0; 6];
        let detected = seekable
            .then(|| file.read_at(&mut start, 0))
            .and_then(Result::ok)
            .map(|count| Compression::detect(&start[..count]));
        if detected != Some(Compression::None) {
            file = spool(file, data)?;
        }
        index(file).map(Self::Archive)
    }

    /// The files of an archive that is read once, compressed or not.
    pub(crate) fn of_reader(source: impl Read, data: &Path) -> Result<Self, Error> {
        index(spool(source, data)?).map(Self::Archive)
    }

    /// A file by its name; `None` if there is none.
    pub(crate) fn find(&self, name: &str) -> Result<Option<Region>, Error> {
        match self {
            Self::Directory(directory) => find_in_directory(directory, name),
            Self::Archive(members) => {
                let mut name = clean(name.as_bytes());
                for _ in 0..LINK_LIMIT {
                    match members.get(&name) {
                        Some(Member::File(region)) => return Ok(Some(region.clone())),
                        Some(Member::Link(target)) => name.clone_from(target),
                        None => return Ok(None),
                    }
                }
                Ok(None)
            }
        }
    }

    /// A file that has to be there.
    pub(crate) fn get(&self, name: &str) -> Result<Region, Error> {
        self.find(name)?
            .ok_or_else(|| Error::Archive(format!("{name:?} is missing: it is incomplete")))
    }

    /// A whole document of at most `limit` bytes.
    pub(crate) fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        self.find(name)?
            .map(|region| read_all(name, &region, limit))
            .transpose()
    }
}

/// Reads a document.
pub(crate) fn read_all(name: &str, region: &Region, limit: u64) -> Result<Vec<u8>, Error> {
    if region.length > limit {
        return Err(Error::Archive(format!(
            "{name:?} is larger than {} MiB",
            limit >> 20
        )));
    }
    let mut bytes = Vec::with_capacity(region.length as usize);
    region
        .reader()
        .read_to_end(&mut bytes)
        .map_err(Error::io(format!("read {name:?}")))?;
    Ok(bytes)
}

fn find_in_directory(directory: &OwnedFd, name: &str) -> Result<Option<Region>, Error> {
    // A FIFO would be waited for.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let opened = match rustix::fs::openat2(directory, name, flags, Mode::empty(), beneath) {
        Ok(opened) => File::from(opened),
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(None),
        Err(Errno::XDEV | Errno::LOOP) => {
            return Err(Error::Archive(format!(
                "{name:?} leads out of the directory"
            )));
        }
        Err(error) => return Err(Error::io(format!("open {name:?}"))(error)),
    };
    let what = || format!("look at {name:?}");
    if !opened.metadata().map_err(Error::io(what()))?.is_file() {
        return Err(Error::Archive(format!("{name:?} is no regular file")));
    }
    Region::whole(opened).map(Some).map_err(Error::io(what()))
}

/// Copies an archive, decompressed, to a file without a name.
pub(crate) fn spool(source: impl Read, data: &Path) -> Result<File, Error> {
    let directory = data.join("tmp");
    temporary::make_directory(&directory)?;
    let mut source = Decompressor::new(source).map_err(Error::io("read the archive"))?;
    let flags = OFlags::RDWR | OFlags::TMPFILE | OFlags::CLOEXEC;
    let mode = Mode::RUSR | Mode::WUSR;
    let mut file = match rustix::fs::open(&directory, flags, mode) {
        Ok(file) => File::from(file),
        // Not every file system has files without names.
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT) => {
            let temporary = temporary::TemporaryFile::create(&directory, "archive")?;
            let file = temporary.file().try_clone();
            file.map_err(Error::io("copy the archive"))?
        }
        Err(error) => {
            return Err(Error::io(format!("write in {}", directory.display()))(
                error,
            ));
        }
    };
    io::copy(&mut source, &mut file).map_err(Error::io("copy the archive"))?;
    file.rewind().map_err(Error::io("rewind the archive"))?;
    Ok(file)
}

/// Finds the entries of an archive without reading their content.
fn index(file: File) -> Result<HashMap<Vec<u8>, Member>, Error> {
    let size = file.metadata().map_err(Error::io("look at the archive"))?;
    let size = size.len();
    let shared = Arc::new(file.try_clone().map_err(Error::io("read the archive"))?);
    let mut reader = TarReader::new(BufReader::with_capacity(4 << 10, file));
    let mut members = HashMap::new();
    let mut entry = Entry::default();
    while reader.next(&mut entry).map_err(damaged)? {
        if members.len() == ENTRY_LIMIT {
            return Err(Error::Archive(format!(
                "the archive has more than {ENTRY_LIMIT} entries: it is none of images"
            )));
        }
        let length = reader.remaining();
        let start = reader
            .source_mut()
            .stream_position()
            .map_err(Error::io("read the archive"))?;
        let path = clean(&entry.path);
        let member = match entry.kind {
            Kind::File if entry.sparse.is_none() => {
                if start + length > size {
                    return Err(damaged(TarError::Truncated("a file")));
                }
                Member::File(Region {
                    file: Arc::clone(&shared),
                    start,
                    length,
                })
            }
            Kind::HardLink => Member::Link(clean(&entry.link)),
            Kind::Symlink => Member::Link(beside(&path, &entry.link)),
            _ => continue,
        };
        reader
            .skip_by(|source, count| source.seek_relative(count as i64))
            .map_err(damaged)?;
        // As an extraction would have it: the last one counts.
        members.insert(path, member);
    }
    if members.is_empty() {
        return Err(Error::Archive("it is no archive of images".to_owned()));
    }
    Ok(members)
}

fn damaged(error: TarError) -> Error {
    match error {
        TarError::Io(source) => Error::io("read the archive")(source),
        other => Error::Archive(other.to_string()),
    }
}

/// A path without `.`, `..` and empty parts: `..` leads nowhere above the archive's root.
fn clean(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|&byte| byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}

/// What a symbolic link means within an archive.
fn beside(link: &[u8], target: &[u8]) -> Vec<u8> {
    if target.starts_with(b"/") {
        return clean(target);
    }
    let end = link.iter().rposition(|&byte| byte == b'/').unwrap_or(0);
    clean(&[&link[..end], b"/", target].concat())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::tar::build::Archive;

    fn archive() -> Vec<u8> {
        Archive::new()
            .directory("a")
            .file("./a/one", b"first")
            .entry(b'2', "a/link", "../b/two", b"")
            .file("b/two", &[b'x'; 3000])
            .entry(b'2', "outside", "../../../etc/passwd", b"")
            .entry(b'2', "loop", "loop", b"")
            .end()
    }

    fn read(files: &Files, name: &str) -> Option<Vec<u8>> {
        files.read(name, 1 << 20).unwrap()
    }

    #[test]
    fn files_are_found_in_archives_of_every_kind() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join("archive");
        let zstd = zstd::encode_all(&archive()[..], 1).unwrap();
        for bytes in [archive(), zstd] {
            std::fs::write(&path, bytes).unwrap();
            let files = Files::open(&path, data.path()).unwrap();
            assert_eq!(read(&files, "a/one").unwrap(), b"first");
            assert_eq!(read(&files, "/b/../a/./one").unwrap(), b"first");
            assert_eq!(read(&files, "a/link").unwrap(), [b'x'; 3000]);
            for missing in ["outside", "loop", "a", "c"] {
                assert_eq!(read(&files, missing), None, "{missing}");
            }
            assert!(files.read("b/two", 2999).is_err());
        }
    }

    #[test]
    fn a_pipe_is_read_too() {
        let data = tempfile::tempdir().unwrap();
        let (reader, mut writer) = io::pipe().unwrap();
        let thread = std::thread::spawn(move || writer.write_all(&archive()).unwrap());
        let reader = File::from(OwnedFd::from(reader));
        let files = Files::of_stream(reader, data.path()).unwrap();
        thread.join().unwrap();
        assert_eq!(read(&files, "a/one").unwrap(), b"first");
        let left = std::fs::read_dir(data.path().join("tmp")).unwrap();
        assert_eq!(left.count(), 0);
    }

    #[test]
    fn what_is_cut_or_something_else_is_an_error() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join("archive");
        let whole = archive();
        for bytes in [&whole[..1027], b"", b"something", &whole[..3500]] {
            std::fs::write(&path, bytes).unwrap();
            assert!(Files::open(&path, data.path()).is_err(), "{}", bytes.len());
        }
    }

    #[test]
    fn a_directorys_files_are_beneath_it() {
        let data = tempfile::tempdir().unwrap();
        let top = data.path().join("top");
        std::fs::create_dir_all(top.join("sub")).unwrap();
        std::fs::write(top.join("sub/file"), "x").unwrap();
        std::fs::write(data.path().join("secret"), "s").unwrap();
        std::os::unix::fs::symlink("../secret", top.join("out")).unwrap();
        std::os::unix::fs::symlink("sub/file", top.join("in")).unwrap();
        rustix::fs::mknodat(
            rustix::fs::CWD,
            top.join("fifo"),
            rustix::fs::FileType::Fifo,
            Mode::RUSR,
            0,
        )
        .unwrap();
        let files = Files::open(&top, data.path()).unwrap();
        assert_eq!(read(&files, "sub/file").unwrap(), b"x");
        assert_eq!(read(&files, "in").unwrap(), b"x");
        assert_eq!(read(&files, "missing"), None);
        for bad in ["out", "../secret", "/etc/passwd", "fifo", "sub"] {
            assert!(files.find(bad).is_err(), "{bad}");
        }
    }
}
