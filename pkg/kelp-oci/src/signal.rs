//! `kill`, `pause`, `resume`, `ps`, `update`: what is done to a container that is there.

use std::fs;
use std::os::fd::AsFd;

use kelp_runtime::cgroup::Cgroup;
use kelp_runtime::resources;
use kelp_sys::signal::pidfd_send;
use oci_spec::runtime::LinuxResources;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::cgroup::device_filter;
use crate::error::Error;
use crate::record::{Container, Status};

const SIGKILL: i32 = 9;

impl Container {
    /// Sends a signal to the first process, or with `all` to every process. Signal 0 only asks whether there
    /// is one (kill(2)).
    pub fn kill(&self, signal: i32, all: bool) -> Result<(), Error> {
        if all && let Some(cgroup) = self.cgroup() {
            return self.kill_all(&cgroup, signal);
        }
        let Some(init) = self.init() else {
            // The words by which containerd knows that there is nothing left to be stopped.
            return Err(Error::State(format!(
                "container not running: \"{}\" has ended",
                self.id
            )));
        };
        pidfd_send(init.as_fd(), signal)
            .map_err(Error::io(format!("signal container \"{}\"", self.id)))
    }

    fn kill_all(&self, cgroup: &Cgroup, signal: i32) -> Result<(), Error> {
        let what = || format!("signal the processes of container \"{}\"", self.id);
        if signal == SIGKILL && cgroup.kill().is_ok() {
            return Ok(());
        }
        for pid in processes(cgroup).map_err(Error::io(what()))? {
            let Some(pidfd) =
                Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok())
            else {
                continue;
            };
            // Its number may be another's by now, who is not in the cgroup.
            if processes(cgroup).is_ok_and(|now| now.contains(&pid)) {
                let _ = pidfd_send(pidfd.as_fd(), signal);
            }
        }
        Ok(())
    }

    /// Freezes or thaws all of it.
    pub fn pause(&self, pause: bool) -> Result<(), Error> {
        let status = self.status();
        let (verb, fits) = if pause {
            (
                "paused",
                matches!(status, Status::Running | Status::Created),
            )
        } else {
            ("resumed", status == Status::Paused)
        };
        if !fits {
            return Err(Error::State(format!(
                "container \"{}\" is {status} and can't be {verb}",
                self.id
            )));
        }
        let cgroup = self.own_cgroup(verb)?;
        cgroup
            .freeze(pause)
            .map_err(Error::io(format!("freeze container \"{}\"", self.id)))
    }

    /// The numbers of its processes, as the caller counts.
    pub fn processes(&self) -> Result<Vec<i32>, Error> {
        let cgroup = self.own_cgroup("asked for its processes")?;
        processes(&cgroup).map_err(Error::io(format!(
            "read the processes of container \"{}\"",
            self.id
        )))
    }

    /// Changes its limits: all, or none if one is refused.
    pub fn update(&self, resources: &LinuxResources) -> Result<(), Error> {
        let cgroup = self.own_cgroup("limited")?;
        let filter = device_filter(Some(resources))?;
        let before = cgroup.change(&resources::settings(resources)?)?;
        let Some(filter) = filter else {
            return Ok(());
        };
        if let Err(error) = filter.attach(&cgroup) {
            before.restore();
            return Err(error.into());
        }
        Ok(())
    }

    pub(crate) fn own_cgroup(&self, verb: &str) -> Result<Cgroup, Error> {
        self.cgroup().ok_or_else(|| {
            Error::State(format!(
                "container \"{}\" can't be {verb}: it has no cgroup, because none was delegated to \
                 whoever made it",
                self.id
            ))
        })
    }
}

/// The processes in a cgroup, and in those below it.
fn processes(cgroup: &Cgroup) -> std::io::Result<Vec<i32>> {
    let mut found = Vec::new();
    let mut left = vec![cgroup.path().to_owned()];
    while let Some(directory) = left.pop() {
        let text = fs::read_to_string(directory.join("cgroup.procs"))?;
        found.extend(text.lines().filter_map(|line| line.parse::<i32>().ok()));
        for entry in fs::read_dir(&directory)?.flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                left.push(entry.path());
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}
