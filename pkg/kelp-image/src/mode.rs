//! Modes of files in trees that others change meanwhile.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd};

use kelp_sys::mode::chmod_no_follow;
use kelp_sys::spawn::number;
use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, chmodat, fstat, openat};
use rustix::io::Errno;
use rustix::path::Arg;

const PERMISSIONS: u32 = 0o7777;

/// Changes the mode of what has a name in a directory, and never that of what a link leads to: fchmodat(2)
/// would, and whoever may rename can put a link there between any look and the change.
pub(crate) fn set_mode(at: BorrowedFd<'_>, name: &[u8], mode: Mode) -> rustix::io::Result<()> {
    name.into_with_c_str(|name| {
        let changed = chmod_no_follow(at, name, mode.as_raw_mode());
        match changed.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO)) {
            // Before Linux 6.6, or a filter that does not know the call.
            Err(Errno::NOSYS | Errno::PERM) => by_descriptor(at, name, mode),
            result => result,
        }
    })
}

/// The same by the link that /proc has of an open file, which leads to that file alone.
fn by_descriptor(at: BorrowedFd<'_>, name: &CStr, mode: Mode) -> rustix::io::Result<()> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = openat(at, name, flags, Mode::empty())?;
    let found = fstat(&file)?.st_mode;
    if FileType::from_raw_mode(found) == FileType::Symlink {
        return Err(Errno::LOOP);
    }
    // Who has a root directory of its own may have no /proc, and seldom needs it.
    if found & PERMISSIONS == mode.as_raw_mode() {
        return Ok(());
    }
    let path = format!("/proc/self/fd/{}", number(file.as_fd()));
    chmodat(CWD, path, mode, AtFlags::empty())
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};
    use std::path::Path;
    use std::sync::atomic::{AtomicBool, Ordering};

    use rustix::fs::{RenameFlags, renameat_with};

    use super::*;

    #[test]
    fn a_link_keeps_its_target_from_the_change() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("file"), "").unwrap();
        symlink("file", path("link")).unwrap();
        let at = openat(CWD, directory.path(), OFlags::PATH, Mode::empty()).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & PERMISSIONS;
        for (number, set) in [
            set_mode as fn(BorrowedFd<'_>, &[u8], Mode) -> rustix::io::Result<()>,
            |at, name, mode| name.into_with_c_str(|name| by_descriptor(at, name, mode)),
        ]
        .into_iter()
        .enumerate()
        {
            let wanted = 0o604 + number as u32;
            set(at.as_fd(), b"file", Mode::from_raw_mode(wanted)).unwrap();
            assert_eq!(mode(&path("file")), wanted);
            let refused = set(at.as_fd(), b"link", Mode::from_raw_mode(0o666)).unwrap_err();
            assert!(
                matches!(refused, Errno::OPNOTSUPP | Errno::LOOP),
                "{refused}"
            );
            assert_eq!(mode(&path("file")), wanted);
        }
    }

    #[test]
    fn a_link_that_comes_between_is_not_followed_either() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("canary"), "").unwrap();
        fs::set_permissions(path("canary"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::create_dir(path("d")).unwrap();
        symlink(path("canary"), path("other")).unwrap();
        fs::write(path("d/name"), "").unwrap();
        let at = openat(CWD, path("d"), OFlags::PATH, Mode::empty()).unwrap();
        let (stop, mut changed) = (AtomicBool::new(false), 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (one, other) = (path("d/name"), path("other"));
                while !stop.load(Ordering::Relaxed) {
                    renameat_with(CWD, &one, CWD, &other, RenameFlags::EXCHANGE).unwrap();
                }
            });
            for round in 0..20_000 {
                let wanted = Mode::from_raw_mode(0o640 + round % 8);
                changed += u32::from(set_mode(at.as_fd(), b"name", wanted).is_ok());
                let _ = by_descriptor(at.as_fd(), c"name", wanted);
            }
            stop.store(true, Ordering::Relaxed);
        });
        let canary = fs::metadata(path("canary")).unwrap();
        assert_eq!(canary.permissions().mode() & PERMISSIONS, 0o600);
        assert!(changed > 0);
    }
}
