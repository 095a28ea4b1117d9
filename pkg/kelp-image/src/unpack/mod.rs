//! The extractor: one for layers, `load`, `import`, `cp` and `ADD`.
//!
//! An archive is hostile: it may name what lies outside, put a symbolic link where it then writes, or
//! never end. Names are cleaned as text first (`path`), directories are found by descriptor beneath
//! the root (`walker`), and the last component is never followed.
//!
//! Its speed is that of the kernel's file creation, so a file in a layer costs four system calls:
//! openat(2) with its final mode, write(2), utimensat(2), close(2). Owners are set only where they are
//! not the process's, and directories get owner, mode and times at the end, when nothing changes in
//! them any more. Decompression and hashing run on a second thread (`pipeline`).

mod directories;
mod entry;
mod flusher;
pub(crate) mod metadata;
pub(crate) mod path;
pub(crate) mod pipeline;
pub(crate) mod translate;
pub(crate) mod walker;
pub(crate) mod whiteout;

pub(crate) use whiteout::is_opaque;

pub use metadata::{CAPABILITY_XATTR, DEVICE_XATTR, MODE_XATTR, OWNER_XATTR};

use std::io::Read;
use std::os::fd::OwnedFd;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::digest::Digest;
use crate::tar::{Entry, TarError, TarReader};
use entry::Extractor;
use pipeline::Pipeline;

/// Who owns what is extracted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ownership {
    /// The ids in the archive, by chown(2): the process is inside a user namespace that maps them.
    Mapped,
    /// The user owns everything, as the only id that is mapped. The real owner, the setuid and setgid
    /// bits and device numbers are kept in `user.kelp.*` attributes, except those of symbolic links
    /// and pipes, which the kernel gives no `user.*` attributes.
    Single,
}

/// How to extract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Who owns the files.
    pub ownership: Ownership,
    /// Whether `.wh.` names are whiteouts, as in layers, or plain files.
    pub whiteouts: bool,
    /// Whether a directory in the archive goes through a symbolic link to a directory that has its
    /// name already, as `cp` and `ADD` want, instead of replacing it, as layers do.
    pub keep_directory_links: bool,
    /// Whether a directory may replace something else and the other way round.
    pub replace_kinds: bool,
    /// Whether what is written goes to the disk at once, because a sync of all of it will follow.
    pub flush: bool,
}

impl Options {
    /// How a layer is extracted.
    pub fn layer(ownership: Ownership) -> Self {
        Self {
            ownership,
            whiteouts: true,
            keep_directory_links: false,
            replace_kinds: true,
            flush: false,
        }
    }

    /// How `cp` and `ADD` extract into a tree that is there.
    pub fn copy(ownership: Ownership) -> Self {
        Self {
            ownership,
            whiteouts: false,
            keep_directory_links: true,
            replace_kinds: false,
            flush: false,
        }
    }
}

/// What was extracted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// SHA-256 of the uncompressed archive: a layer's diff id.
    pub diff_id: Digest,
    /// Length in bytes of the uncompressed archive.
    pub archive_size: u64,
    /// Bytes of content that were written.
    pub size: u64,
    /// Entries of the archive: files, directories and all else.
    pub files: u64,
    /// Extended attributes that the file system or the kernel did not take, or that are not for an
    /// archive to set.
    pub skipped_xattrs: u64,
}

/// Sees each entry first: may change it, in its path for instance, or drop it by returning false.
pub type Filter<'a> = &'a mut dyn FnMut(&mut Entry) -> Result<bool, Error>;

/// Extracts an archive, compressed or not, beneath a directory.
///
/// Umask: the files' modes are exact whatever it is; 0 saves a system call a file.
pub fn unpack<R: Read + Send + 'static>(
    source: R,
    root: OwnedFd,
    options: Options,
    mut filter: Option<Filter<'_>>,
) -> Result<Summary, Error> {
    let pipeline = Pipeline::start(source).map_err(Error::io("start to read the archive"))?;
    let mut reader = TarReader::new(pipeline);
    let mut extractor = Extractor::new(root, options)?;
    let mut entry = Entry::default();
    while reader.next(&mut entry).map_err(archive_error)? {
        if let Some(filter) = &mut filter
            && !filter(&mut entry)?
        {
            continue;
        }
        extractor.extract(&entry, &mut reader)?;
    }
    let counts = extractor.finish()?;
    let stream = reader
        .into_inner()
        .finish()
        .map_err(|error| archive_error(error.into()))?;
    Ok(Summary {
        diff_id: stream.digest,
        archive_size: stream.size,
        size: counts.size,
        files: counts.files,
        skipped_xattrs: counts.skipped_xattrs,
    })
}

pub(crate) fn archive_error(error: TarError) -> Error {
    match error {
        TarError::Io(source) => Error::Io {
            what: "read the archive".to_owned(),
            source,
        },
        other => Error::Archive(other.to_string()),
    }
}

#[cfg(test)]
mod tests;
