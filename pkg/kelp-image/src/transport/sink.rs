//! Where the files of an image are written to: a tar archive or a directory.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::Error;
use crate::digest::{Digest, Hasher};
use crate::tar::write::TarWriter;
use crate::tar::{Entry, Kind};
use crate::temporary::Output;

/// How much is copied at a time.
const BUFFER: usize = 1 << 20;

/// Takes files, one after another.
pub(crate) trait Sink {
    /// Writes a file with exactly this content.
    fn file(&mut self, name: &str, size: u64, content: &mut dyn Read) -> Result<(), Error>;

    /// Writes a small file.
    fn document(&mut self, name: &str, content: &[u8]) -> Result<(), Error> {
        self.file(name, content.len() as u64, &mut &*content)
    }

    /// Whether a blob's file is there already.
    fn has(&self, name: &str, size: u64) -> bool;
}

/// Writes into a tar archive. It is the same whenever and by whomever it is written.
pub(crate) struct TarSink<W: Write> {
    writer: TarWriter<W>,
    written: BTreeSet<String>,
}

impl<W: Write> TarSink<W> {
    pub(crate) fn new(sink: W) -> Self {
        Self {
            writer: TarWriter::new(sink),
            written: BTreeSet::new(),
        }
    }

    /// Ends the archive.
    pub(crate) fn finish(self) -> Result<W, Error> {
        self.writer.finish().map_err(Error::io("write the archive"))
    }

    fn directories(&mut self, name: &str) -> Result<(), Error> {
        for (at, _) in name.match_indices('/') {
            if self.written.insert(name[..at].to_owned()) {
                let entry = Entry {
                    path: name.as_bytes()[..at].to_vec(),
                    kind: Kind::Directory,
                    mode: 0o755,
                    ..Entry::default()
                };
                self.writer
                    .entry(&entry)
                    .map_err(Error::io("write the archive"))?;
            }
        }
        Ok(())
    }
}

impl<W: Write> Sink for TarSink<W> {
    fn file(&mut self, name: &str, size: u64, content: &mut dyn Read) -> Result<(), Error> {
        self.directories(name)?;
        self.written.insert(name.to_owned());
        let entry = Entry {
            path: name.as_bytes().to_vec(),
            mode: 0o644,
            size,
            ..Entry::default()
        };
        let failed = |error| Error::io("write the archive")(error);
        self.writer.entry(&entry).map_err(failed)?;
        copy(name, size, content, |bytes| {
            self.writer.content(bytes).map(drop).map_err(failed)
        })
    }

    fn has(&self, name: &str, _size: u64) -> bool {
        self.written.contains(name)
    }
}

/// Writes into a directory: each file under another name first.
pub(crate) struct DirectorySink {
    root: PathBuf,
}

impl DirectorySink {
    /// Makes the directory if there is none.
    pub(crate) fn new(root: &Path) -> Result<Self, Error> {
        fs::create_dir_all(root).map_err(Error::io(format!("make {}", root.display())))?;
        Ok(Self {
            root: root.to_owned(),
        })
    }
}

impl Sink for DirectorySink {
    fn file(&mut self, name: &str, size: u64, content: &mut dyn Read) -> Result<(), Error> {
        let path = self.root.join(name);
        let parent = path.parent().unwrap_or(&self.root);
        fs::create_dir_all(parent).map_err(Error::io(format!("make {}", parent.display())))?;
        let mut file = Output::create(parent)?;
        copy(name, size, content, |bytes| {
            file.file_mut()
                .write_all(bytes)
                .map_err(Error::io(format!("write {}", path.display())))
        })?;
        file.persist(&path)
    }

    fn has(&self, name: &str, size: u64) -> bool {
        fs::metadata(self.root.join(name)).is_ok_and(|found| found.len() == size)
    }
}

fn copy(
    name: &str,
    size: u64,
    content: &mut dyn Read,
    mut write: impl FnMut(&[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let mut buffer = vec![0; BUFFER.min(size.max(1) as usize)];
    let mut copied = 0;
    loop {
        match content.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                write(&buffer[..count])?;
                copied += count as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => match error.downcast::<Error>() {
                Ok(error) => return Err(error),
                Err(error) => return Err(Error::io(format!("read {name}"))(error)),
            },
        }
    }
    if copied != size {
        return Err(Error::Archive(format!(
            "{name} has {copied} bytes instead of {size}"
        )));
    }
    Ok(())
}

/// Reads a blob, and says at its end if it is not what its digest says.
pub(crate) struct Verified<'a> {
    file: File,
    digest: &'a Digest,
    hasher: Option<Hasher>,
}

impl<'a> Verified<'a> {
    pub(crate) fn new(file: File, digest: &'a Digest) -> Self {
        Self {
            file,
            digest,
            hasher: Some(Hasher::new(digest.algorithm())),
        }
    }
}

impl Read for Verified<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        if count > 0 {
            if let Some(hasher) = &mut self.hasher {
                hasher.update(&buffer[..count]);
            }
        } else if let Some(hasher) = self.hasher.take() {
            let what = format!("blob {} (kelp system check tells more)", self.digest);
            let right = self.digest.is(&what, hasher.finish());
            right.map_err(io::Error::other)?;
        }
        Ok(count)
    }
}
