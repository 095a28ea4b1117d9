//! Whether a container's monitor lives: locks on `alive` in its runtime directory.
//!
//! The kernel drops them with the process, however it ends, so there is no pid to mistake and
//! nothing to clean up after a crash. Four bytes of the file stand for four things:
//!
//! - `MONITOR`: locked by the monitor as long as it lives, and by nobody else ever: who can't have it
//!   knows that another monitor has it. Whether it is locked is asked without locking it.
//! - `END`: locked by the monitor as well. Who waits for the monitor's end waits for this one, so a
//!   waiter is never in the way of the next monitor for longer than between two system calls.
//! - `OFFLINE`: locked by who works on a container that does not run: removes it, copies to it,
//!   finishes its record. A monitor waits for that before it does anything.
//! - `CHANGE`: locked by who changes what the record asks for, whether the container runs or not, from
//!   its reading to its writing.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use kelp_sys::clone::{CloneFlags, clone3};
use kelp_sys::lock::{self, Kind};
use kelp_sys::process::{Exit, wait_pidfd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Signal, pidfd_send_signal, set_parent_process_death_signal};

use crate::error::Error;

const FILE: &str = "alive";

const MONITOR: u32 = 0;
const END: u32 = 1;
const OFFLINE: u32 = 2;
const CHANGE: u32 = 3;

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

/// Keeps others from changing what the record asks for; released when dropped.
#[derive(Debug)]
pub struct Changing {
    _file: OwnedFd,
}

