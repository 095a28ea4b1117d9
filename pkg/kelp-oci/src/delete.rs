//! `delete`: what a container has left.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use kelp_sys::signal::pidfd_send;

use crate::cgroup::manager;
use crate::error::Error;
use crate::record::{self, Container, Status};
use crate::root::Root;
use crate::start::run_poststop;

/// A process that was killed is gone within this time, unless it hangs in the kernel.
const GONE_WITHIN: Duration = Duration::from_secs(10);

impl Root {
    /// Removes a container that has ended or was never started; with `force` any, and none is no error.
    /// What went wrong beside it is told in lines.
    pub fn delete(&self, id: &str, force: bool) -> Result<Vec<String>, Error> {
        match self.container(id) {
            Err(Error::NotFound(_) | Error::Damaged(..)) if force => self.clear(id),
            container => container?.delete(force),
        }
    }

    /// Removes what a create that was killed has left, or what can't be read. One that goes on has the lock:
    /// then it is waited for, and what it has made is removed.
    fn clear(&self, id: &str) -> Result<Vec<String>, Error> {
        let directory = self.directory(id)?;
        let _lock = match record::lock(&directory) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(Vec::new());
            }
            lock => lock?,
        };
        match self.container(id) {
            Ok(container) => container.delete_locked(true),
            Err(_) => remove(&directory).map(|()| Vec::new()),
        }
    }
}

impl Container {
    /// The same, of this one.
    pub fn delete(&self, force: bool) -> Result<Vec<String>, Error> {
        if !force {
            let (fresh, _lock) = match self.try_lock()? {
                Some(locked) => locked,
                None => self.lock_of_stopped()?,
            };
            return fresh.delete_locked(false);
        }
        if let Some(init) = self.init() {
            // Whoever has the lock may wait for it: what is made of it is to go in any case.
            let _ = pidfd_send(init.as_fd(), 9);
        }
        match self.lock() {
            Err(Error::NotFound(_)) => Ok(Vec::new()),
            locked => {
                let (fresh, _lock) = locked?;
                fresh.delete_locked(true)
            }
        }
    }

    /// Waits for whoever has the lock, if the container is stopped: then it is soon at its end. A create or a
    /// start may have it for as long as a hook likes.
    fn lock_of_stopped(&self) -> Result<(Self, OwnedFd), Error> {
        let doing = match self.status() {
            _ if self.record.creating => "created",
            Status::Stopped => return self.lock(),
            Status::Creating | Status::Created => "started",
            status => return Err(self.lives(status)),
        };
        Err(Error::State(format!(
            "container \"{}\" is being {doing}: wait for that, or delete it with --force",
            self.id
        )))
    }

    fn lives(&self, status: Status) -> Error {
        Error::State(format!(
            "container \"{}\" is {status}: kill it first, or delete it with --force",
            self.id
        ))
    }

    pub(crate) fn delete_locked(&self, force: bool) -> Result<Vec<String>, Error> {
        if !force {
            match self.status() {
                Status::Stopped | Status::Created => {}
                status => return Err(self.lives(status)),
            }
        }
        let cgroup = self.cgroup();
        if let Some(init) = self.init() {
            let what = || format!("kill container \"{}\"", self.id);
            let _ = pidfd_send(init.as_fd(), 9);
            // What is frozen dies when it is thawed.
            if let Some(cgroup) = cgroup.as_ref().filter(|cgroup| cgroup.is_frozen()) {
                let _ = cgroup.freeze(false);
            }
            if !kelp_sys::fd::wait_input(init.as_fd(), GONE_WITHIN).map_err(Error::io(what()))? {
                return Err(Error::State(format!("{}: it does not end", what())));
            }
        }
        if let Some(cgroup) = &cgroup {
            cgroup.remove();
        }
        if let Some(groups) = &self.record.groups {
            groups.remove();
        }
        if let Some(scope) = &self.record.scope {
            // It ends by itself with its last process.
            let _ = manager().and_then(|manager| manager.stop(scope));
        }
        let spec = self.spec_unless_plain();
        remove(&self.directory)?;
        let Ok(Some(spec)) = spec else {
            return Ok(Vec::new());
        };
        let state = self.state_as(&spec, Status::Stopped);
        Ok(run_poststop(&spec, &state))
    }
}

fn remove(directory: &Path) -> Result<(), Error> {
    fs::remove_dir_all(directory).map_err(Error::io(format!("remove {}", directory.display())))
}
