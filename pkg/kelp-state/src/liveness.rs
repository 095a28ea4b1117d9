//! Whether a container's monitor lives: locks on `alive` in its runtime directory.
//!
//! The kernel drops them with the process, however it ends, so there is no pid to mistake and
//! nothing to clean up after a crash. Three bytes of the file stand for three things:
//!
//! - `MONITOR`: locked by the monitor as long as it lives, and by nobody else ever: who can't have it
//!   knows that another monitor has it. Whether it is locked is asked without locking it.
//! - `END`: locked by the monitor as well. Who waits for the monitor's end waits for this one, so a
//!   waiter is never in the way of the next monitor for longer than between two system calls.
//! - `OFFLINE`: locked by who works on a container that does not run: removes it, copies to it,
//!   finishes its record. A monitor waits for that before it does anything.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use kelp_sys::lock::{self, Kind};
use rustix::fs::{Mode, OFlags};

use crate::error::Error;

const FILE: &str = "alive";

const MONITOR: u32 = 0;
const END: u32 = 1;
const OFFLINE: u32 = 2;

/// The lock of a live monitor; released when dropped.
#[derive(Debug)]
pub struct Alive {
    _file: OwnedFd,
}

/// Keeps a container from being started; released when dropped.
#[derive(Debug)]
pub struct Offline {
    _file: OwnedFd,
}

/// Takes the lock for the calling process, a monitor; `None` if another monitor has it. Waits for
/// whoever works on the container.
pub fn claim(runtime_dir: &Path) -> Result<Option<Alive>, Error> {
    let file = open(runtime_dir)?;
    let locked = (|| {
        if !lock::try_lock(file.as_fd(), MONITOR, Kind::Exclusive)? {
            return Ok(false);
        }
        lock::wait(file.as_fd(), END, Kind::Exclusive)?;
        // Who had it before sees it released; who comes now finds the monitor alive.
        lock::wait(file.as_fd(), OFFLINE, Kind::Exclusive)?;
        lock::unlock(file.as_fd(), OFFLINE)?;
        Ok(true)
    })();
    let locked = locked.map_err(Error::io(what(runtime_dir)))?;
    Ok(locked.then_some(Alive { _file: file }))
}

/// Keeps the container from being started; `None` if a monitor lives. Waits for whoever else works
/// on it.
pub fn offline(runtime_dir: &Path) -> Result<Option<Offline>, Error> {
    let file = open(runtime_dir)?;
    let free = (|| {
        lock::wait(file.as_fd(), OFFLINE, Kind::Exclusive)?;
        lock::is_locked(file.as_fd(), MONITOR).map(|alive| !alive)
    })();
    let free = free.map_err(Error::io(what(runtime_dir)))?;
    Ok(free.then_some(Offline { _file: file }))
}

/// [`offline`] without waiting; `None` also if somebody else works on the container.
pub fn try_offline(runtime_dir: &Path) -> Result<Option<Offline>, Error> {
    let file = open(runtime_dir)?;
    let free = (|| {
        Ok(lock::try_lock(file.as_fd(), OFFLINE, Kind::Exclusive)?
            && !lock::is_locked(file.as_fd(), MONITOR)?)
    })();
    let free = free.map_err(Error::io(what(runtime_dir)))?;
    Ok(free.then_some(Offline { _file: file }))
}

/// Whether a monitor holds the lock.
pub fn is_alive(runtime_dir: &Path) -> bool {
    rustix::fs::open(
        runtime_dir.join(FILE),
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .is_ok_and(|file| lock::is_locked(file.as_fd(), MONITOR).unwrap_or(false))
}

/// Waits until no monitor holds the lock.
pub fn wait_until_gone(runtime_dir: &Path) -> Result<(), Error> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::open(runtime_dir.join(FILE), flags, Mode::empty()) else {
        return Ok(());
    };
    lock::wait(file.as_fd(), END, Kind::Shared).map_err(Error::io(what(runtime_dir)))
}

fn open(runtime_dir: &Path) -> Result<OwnedFd, Error> {
    let path = runtime_dir.join(FILE);
    let open = || {
        rustix::fs::open(
            &path,
            OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC,
            Mode::RUSR | Mode::WUSR,
        )
        .map_err(io::Error::from)
    };
    loop {
        match open() {
            // Missing, or removed between the two together with its container.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(runtime_dir)
                    .map_err(Error::io(format!("create {}", runtime_dir.display())))?;
            }
            result => return result.map_err(Error::io(format!("open {}", path.display()))),
        }
    }
}

fn what(runtime_dir: &Path) -> String {
    format!("lock {}/{FILE}", runtime_dir.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    #[test]
    fn the_lock_says_who_lives() {
        let directory = tempfile::tempdir().unwrap();
        let runtime_dir = directory.path().join("c/x");
        assert!(!is_alive(&runtime_dir));
        let alive = claim(&runtime_dir).unwrap().unwrap();
        assert!(is_alive(&runtime_dir));
        assert!(claim(&runtime_dir).unwrap().is_none());
        assert!(offline(&runtime_dir).unwrap().is_none());
        assert!(try_offline(&runtime_dir).unwrap().is_none());
        drop(alive);
        let working = try_offline(&runtime_dir).unwrap();
        assert!(working.is_some());
        assert!(try_offline(&runtime_dir).unwrap().is_none());
        drop(working);
        assert!(!is_alive(&runtime_dir));
        wait_until_gone(&runtime_dir).unwrap();
    }

    #[test]
    fn who_asks_or_waits_keeps_no_monitor_from_starting() {
        let directory = tempfile::tempdir().unwrap();
        let runtime_dir = directory.path();
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    is_alive(runtime_dir);
                }
            });
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    wait_until_gone(runtime_dir).unwrap();
                }
            });
            for round in 0..10_000 {
                assert!(claim(runtime_dir).unwrap().is_some(), "{round}");
            }
            done.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn a_start_waits_for_who_works_on_the_container() {
        let directory = tempfile::tempdir().unwrap();
        let runtime_dir = directory.path();
        let busy = AtomicBool::new(true);
        let offline = offline(runtime_dir).unwrap().unwrap();
        // Not alive in the sense of running, but nothing else may begin.
        assert!(!is_alive(runtime_dir));
        thread::scope(|scope| {
            let start = scope.spawn(|| {
                let alive = claim(runtime_dir).unwrap();
                assert!(alive.is_some());
                assert!(!busy.load(Ordering::SeqCst));
            });
            while !is_alive(runtime_dir) {
                thread::yield_now();
            }
            busy.store(false, Ordering::SeqCst);
            drop(offline);
            start.join().unwrap();
        });
    }
}
