//! Whiteouts: how a layer says that something below it is gone.
//!
//! In an archive a file `.wh.NAME` hides NAME, and `.wh..wh..opq` hides all that lower layers have in
//! its directory (OCI image specification, layer.md, "Whiteouts"). Either concerns the layers below
//! alone: what the same layer has stays, in whatever order they come. overlayfs takes a character
//! device 0:0 for the former, which any user may make since Linux 5.8, and the attribute
//! `user.overlay.opaque` for the latter, when it is mounted with `userxattr`.
//!
//! A file system that has no such device or attribute, an overlay for one, keeps the markers as empty
//! files: no overlay can have it as its upper directory either, and [`crate::merged`] reads both.

use std::os::fd::BorrowedFd;
use std::path::Path;

use rustix::fs::{AtFlags, FileType, Mode, Stat, XattrFlags, fsetxattr, mknodat, statat};
use rustix::io::Errno;

use super::entry::{Extractor, operation};
use super::path::{show, split};
use crate::Error;

/// The attribute that makes a directory opaque.
pub const OPAQUE: &str = "user.overlay.opaque";

/// Whether an extracted directory hides all that lower layers have in it.
pub(crate) fn is_opaque(directory: &Path) -> bool {
    let mut value = [0; 1];
    rustix::fs::lgetxattr(directory, OPAQUE, &mut value) == Ok(1) && value == *b"y"
}

/// The same for an open one.
pub fn is_opaque_at(directory: BorrowedFd<'_>) -> bool {
    let mut value = [0; 1];
    rustix::fs::fgetxattr(directory, OPAQUE, &mut value) == Ok(1) && value == *b"y"
}

/// How the name of every marker begins.
pub(crate) const PREFIX: &[u8] = b".wh.";

/// The marker that makes its directory opaque.
pub(crate) const OPAQUE_MARKER: &[u8] = b".wh..wh..opq";

/// Whether a name is not a file but says something of others.
pub(crate) fn is_marker(name: &[u8]) -> bool {
    name.starts_with(PREFIX)
}

/// Whether something is in a directory with the name of a marker, where nothing can be: on disk the name
/// would hide another.
pub(crate) fn is_within_marker(path: &[u8]) -> bool {
    split(path).0.split(|&byte| byte == b'/').any(is_marker)
}

/// Whether something is in a directory that aufs kept for itself, as `.wh..wh.plnk`.
pub(crate) fn is_beneath_marker(path: &[u8]) -> bool {
    let (parent, _) = split(path);
    parent
        .split(|&byte| byte == b'/')
        .any(|name| name.starts_with(b".wh..wh."))
}

/// Whether something on disk is a whiteout.
pub fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Makes a whiteout; or the marker of it, where the file system can't.
pub(super) fn make(at: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<()> {
    match mknodat(at, name, FileType::CharacterDevice, Mode::empty(), 0) {
        Err(Errno::PERM | Errno::OPNOTSUPP | Errno::INVAL) => {
            make_marker(at, &[PREFIX, name].concat())
        }
        made => made,
    }
}

/// Makes an open directory opaque; or puts the marker in it, where the file system can't.
pub(super) fn make_opaque(directory: BorrowedFd<'_>) -> rustix::io::Result<()> {
    match fsetxattr(directory, OPAQUE, b"y", XattrFlags::empty()) {
        Err(Errno::PERM | Errno::OPNOTSUPP) => make_marker(directory, OPAQUE_MARKER),
        made => made,
    }
}

fn make_marker(at: BorrowedFd<'_>, name: &[u8]) -> rustix::io::Result<()> {
    match mknodat(at, name, FileType::RegularFile, Mode::RUSR, 0) {
        Err(Errno::EXIST) => Ok(()),
        made => made,
    }
}

/// Does what a marker at this path says.
pub(super) fn apply(extractor: &mut Extractor, path: &[u8]) -> Result<(), Error> {
    let (parent, marker) = split(path);
    let at = extractor.parent(parent)?;
    let name = match &marker[PREFIX.len()..] {
        b".wh..opq" => {
            extractor.directories.set_opaque(parent);
            return Ok(());
        }
        // What aufs kept for itself.
        other if other.starts_with(PREFIX) => return Ok(()),
        b"" | b"." | b".." => {
            return Err(Error::Archive(format!(
                "{}: a whiteout of nothing",
                show(path)
            )));
        }
        name => name,
    };
    let failed = |errno| operation("extract", path, errno);
    match make(at, name) {
        Err(Errno::EXIST) => {
            let stat = statat(at, name, AtFlags::SYMLINK_NOFOLLOW).map_err(failed)?;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                let mut directory = parent.to_vec();
                if !directory.is_empty() {
                    directory.push(b'/');
                }
                directory.extend_from_slice(name);
                extractor.directories.set_opaque(&directory);
            }
            Ok(())
        }
        made => made.map_err(failed),
    }
}
