//! `exec` in a container that another runtime has made: that runtime starts the process.

use std::os::fd::{AsFd, OwnedFd};

use kelp_monitor::attach::Connection;
use kelp_runtime::cgroup::Cgroup;
use kelp_runtime::console::Size;
use kelp_runtime::foreign::{Around, Foreign, Made, Request, exec};
use kelp_runtime::launch::{Starting, Stdio};
use kelp_state::{ContainerId, Record, RunRecord};
use kelp_sys::clone::Child;
use oci_spec::runtime::{BoxBuilder, Process};

use super::{Delegated, Wanted};
use crate::{Engine, Error};

/// A process that has been begun.
pub(crate) enum Entered {
    /// It waits to be let go.
    Waiting(Starting),
    /// It runs, for another runtime has started it.
    Running(Made),
}

impl Entered {
    /// The outer end of its terminal.
    pub(crate) fn take_terminal(&mut self) -> Option<OwnedFd> {
        match self {
            Self::Waiting(starting) => starting.terminal.take(),
            Self::Running(made) => made.terminal.take(),
        }
    }

    /// Lets it go.
    pub(crate) fn execute(self) -> Result<Child, Error> {
        match self {
            Self::Waiting(starting) => Ok(starting.execute()?.release()),
            Self::Running(made) => Ok(made.child),
        }
    }
}

impl Engine {
    /// Has `runtime` start the process.
    pub(super) fn enter_by(
        &self,
        runtime: &Foreign,
        id: &ContainerId,
        wanted: Wanted,
        (run, pidfd): &(RunRecord, OwnedFd),
        (cgroup, delegated): (Option<&Cgroup>, Option<Delegated<'_>>),
        stdio: Option<Stdio<'_>>,
    ) -> Result<Made, Error> {
        let record = Record::new(&self.paths, id.clone());
        let monitor = Connection::open(&record.runtime).map_err(Error::io("ask the monitor"))?;
        let (stage, user) = monitor.stage()?;
        let attach = |pid| match delegated {
            Some(delegated) => self
                .attach(delegated.unit, delegated.below, pid)
                .map_err(|error| error.line()),
            None => Ok(()),
        };
        let around = Around {
            stdio,
            terminal: wanted.process.terminal().unwrap_or(false),
            user: Some(user.as_fd()),
            cgroup: cgroup.map(AsFd::as_fd),
            before: Some(&attach),
            ..Around::default()
        };
        let request = Request {
            id: id.as_str(),
            init: pidfd.as_fd(),
            pid: run.pid,
            process: wanted.process,
            extras: wanted.extras,
        };
        Ok(exec(&stage, runtime, request, around)?)
    }
}

/// Notes the size of the terminal that a process begins with.
pub(super) fn set_size(process: &mut Process, size: Size) {
    let size = BoxBuilder::default()
        .height(u64::from(size.rows))
        .width(u64::from(size.columns));
    process.set_console_size(size.build().ok());
}
