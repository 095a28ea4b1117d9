//! Being told when files change: inotify(7), so that nothing is looked at again and again.

use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::SystemTime;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::inotify::{self, CreateFlags, Reader, WatchFlags};
use rustix::io::Errno;
use rustix::time::Timespec;

use crate::{Error, Kind};

/// Changes of one file or directory since the last [`Watch::wait_with`].
#[derive(Debug)]
pub(crate) struct Watch {
    fd: OwnedFd,
}

/// Why a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Woken {
    /// Something has changed.
    Change,
    /// The other descriptor is readable, or its far end closed.
    Other,
    /// The time has come.
    Late,
}

impl Watch {
    /// Watches `path` for these events from now on.
    pub(crate) fn on(path: &Path, events: WatchFlags) -> Result<Self, Error> {
        let what = || format!("watch {}", path.display());
        let fd = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)
            .map_err(Error::io(what()))?;
        inotify::add_watch(&fd, path, events).map_err(|error| match error {
            // No file system is full: the user has all watches that there may be (inotify(7)).
            Errno::NOSPC => Error::new(
                Kind::Failed,
                format!(
                    "{}: too many watches: raise fs.inotify.max_user_watches",
                    what()
                ),
            ),
            error => Error::io(what())(error),
        })?;
        Ok(Self { fd })
    }

    /// Waits for a change, for `other`, or for a time.
    pub(crate) fn wait_with(
        &self,
        other: Option<BorrowedFd<'_>>,
        until: Option<SystemTime>,
    ) -> Result<Woken, Error> {
        let mut fds = vec![PollFd::new(&self.fd, PollFlags::IN)];
        fds.extend(other.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        loop {
            let timeout = until.map(|time| {
                let left = time.duration_since(SystemTime::now()).unwrap_or_default();
                Timespec {
                    tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                    tv_nsec: left.subsec_nanos().into(),
                }
            });
            match poll(&mut fds, timeout.as_ref()) {
                Ok(0) => return Ok(Woken::Late),
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(Error::io("wait for a change")(error)),
            }
        }
        let is_other = fds.get(1).is_some_and(|fd| !fd.revents().is_empty());
        self.drain()?;
        Ok(if is_other {
            Woken::Other
        } else {
            Woken::Change
        })
    }

    /// Forgets what was told so far: the caller looks at the files themselves.
    fn drain(&self) -> Result<(), Error> {
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.fd, &mut buffer);
        loop {
            match reader.next() {
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(Error::io("read changes")(error)),
            }
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
