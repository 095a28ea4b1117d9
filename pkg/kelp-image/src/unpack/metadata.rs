//! Owners, modes, attributes and times.

use std::borrow::Cow;
use std::os::fd::BorrowedFd;

use rustix::fs::{
    AtFlags, Gid, Mode, RawMode, Timespec, Timestamps, Uid, XattrFlags, chownat, fchmod, fchown,
    fsetxattr, futimens, utimensat,
};
use rustix::io::Errno;

use super::entry::operation;
use super::path::show;
use super::{Options, Ownership};
use crate::Error;
use crate::mode::set_mode;
use crate::tar::{Entry, Kind};

/// The real owner of a file whose user is the only id, as `UID:GID`.
pub const OWNER_XATTR: &str = "user.kelp.owner";
/// The real mode in octal, where it is not the one on disk.
pub const MODE_XATTR: &str = "user.kelp.mode";
/// What device an empty regular file stands for, as `c:MAJOR:MINOR` or `b:MAJOR:MINOR`.
pub const DEVICE_XATTR: &str = "user.kelp.rdev";
/// The file capabilities that a file of the only id would have.
pub const CAPABILITY_XATTR: &str = "user.kelp.capability";

const CAPABILITY: &[u8] = b"security.capability";
const SET_ID: u32 = 0o6000;

/// Sets metadata as the process's ids and the options need it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Metadata {
    ownership: Ownership,
    /// In a tree that only this extraction changes, new files have the process's ids and mode. In
    /// another one a setgid directory or a default ACL may give them different ones.
    own_tree: bool,
    uid: u32,
    gid: u32,
    umask: u32,
}

impl Metadata {
    pub(super) fn new(options: Options) -> Self {
        let umask = rustix::process::umask(Mode::empty());
        rustix::process::umask(umask);
        Self {
            ownership: options.ownership,
            own_tree: options.whiteouts,
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
            umask: umask.as_raw_mode() as u32,
        }
    }

    pub(super) fn umask(&self) -> u32 {
        self.umask
    }

    /// Who owns a directory that the archive has files in but no entry of: root; whose ids in a layer
    /// are those of the process that makes it.
    pub(super) fn implied_owner(&self) -> (u64, u64) {
        if self.own_tree && self.ownership == Ownership::Mapped {
            return (self.uid.into(), self.gid.into());
        }
        (0, 0)
    }

    /// The mode to make a file with: without the bits that a change of owner or a write clears, and
    /// such that its owner may set attributes.
    pub(super) fn creation_mode(&self, entry: &Entry) -> Mode {
        let writable = if self.needs_xattrs(entry) { 0o600 } else { 0 };
        Mode::from_raw_mode(((entry.mode & !SET_ID) | writable) as RawMode)
    }

    fn needs_xattrs(&self, entry: &Entry) -> bool {
        !entry.xattrs.is_empty()
            || matches!(entry.kind, Kind::CharacterDevice | Kind::BlockDevice)
            || (self.ownership == Ownership::Single
                && (self.needs_owner(entry) || entry.mode & SET_ID != 0))
    }

    /// Whether a file has all its metadata but the times once it is made with
    /// [`Metadata::creation_mode`].
    pub(super) fn is_plain(&self, entry: &Entry) -> bool {
        !self.needs_xattrs(entry) && !self.needs_owner(entry) && !self.needs_mode(entry)
    }

    fn needs_owner(&self, entry: &Entry) -> bool {
        match self.ownership {
            Ownership::Mapped => {
                !self.own_tree || (entry.uid, entry.gid) != (self.uid.into(), self.gid.into())
            }
            Ownership::Single => (entry.uid, entry.gid) != (0, 0),
        }
    }

    fn needs_mode(&self, entry: &Entry) -> bool {
        !self.own_tree
            || entry.mode & self.umask != 0
            || (self.needs_xattrs(entry) && entry.mode & 0o600 != 0o600)
            || (self.ownership == Ownership::Mapped && entry.mode & SET_ID != 0)
    }

    fn mode(&self, entry: &Entry) -> Mode {
        Mode::from_raw_mode(mode_on_disk(self.ownership, entry) as RawMode)
    }

    /// Finishes a regular file; returns how many attributes could not be set.
    ///
    /// A change of owner clears set-id bits and capabilities, so it comes first. `user.*` attributes
    /// need the right to write (xattr(7)), so the mode comes after them; times come last.
    pub(super) fn apply_to_file(
        &self,
        file: BorrowedFd<'_>,
        entry: &Entry,
    ) -> rustix::io::Result<u64> {
        let mut skipped = 0;
        if self.needs_owner(entry) && self.ownership == Ownership::Mapped {
            let (uid, gid) = ids(entry)?;
            fchown(file, Some(uid), Some(gid))?;
        }
        if self.needs_xattrs(entry) {
            skipped += self.set_xattrs(file, entry)?;
        }
        if self.needs_mode(entry) {
            fchmod(file, self.mode(entry))?;
        }
        futimens(file, &times(entry))?;
        Ok(skipped)
    }

    /// Finishes a directory that is opened, and whose mode may be right already.
    pub(super) fn apply_to_directory(
        &self,
        directory: BorrowedFd<'_>,
        entry: &Entry,
        mode_on_disk: Option<u32>,
    ) -> rustix::io::Result<u64> {
        if self.needs_owner(entry) && self.ownership == Ownership::Mapped {
            let (uid, gid) = ids(entry)?;
            fchown(directory, Some(uid), Some(gid))?;
        }
        let skipped = self.set_xattrs(directory, entry)?;
        if self.needs_directory_mode(entry, mode_on_disk) {
            fchmod(directory, self.mode(entry))?;
        }
        Ok(skipped)
    }

