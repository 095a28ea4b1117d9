//! The host's side of a copy, as the ordinary user.
//!
//! What comes from a container is hostile: it is extracted beneath the destination's own directory
//! and nowhere else, whatever links it holds, and belongs to the user.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use kelp_image::pack::pack;
use kelp_image::tar::write::TarWriter;
use kelp_image::tar::{Entry, Kind};
use kelp_image::unpack::{Options, Ownership, unpack};
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;

use super::place::{Place, Source, There, beneath, ending, is_top, place};
use crate::{Error, Kind as ErrorKind};

/// Opens what is to be copied, through a link at the end of the path too.
pub(super) fn open_source(path: &Path) -> Result<(OwnedFd, Source), Error> {
    let failed = |error: Errno| match error {
        Errno::NOENT => Error::new(
            ErrorKind::NotFound,
            format!(
                "\"{}\" could not be found on the host: no such file or directory",
                path.display()
            ),
        ),
        error => Error::io(format!("open {}", path.display()))(error),
    };
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let open = match openat(CWD, path, flags, Mode::empty()) {
        // A link that leads nowhere is copied itself; a socket can't be opened, and is left out.
        Err(Errno::NOENT | Errno::NXIO) => openat(
            CWD,
            path,
            OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
            Mode::empty(),
        ),
        open => open,
    };
    let fd = open.map_err(failed)?;
    let source = Source {
        directory: super::inside::is_directory(&fd),
        contents: ending(path).1,
        name: last_name(path),
    };
    Ok((fd, source))
}

/// The last component of a path of the host; for `.` and `..` that of what they mean.
fn last_name(path: &Path) -> String {
    let real;
    let path = if path.file_name().is_some() {
        path
    } else {
        real = fs::canonicalize(path).unwrap_or_default();
        &real
    };
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

/// Writes a source as an archive whose only top is `.`.
pub(super) fn send(source: &OwnedFd, sink: impl Write) -> io::Result<()> {
    let mut writer = TarWriter::new(io::BufWriter::with_capacity(256 << 10, sink));
    // Attributes of the host's files, capabilities above all, are not for a container.
    let mut filter = |entry: &mut Entry| {
        entry.xattrs.clear();
    };
    pack(source, b".", &mut writer, &mut filter)?;
    writer.finish().map(drop)
}

/// Where an archive goes on the host.
#[derive(Debug)]
pub(super) struct Target {
    root: OwnedFd,
    prefix: Vec<u8>,
    keeps_top: bool,
    overwrite: bool,
}

impl Target {
    /// Finds where `source` goes if it is copied to `path`.
    pub(super) fn find(path: &Path, source: &Source, overwrite: bool) -> Result<Self, Error> {
        let (as_directory, _) = ending(path);
        let failed = |error: io::Error| Error::io(format!("open {}", path.display()))(error);
        let there = match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => There::Directory,
            Ok(metadata) if !metadata.is_file() && !overwrite => {
                return Err(Error::invalid(format!(
                    "{} is neither a directory nor a regular file; an archive goes to standard \
                     output with \"-\"",
                    path.display()
                )));
            }
            Ok(_) => There::Other,
            Err(error) if error.kind() == io::ErrorKind::NotFound => There::Nothing,
            Err(error) => return Err(failed(error)),
        };
        let target = |root: &Path, prefix: &[u8], keeps_top| {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
            let root = openat(CWD, root, flags, Mode::empty())
                .map_err(Error::io(format!("open {}", root.display())))?;
            Ok(Self {
                root,
                prefix: prefix.to_vec(),
                keeps_top,
                overwrite,
            })
        };
        match place(source, there, as_directory, overwrite)? {
            Place::Under(name) => target(path, name.as_bytes(), false),
            Place::Into => target(path, b".", true),
            Place::As => {
                // Through a link to what is there, which is then replaced itself.
                let path = match there {
                    There::Nothing => path.to_owned(),
                    _ => fs::canonicalize(path).map_err(failed)?,
                };
                let name = path
                    .file_name()
                    .ok_or_else(|| Error::invalid(format!("{} has no name", path.display())))?;
                let parent = path
                    .parent()
                    .filter(|parent| !parent.as_os_str().is_empty());
                let parent: PathBuf = parent.unwrap_or(Path::new(".")).to_owned();
                target(&parent, name.as_bytes(), false)
            }
        }
    }

    /// Extracts an archive that came from a container.
    pub(super) fn receive(self, archive: File) -> Result<(), Error> {
        let options = Options {
            replace_kinds: self.overwrite,
            ..Options::copy(Ownership::Single)
        };
        let (prefix, keeps_top) = (self.prefix, self.keeps_top);
        let mut filter = |entry: &mut Entry| harmless(entry, &prefix, keeps_top);
        unpack(archive, self.root, options, Some(&mut filter))?;
        Ok(())
    }
}

/// Takes from an entry what a container could harm the user with, and moves it to where it goes.
fn harmless(entry: &mut Entry, prefix: &[u8], keeps_top: bool) -> Result<bool, kelp_image::Error> {
    let shown = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    if matches!(entry.kind, Kind::CharacterDevice | Kind::BlockDevice) {
        let what = if is_top(&entry.path) {
            "the source".to_owned()
        } else {
            shown(&entry.path)
        };
        return Err(kelp_image::Error::Invalid(format!(
            "{what} is a device, which a user can't make"
        )));
    }
    if keeps_top && is_top(&entry.path) {
        return Ok(false);
    }
    let escapes = |name: &[u8]| {
        kelp_image::Error::Archive(format!("{:?} leads out of the archive", shown(name)))
    };
    entry.path = beneath(prefix, &entry.path).ok_or_else(|| escapes(&entry.path))?;
    if entry.kind == Kind::HardLink {
        entry.link = beneath(prefix, &entry.link).ok_or_else(|| escapes(&entry.link))?;
    }
    // All belongs to the user, for whom a set-id bit would only open a door to others.
    (entry.uid, entry.gid) = (0, 0);
    entry.mode &= 0o1777;
    entry.xattrs.retain(|(name, _)| name.starts_with(b"user."));
    Ok(true)
}
