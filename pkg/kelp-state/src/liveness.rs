//! Whether a container's monitor lives: an flock(2) on `alive` in its runtime directory.
//!
//! The kernel drops the lock with the process, however it ends, so there is no pid to mistake and
//! nothing to clean up after a crash.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;

use crate::error::Error;

const FILE: &str = "alive";

/// The lock of a live monitor; released when dropped.
#[derive(Debug)]
pub struct Alive {
    _lock: OwnedFd,
}

/// Takes the lock for the calling process; `None` if another monitor has it.
pub fn claim(runtime_dir: &Path) -> Result<Option<Alive>, Error> {
    let path = runtime_dir.join(FILE);
    let open = || {
        rustix::fs::open(
            &path,
            OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC,
            Mode::RUSR | Mode::WUSR,
        )
        .map_err(io::Error::from)
    };
    let lock = open()
        .or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => fs::create_dir_all(runtime_dir).and_then(|()| open()),
            _ => Err(error),
        })
        .map_err(Error::io(format!("open {}", path.display())))?;
    match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(Alive { _lock: lock })),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(Error::io(format!("lock {}", path.display()))(error.into())),
    }
}

/// Whether a monitor holds the lock.
pub fn is_alive(runtime_dir: &Path) -> bool {
    let Ok(file) = rustix::fs::open(
        runtime_dir.join(FILE),
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    ) else {
        return false;
    };
    matches!(
        flock(&file, FlockOperation::NonBlockingLockShared),
        Err(Errno::WOULDBLOCK)
    )
}

/// Waits until no monitor holds the lock.
pub fn wait_until_gone(runtime_dir: &Path) -> Result<(), Error> {
    let path = runtime_dir.join(FILE);
    let Ok(file) = rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()) else {
        return Ok(());
    };
    loop {
        match flock(&file, FlockOperation::LockShared) {
            Ok(()) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(error) => {
                return Err(Error::io(format!("lock {}", path.display()))(error.into()));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lock_says_who_lives() {
        let directory = tempfile::tempdir().unwrap();
        let runtime_dir = directory.path().join("c/x");
        assert!(!is_alive(&runtime_dir));
        let alive = claim(&runtime_dir).unwrap().unwrap();
        assert!(is_alive(&runtime_dir));
        assert!(claim(&runtime_dir).unwrap().is_none());
        drop(alive);
        assert!(!is_alive(&runtime_dir));
        wait_until_gone(&runtime_dir).unwrap();
    }
}
