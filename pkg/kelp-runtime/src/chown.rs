//! Giving a tree to a user, by descriptor, without following links.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Uid, chownat, fchown, openat};

/// Changes owner and group of `directory` and of everything in it.
pub(crate) fn recursively(directory: BorrowedFd<'_>, uid: u32, gid: u32) -> io::Result<()> {
    let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    fchown(directory, owner.0, owner.1)?;
    if FileType::from_raw_mode(rustix::fs::fstat(directory)?.st_mode) != FileType::Directory {
        return Ok(());
    }
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        let name: &CStr = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match openat(directory, name, flags, Mode::empty()) {
            Ok(child) => recursively(child.as_fd(), uid, gid)?,
            Err(rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => {
                chownat(directory, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
