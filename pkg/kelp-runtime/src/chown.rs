//! Giving a tree to a user, by descriptor, without following links.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, Uid, chownat, fstat, openat};
use rustix::io::Errno;

use crate::init::mount_id;

/// Changes owner and group of what is open, by any kind of descriptor.
pub(crate) fn one(file: BorrowedFd<'_>, uid: u32, gid: u32) -> io::Result<()> {
    let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    Ok(chownat(file, "", owner.0, owner.1, AtFlags::EMPTY_PATH)?)
}

/// Changes owner and group of what is open and, if it is a directory, of everything in it; with a
/// mount, of what is on that mount alone.
pub(crate) fn recursively(
    file: BorrowedFd<'_>,
    uid: u32,
    gid: u32,
    mount: Option<u64>,
) -> io::Result<()> {
    one(file, uid, gid)?;
    if FileType::from_raw_mode(fstat(file)?.st_mode) != FileType::Directory {
        return Ok(());
    }
    let owner = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = openat(file, ".", flags, Mode::empty())?;
    for entry in Dir::read_from(&directory)? {
        let entry = entry?;
        let name: &CStr = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        match openat(&directory, name, flags, Mode::empty()) {
            Ok(child) if mount.is_some() && mount_id(&child) != mount => {}
            Ok(child) => recursively(child.as_fd(), uid, gid, mount)?,
            Err(Errno::NOTDIR | Errno::LOOP) => {
                chownat(
                    &directory,
                    name,
                    owner.0,
                    owner.1,
                    AtFlags::SYMLINK_NOFOLLOW,
                )?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