/// Takes the lock for the calling process, a monitor; `None` if another monitor has it. Waits for
/// whoever works on the container, as long as the other end of `starter` is open: nobody is to see a
/// container start that was given up on.
///
/// The caller must have one thread.
pub fn claim(runtime_dir: &Path, starter: BorrowedFd<'_>) -> Result<Option<Alive>, Error> {
    let file = open(runtime_dir)?;
    let locked = (|| {
        if !lock::try_lock(file.as_fd(), MONITOR, Kind::Exclusive)? {
            return Ok(false);
        }
        lock::wait(file.as_fd(), END, Kind::Exclusive)?;
        // Who had it before sees it released; who comes now finds the monitor alive.
        if !wait_unless(file.as_fd(), OFFLINE, Kind::Exclusive, None, Some(starter))? {
            return Err(io::Error::other("whoever starts the container has gone"));
        }
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

/// Keeps others from changing what the record asks for, once nobody does.
pub fn changing(runtime_dir: &Path) -> Result<Changing, Error> {
    let file = open(runtime_dir)?;
    lock::wait(file.as_fd(), CHANGE, Kind::Exclusive).map_err(Error::io(what(runtime_dir)))?;
    Ok(Changing { _file: file })
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

/// [`offline`], which gives up when this time has passed.
///
/// # Errors
/// [`Error::Busy`] then.
pub fn offline_within(runtime_dir: &Path, time: Duration) -> Result<Option<Offline>, Error> {
    let file = open(runtime_dir)?;
    let free = (|| {
        if !wait_unless(file.as_fd(), OFFLINE, Kind::Exclusive, Some(time), None)? {
            return Ok(None);
        }
        lock::is_locked(file.as_fd(), MONITOR).map(|alive| Some(!alive))
    })();
    match free.map_err(Error::io(what(runtime_dir)))? {
        None => Err(Error::Busy),
        Some(free) => Ok(free.then_some(Offline { _file: file })),
    }
}

/// Locks a byte once nobody else's lock is in the way, unless `time` passes first or the other end of
/// `peer` is closed; whether it has.
///
/// A lock can't be polled for, so a child waits for it and its pidfd is polled: the lock belongs to
/// the open file, whichever process took it (fcntl(2), "Open file description locks").
fn wait_unless(
    file: BorrowedFd<'_>,
    byte: u32,
    kind: Kind,
    time: Option<Duration>,
    peer: Option<BorrowedFd<'_>>,
) -> io::Result<bool> {
    if lock::try_lock(file, byte, kind)? {
        return Ok(true);
    }
    let waiter = clone3(CloneFlags::empty(), None, || {
        // Nothing in here allocates: there may be other threads.
        let tied = set_parent_process_death_signal(Some(Signal::KILL)).is_ok()
            && kelp_sys::fd::close_but(0, &[file]).is_ok();
        i32::from(!tied || lock::wait(file, byte, kind).is_err())
    })?;
    let mut fds = vec![PollFd::new(&waiter.pidfd, PollFlags::IN)];
    fds.extend(peer.map(|peer| PollFd::from_borrowed_fd(peer, PollFlags::empty())));
    let time = time.map(|time| Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(time.subsec_nanos()),
    });
    let polled = rustix::io::retry_on_intr(|| poll(&mut fds, time.as_ref()));
    if fds[0].revents().is_empty() {
        // If it has the lock by now, that ends with the file.
        let _ = pidfd_send_signal(&waiter.pidfd, Signal::KILL);
    }
    let exit = wait_pidfd(waiter.pidfd.as_fd())?;
    polled?;
    match exit {
        Exit::Code(0) => Ok(true),
        Exit::Code(_) => Err(io::Error::other("the lock could not be waited for")),
        Exit::Signal(_) => Ok(false),
    }
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

/// The same for a while; whether none does.
pub fn gone_within(runtime_dir: &Path, time: Duration) -> Result<bool, Error> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    let Ok(file) = rustix::fs::open(runtime_dir.join(FILE), flags, Mode::empty()) else {
        return Ok(true);
    };
    wait_unless(file.as_fd(), END, Kind::Shared, Some(time), None)
        .map_err(Error::io(what(runtime_dir)))
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
    use std::os::unix::net::UnixStream;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    #[test]
    fn the_lock_says_who_lives() {
        let directory = tempfile::tempdir().unwrap();
        let runtime_dir = directory.path().join("c/x");
        assert!(!is_alive(&runtime_dir));
        let (_starter, end) = UnixStream::pair().unwrap();
        let alive = claim(&runtime_dir, end.as_fd()).unwrap().unwrap();
        assert!(is_alive(&runtime_dir));
        assert!(claim(&runtime_dir, end.as_fd()).unwrap().is_none());
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
        let (_starter, end) = UnixStream::pair().unwrap();
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
                let alive = claim(runtime_dir, end.as_fd()).unwrap();
                assert!(alive.is_some(), "{round}");
            }
            done.store(true, Ordering::Relaxed);
        });
    }

    #[test]
    fn a_start_waits_for_who_works_on_the_container() {
        let directory = tempfile::tempdir().unwrap();
        let runtime_dir = directory.path();
        let (_starter, end) = UnixStream::pair().unwrap();
        let busy = AtomicBool::new(true);
        let offline = offline(runtime_dir).unwrap().unwrap();
        // Not alive in the sense of running, but nothing else may begin.
        assert!(!is_alive(runtime_dir));
        thread::scope(|scope| {
            let start = scope.spawn(|| {
                let alive = claim(runtime_dir, end.as_fd()).unwrap();
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

    #[test]
    fn a_start_that_is_given_up_on_waits_no_longer() {
        let directory = tempfile::tempdir().unwrap();
        let runtime_dir = directory.path();
        let (starter, end) = UnixStream::pair().unwrap();
        let kept = offline(runtime_dir).unwrap().unwrap();
        thread::scope(|scope| {
            let start = scope.spawn(|| claim(runtime_dir, end.as_fd()));
            while !is_alive(runtime_dir) {
                thread::yield_now();
            }
            drop(starter);
            assert!(start.join().unwrap().is_err());
        });
        assert!(!is_alive(runtime_dir));
        let late = offline_within(runtime_dir, Duration::from_millis(1));
        assert!(matches!(late, Err(Error::Busy)), "{late:?}");
        drop(kept);
        let free = offline_within(runtime_dir, Duration::ZERO);
        assert!(matches!(free, Ok(Some(_))), "{free:?}");
    }
}
