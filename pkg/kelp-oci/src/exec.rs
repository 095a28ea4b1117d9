//! `exec`: another process in a running container.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use kelp_runtime::exec::{Target, exec};
use kelp_runtime::plan::{Extras, ProcessPlan};
use kelp_state::file;
use kelp_sys::process::wait_pidfd;
use oci_spec::runtime::Process;

use crate::console::ConsoleSocket;
use crate::create::own_streams;
use crate::error::Error;
use crate::record::{Container, Status};

/// How to add a process.
#[derive(Debug, Default)]
pub struct Options {
    /// The process, whole: nothing of it is taken from the container.
    pub process: Process,
    /// Where the outer end of its terminal goes.
    pub console: Option<ConsoleSocket>,
    /// A file that gets its number.
    pub pid_file: Option<PathBuf>,
    /// How many descriptors after standard error it gets.
    pub preserved_fds: i32,
    /// Whether it is left running.
    pub detach: bool,
}

impl Container {
    /// Starts a process; its exit code, or 0 if it is left running.
    pub fn exec(&self, options: &Options) -> Result<i32, Error> {
        let status = self.status();
        let (Status::Running | Status::Created, Some(init)) = (status, self.init()) else {
            return Err(Error::State(format!(
                "container \"{}\" is {status}: a process can be added to one that runs",
                self.id
            )));
        };
        let terminal = options.process.terminal().unwrap_or(false);
        if terminal != options.console.is_some() {
            return Err(Error::Invalid(
                "a process with a terminal needs --console-socket, and only that".to_owned(),
            ));
        }
        let spec = self.spec()?;
        let profile = spec
            .linux()
            .as_ref()
            .and_then(|linux| linux.seccomp().as_ref());
        let extras = Extras {
            set_home: true,
            preserved_fds: options.preserved_fds,
            ..Extras::default()
        };
        let plan = ProcessPlan::new(&options.process, profile, extras)?;
        let cgroup = self.cgroup();
        let target = Target {
            init: init.as_fd(),
            pid: self.record.pid.cast_unsigned(),
            cgroup: cgroup.as_ref().map(AsFd::as_fd),
        };
        let mut starting = exec(&plan, &target, (!terminal).then(own_streams))?;
        if let (Some(console), Some(outer)) = (&options.console, starting.terminal.take()) {
            console.give(&outer)?;
        }
        let pid = starting.child.pid.as_raw_nonzero().get();
        if let Some(path) = &options.pid_file {
            file::write_pid(path, pid.cast_unsigned())?;
        }
        let child = starting.execute()?.release();
        if options.detach {
            return Ok(0);
        }
        let exit = wait_pidfd(child.pidfd.as_fd()).map_err(Error::io("wait for the process"))?;
        Ok(exit.code())
    }
}

/// Reads a process.json.
pub fn read_process(path: &Path) -> Result<Process, Error> {
    let text = fs::read(path).map_err(Error::io(format!("read {}", path.display())))?;
    serde_json::from_slice(&text)
        .map_err(|error| Error::Invalid(format!("{}: {error}", path.display())))
}
