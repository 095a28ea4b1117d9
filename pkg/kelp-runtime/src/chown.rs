//! Giving a tree to a user, by descriptor, without following links.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use kelp_copy::{Trail, names};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid, chownat, fstat, openat};
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
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut trail = Trail::new(openat(file, ".", flags, Mode::empty())?)?;
    let mut left = vec![names(trail.here())?];
    while let Some(names_left) = left.last_mut() {
        let Some(name) = names_left.pop() else {
            left.pop();
            trail.leave()?;
            continue;
        };
        match openat(trail.here(), &name, flags, Mode::empty()) {
            Ok(child) if mount.is_some() && mount_id(&child) != mount => {}
            Ok(child) => {
                one(child.as_fd(), uid, gid)?;
                left.push(names(&child)?);
                trail.enter(child)?;
            }
            Err(Errno::NOTDIR | Errno::LOOP) => {
                let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let child = openat(trail.here(), &name, flags, Mode::empty())?;
                // A file can be mounted on another one, too.
                if mount.is_none() || mount_id(&child) == mount {
                    one(child.as_fd(), uid, gid)?;
                }
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