    /// Whether a directory must be opened to be finished, and not only be named.
    pub(super) fn must_open(&self, entry: &Entry, mode_on_disk: Option<u32>) -> bool {
        self.needs_xattrs(entry) || self.needs_directory_mode(entry, mode_on_disk)
    }

    fn needs_directory_mode(&self, entry: &Entry, mode_on_disk: Option<u32>) -> bool {
        !self.own_tree || mode_on_disk != Some(entry.mode)
    }

    /// Finishes what is not opened: a link, a pipe, a directory with nothing unusual.
    pub(super) fn apply_to_name(
        &self,
        at: BorrowedFd<'_>,
        name: &[u8],
        entry: &Entry,
    ) -> rustix::io::Result<()> {
        self.apply_owner_to_name(at, name, entry)?;
        if entry.kind == Kind::Fifo && self.needs_mode(entry) {
            set_mode(at, name, self.mode(entry))?;
        }
        utimensat(at, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Sets the owner alone of what is not opened.
    pub(super) fn apply_owner_to_name(
        &self,
        at: BorrowedFd<'_>,
        name: &[u8],
        entry: &Entry,
    ) -> rustix::io::Result<()> {
        if self.needs_owner(entry) && self.ownership == Ownership::Mapped {
            let (uid, gid) = ids(entry)?;
            chownat(at, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    }

    fn set_xattrs(&self, file: BorrowedFd<'_>, entry: &Entry) -> rustix::io::Result<u64> {
        let (attributes, mut skipped) = attributes(self.ownership, entry);
        for (name, value) in attributes {
            match fsetxattr(file, name, &value, XattrFlags::empty()) {
                Ok(()) => {}
                // The file system has none, or the kernel lets no user namespace set this one.
                Err(Errno::OPNOTSUPP | Errno::PERM | Errno::INVAL) => skipped += 1,
                Err(errno) => return Err(errno),
            }
        }
        Ok(skipped)
    }

    /// What to say when an entry could not be made.
    pub(super) fn error(&self, path: &[u8], entry: &Entry, errno: Errno) -> Error {
        if errno == Errno::INVAL && self.ownership == Ownership::Mapped && self.needs_owner(entry) {
            return Error::UnmappedId {
                path: show(path),
                uid: entry.uid,
                gid: entry.gid,
            };
        }
        operation("extract", path, errno)
    }
}

/// Names and values of attributes.
pub(crate) type Attributes<'a> = Vec<(&'a [u8], Cow<'a, [u8]>)>;

/// The attributes that a file or directory gets; and how many of the archive's it does not, because they
/// are not for an archive to set.
pub(crate) fn attributes(ownership: Ownership, entry: &Entry) -> (Attributes<'_>, u64) {
    let single = ownership == Ownership::Single;
    let mut list = Attributes::new();
    let mut left_out = 0;
    for (name, value) in &entry.xattrs {
        if name == CAPABILITY && single {
            list.push((CAPABILITY_XATTR.as_bytes(), value.into()));
        } else if is_for_archives(name) {
            list.push((name, value.into()));
        } else {
            left_out += 1;
        }
    }
    let mut own = |name: &'static str, value: String| {
        list.push((name.as_bytes(), value.into_bytes().into()));
    };
    if single && (entry.uid, entry.gid) != (0, 0) {
        own(OWNER_XATTR, format!("{}:{}", entry.uid, entry.gid));
    }
    if single && entry.mode & SET_ID != 0 {
        own(MODE_XATTR, format!("{:o}", entry.mode));
    }
    let device = match entry.kind {
        Kind::CharacterDevice => Some('c'),
        Kind::BlockDevice => Some('b'),
        _ => None,
    };
    if let Some(letter) = device {
        own(
            DEVICE_XATTR,
            format!("{letter}:{}:{}", entry.major, entry.minor),
        );
    }
    (list, left_out)
}

/// The mode on disk. With a single id a set-id bit would only hand the user's rights to others.
pub(crate) fn mode_on_disk(ownership: Ownership, entry: &Entry) -> u32 {
    match ownership {
        Ownership::Mapped => entry.mode,
        Ownership::Single => entry.mode & !SET_ID,
    }
}

/// An entry's times, for a file's.
pub(super) fn times(entry: &Entry) -> Timestamps {
    let time = Timespec {
        tv_sec: entry.mtime,
        tv_nsec: entry.mtime_nanoseconds.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// An entry's ids; EINVAL, as for ids that are not mapped, if they can't be ids at all.
fn ids(entry: &Entry) -> rustix::io::Result<(Uid, Gid)> {
    // The last 32-bit number means "unchanged" to chown(2).
    let id = |number: u64| match u32::try_from(number) {
        Ok(id) if id != u32::MAX => Ok(id),
        _ => Err(Errno::INVAL),
    };
    Ok((Uid::from_raw(id(entry.uid)?), Gid::from_raw(id(entry.gid)?)))
}

/// Whether an archive may set an attribute. Those of overlayfs would redirect lookups in other
/// layers, ours would claim owners, and the rest of `security.` and `trusted.` belongs to the host.
fn is_for_archives(name: &[u8]) -> bool {
    let starts = |prefix: &str| name.starts_with(prefix.as_bytes());
    name == CAPABILITY
        || starts("system.posix_acl_")
        || (starts("user.") && !starts("user.overlay.") && !starts("user.kelp."))
}
