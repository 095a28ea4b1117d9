//! A layer from some paths of a tree: how a copy of an image has been changed.

use std::ffi::CString;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use kelp_copy::is_directory;
use rustix::fs::{AtFlags, fstat, statat};

use super::changes::check_name;
use super::entries::{Entries, Style};
use super::{gone_is_nothing, open_directory};
use crate::tar::write::TarWriter;
use crate::unpack::whiteout::PREFIX;

/// Writes these paths, in their order, without what directories have; those that are gone as whiteouts.
pub fn pack_paths<'a, W: Write>(
    root: &OwnedFd,
    paths: impl Iterator<Item = (&'a Path, bool)>,
    writer: &mut TarWriter<W>,
    style: Style,
) -> io::Result<()> {
    let mut keep = |_: &mut _| {};
    let mut entries = Entries::new(writer, style, &mut keep);
    for (path, is_gone) in paths {
        let path = path.strip_prefix("/").unwrap_or(path);
        let Some(name) = path.file_name() else {
            entries.directory(root.as_fd(), &fstat(root)?, b".")?;
            continue;
        };
        let bytes = path.as_os_str().as_bytes();
        if is_gone {
            let parent = &bytes[..bytes.len() - name.as_bytes().len()];
            entries.marker(&[parent, PREFIX, name.as_bytes()].concat())?;
            continue;
        }
        check_name(name.as_bytes(), bytes)?;
        gone_is_nothing(one(&mut entries, root, path, bytes))?;
    }
    Ok(())
}

fn one<W: Write>(
    entries: &mut Entries<'_, W>,
    root: &OwnedFd,
    path: &Path,
    bytes: &[u8],
) -> io::Result<()> {
    let mut parts: Vec<CString> = Vec::new();
    for part in path {
        parts.push(CString::new(part.as_bytes())?);
    }
    let Some(name) = parts.pop() else {
        return Ok(());
    };
    let mut at = root.try_clone()?;
    for part in parts {
        at = open_directory(at.as_fd(), &part, bytes)?;
    }
    let stat = statat(&at, &name, AtFlags::SYMLINK_NOFOLLOW)?;
    if !is_directory(&stat) {
        return entries.item(at.as_fd(), &name, &stat, bytes);
    }
    let directory = open_directory(at.as_fd(), &name, bytes)?;
    let stat = fstat(&directory)?;
    entries.directory(directory.as_fd(), &stat, bytes)
}
