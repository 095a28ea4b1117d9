//! Reading from and writing into a container's root, all of it by descriptor beneath that root.
//!
//! The container may be at work: a link that is put in a path's place leads nowhere but inside.
//! Nothing is mounted, globbed or executed for a path.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use kelp_image::pack::pack;
use kelp_image::tar::write::TarWriter;
use kelp_image::tar::{Entry, Kind};
use kelp_image::unpack::{Options, unpack};
use kelp_runtime::rootfd::Root;
use rustix::fs::{FileType, OFlags, fstat, readlinkat};

use super::place::{Place, Source, There, beneath, clean, ending, is_top, place};
use crate::{Error, Kind as ErrorKind};

/// As many links as the kernel follows in one path (path_resolution(7)).
const MAX_LINKS: usize = 40;

const ANY: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// Opens what is to be copied, through a link at the end of the path too, unless that leads nowhere:
/// then it is the link itself.
pub(super) fn open_source(root: &Root, path: &Path) -> Result<OwnedFd, Error> {
    let failed = |error: io::Error| missing(path, error);
    let found = match root.open(path, ANY) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            root.open(path, ANY | OFlags::NOFOLLOW)
        }
        found => found,
    };
    let found = found.map_err(failed)?;
    let kind = kind(&found).map_err(failed)?;
    if !matches!(kind, FileType::Directory | FileType::RegularFile) {
        return Ok(found);
    }
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let open = root.open(path, flags).map_err(failed)?;
    // A device may have taken its place: opening it did nothing, reading it might.
    let now = self::kind(&open).map_err(failed)?;
    if now == kind {
        return Ok(open);
    }
    Err(Error::conflict(format!(
        "{} was replaced while it was copied",
        path.display()
    )))
}

fn kind(fd: &OwnedFd) -> io::Result<FileType> {
    Ok(FileType::from_raw_mode(fstat(fd)?.st_mode))
}

/// Whether a source is a directory.
pub(super) fn is_directory(fd: &OwnedFd) -> bool {
    kind(fd).is_ok_and(|kind| kind == FileType::Directory)
}

fn missing(path: &Path, error: io::Error) -> Error {
    if error.kind() == io::ErrorKind::NotFound {
        return Error::new(
            ErrorKind::NotFound,
            format!(
                "\"{}\" could not be found on container: no such file or directory",
                path.display()
            ),
        );
    }
    Error::io(format!("open {}", path.display()))(error)
}

/// Writes a source as an archive whose only top is `name`.
pub(super) fn send(source: &OwnedFd, name: &str, sink: impl Write) -> io::Result<()> {
    let mut writer = TarWriter::new(io::BufWriter::with_capacity(256 << 10, sink));
    pack(source, name.as_bytes(), &mut writer, &mut |_| {})?;
    writer.finish().map(drop)
}

/// Where an archive goes, beneath the root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// What the archive's top becomes.
    prefix: PathBuf,
    /// Whether the top itself is left as it is.
    keeps_top: bool,
}

impl Target {
    /// Finds where `source` goes if it is copied to `path`; without one, an archive is extracted.
    pub(super) fn find(
        root: &Root,
        path: &Path,
        source: Option<&Source>,
        overwrite: bool,
    ) -> Result<Self, Error> {
        let (as_directory, _) = ending(path);
        let (path, there) = resolve(root, &clean(path))?;
        let Some(source) = source else {
            return match there {
                There::Directory => Ok(Self {
                    prefix: path,
                    keeps_top: true,
                }),
                _ => Err(Error::invalid(format!(
                    "destination must be a directory when copying from stdin: /{}",
                    path.display()
                ))),
            };
        };
        let keeps_top = match place(source, there, as_directory, overwrite)? {
            Place::Under(name) => {
                return Ok(Self {
                    prefix: path.join(name),
                    keeps_top: false,
                });
            }
            Place::Into => true,
            Place::As => false,
        };
        if let Some(parent) = path.parent() {
            root.open(parent, ANY | OFlags::DIRECTORY)
                .map_err(|error| missing(&Path::new("/").join(parent), error))?;
        }
        Ok(Self {
            prefix: path,
            keeps_top,
        })
    }

    /// Moves an entry to where it goes; false if it is left out.
    pub(super) fn place(&self, entry: &mut Entry) -> Result<bool, kelp_image::Error> {
        let prefix = self.prefix.as_os_str().as_bytes();
        let escapes = |name: &[u8]| {
            let name = String::from_utf8_lossy(name).into_owned();
            kelp_image::Error::Archive(format!("{name:?} leads out of the archive"))
        };
        if self.keeps_top && is_top(&entry.path) {
            return Ok(false);
        }
        entry.path = beneath(prefix, &entry.path).ok_or_else(|| escapes(&entry.path))?;
        if entry.kind == Kind::HardLink {
            entry.link = beneath(prefix, &entry.link).ok_or_else(|| escapes(&entry.link))?;
        }
        Ok(true)
    }
}

/// Follows links at the end of a path by their text, and tells what is there in the end.
fn resolve(root: &Root, path: &Path) -> Result<(PathBuf, There), Error> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        let found = match root.open(&path, ANY | OFlags::NOFOLLOW) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok((path, There::Nothing));
            }
            Err(error) => return Err(missing(&Path::new("/").join(path), error)),
        };
        let failed = |error: io::Error| Error::io(format!("look at {}", path.display()))(error);
        match kind(&found).map_err(failed)? {
            FileType::Directory => return Ok((path, There::Directory)),
            FileType::Symlink => {
                let text = readlinkat(&found, "", Vec::new()).map_err(Error::io("read a link"))?;
                let text = PathBuf::from(std::ffi::OsString::from_vec(text.into_bytes()));
                let from = path.parent().unwrap_or(Path::new(""));
                path = clean(&from.join(text));
            }
            _ => return Ok((path, There::Other)),
        }
    }
    Err(Error::invalid(format!(
        "{}: too many levels of symbolic links",
        path.display()
    )))
}

/// Extracts an archive beneath the root; `own` sees each entry after it was placed.
pub(super) fn receive(
    archive: File,
    root: &Root,
    target: &Target,
    options: Options,
    mut own: impl FnMut(&mut Entry),
) -> Result<(), Error> {
    let root = root
        .as_fd()
        .try_clone_to_owned()
        .map_err(Error::io("copy a descriptor"))?;
    let mut filter = |entry: &mut Entry| {
        let kept = target.place(entry)?;
        own(entry);
        Ok(kept)
    };
    unpack(archive, root, options, Some(&mut filter))?;
    Ok(())
}
