//! Owners, modes, extended attributes and times.

use std::ffi::CStr;
use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::{
    AtFlags, Gid, Mode, Stat, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod, fchown,
    fgetxattr, flistxattr, fsetxattr, fstat, futimens, utimensat,
};
use rustix::io::Errno;

use crate::Copier;

/// The most that a list of attributes, or the value of one, can have (xattr(7)).
const LIMIT: usize = 64 << 10;

/// What an overlay keeps for itself in a layer, and means nothing in a tree.
const OVERLAY: &[u8] = b"user.overlay.";

/// The policy of the host labels files by itself.
const LABEL: &[u8] = b"security.selinux";

const MODE: u32 = 0o7777;

impl Copier {
    /// Gives an open file or directory what the one that it was copied from has.
    pub(crate) fn metadata(
        &mut self,
        from: BorrowedFd<'_>,
        stat: &Stat,
        to: BorrowedFd<'_>,
    ) -> io::Result<()> {
        let made = fstat(to)?;
        let chowned = (made.st_uid, made.st_gid) != (stat.st_uid, stat.st_gid);
        if chowned {
            let (uid, gid) = owner(stat);
            fchown(to, Some(uid), Some(gid))?;
        }
        // A change of the owner takes the set-id bits and the capabilities away.
        if chowned || made.st_mode & MODE != stat.st_mode & MODE {
            fchmod(to, Mode::from_raw_mode(stat.st_mode & MODE))?;
        }
        self.attributes(from, to)?;
        Ok(futimens(to, &times(stat))?)
    }

    fn attributes(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
        self.buffer.resize(2 * LIMIT, 0);
        let (names, value) = self.buffer.split_at_mut(LIMIT);
        let length = match flistxattr(from, &mut *names) {
            // A file system without any.
            Err(Errno::OPNOTSUPP) => return Ok(()),
            length => length?,
        };
        for name in names[..length].split_inclusive(|&byte| byte == 0) {
            let Ok(name) = CStr::from_bytes_with_nul(name) else {
                continue;
            };
            if name.to_bytes().starts_with(OVERLAY) || name.to_bytes() == LABEL {
                continue;
            }
            let length = match fgetxattr(from, name, &mut *value) {
                Err(Errno::NODATA) => continue,
                length => length?,
            };
            match fsetxattr(to, name, &value[..length], XattrFlags::empty()) {
                // The file system has no such attribute, or this user may not set it.
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::PERM) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Gives a link, a pipe or a socket its owner and times. The mode is the one that it was made with: to
/// change it by its name would follow a link that somebody put there.
pub(crate) fn set_by_name(at: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> io::Result<()> {
    let (uid, gid) = owner(stat);
    chownat(at, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    Ok(utimensat(
        at,
        name,
        &times(stat),
        AtFlags::SYMLINK_NOFOLLOW,
    )?)
}

fn owner(stat: &Stat) -> (Uid, Gid) {
    (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid))
}

fn times(stat: &Stat) -> Timestamps {
    let time = |seconds, nanoseconds| Timespec {
        tv_sec: seconds,
        tv_nsec: nanoseconds,
    };
    Timestamps {
        last_access: time(stat.st_atime as _, stat.st_atime_nsec as _),
        last_modification: time(stat.st_mtime as _, stat.st_mtime_nsec as _),
    }
}
