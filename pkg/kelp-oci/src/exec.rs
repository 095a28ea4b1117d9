//! `exec`: another process in a running container.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use kelp_runtime::exec::{Target, exec};
use kelp_runtime::plan::{Extras, ProcessPlan};
use kelp_runtime::seccomp::check_asked;
use kelp_state::file;
use oci_spec::runtime::{LinuxNamespaceType, Process, Spec};

use crate::agent;
use crate::cgroup;
use crate::console::Terminal;
use crate::create::own_streams;
use crate::error::Error;
use crate::lenient;
use crate::record::{Container, Status};
use crate::relay::{self, Signals};
use crate::root::{is_host_root, seccomp_cache};
use crate::start::execute;

/// How to add a process.
#[derive(Debug, Default)]
pub struct Options {
    /// The process, whole: nothing of it is taken from the container.
    pub process: Process,
    /// Who gets the outer end of its terminal.
    pub terminal: Terminal,
    /// A file that gets its number.
    pub pid_file: Option<PathBuf>,
    /// How many descriptors after standard error it gets.
    pub preserved_fds: i32,
    /// Whether it is left running.
    pub detach: bool,
    /// Whether a paused container gets it as well.
    pub although_paused: bool,
}

impl Container {
    /// Starts a process; its exit code, or 0 if it is left running.
    pub fn exec(&self, options: &Options) -> Result<i32, Error> {
        let status = self.status();
        let fits = match status {
            Status::Running | Status::Created => true,
            Status::Paused => options.although_paused,
            Status::Creating | Status::Stopped => false,
        };
        // What waits to be started is undumpable, and its namespaces are root's to enter: else what exec adds
        // could reach the program by it that this runtime is.
        if status == Status::Created && !is_host_root() {
            return Err(Error::State(format!(
                "container \"{}\" is created: start it first, without root nothing can be added to it before",
                self.id
            )));
        }
        let Some(init) = self.init().filter(|_| fits) else {
            return Err(Error::State(format!(
                "container \"{}\" is {status}: a process can be added to one that runs",
                self.id
            )));
        };
        let terminal = options.process.terminal().unwrap_or(false);
        options.terminal.check(terminal)?;
        let spec = self.spec()?;
        let profile = agent::profile(&spec);
        if let Some(profile) = profile {
            check_asked(profile, agent::loaded(&options.process))?;
        }
        let extras = Extras {
            set_home: true,
            preserved_fds: options.preserved_fds,
            seccomp_cache: self.directory.parent().map(seccomp_cache),
            ..Extras::default()
        };
        let plan = ProcessPlan::new(&options.process, profile, extras)?;
        let cgroup = self.cgroup();
        let scope = cgroup::way_in(&self.record);
        let attach =
            scope.map(|scope| move |pid| cgroup::attach(scope, pid).map_err(|error| error.line()));
        let target = Target {
            init: init.as_fd(),
            pid: self.record.pid.cast_unsigned(),
            cgroup: cgroup.as_ref().filter(|_| scope.is_none()).map(AsFd::as_fd),
            enter_cgroup: attach.as_ref().map(|attach| attach as _),
            joins_mounts: joins_mounts(&spec),
            lasts: true,
        };
        let mut starting = exec(&plan, &target, (!terminal).then(own_streams))?;
        let outer = options.terminal.take(starting.terminal.take())?;
        let pid = starting.child.pid.as_raw_nonzero().get();
        if let Some(groups) = &self.record.groups {
            groups.add(pid)?;
        }
        let agent = agent::agent(&spec, pid, || self.state_as(&spec, status));
        if let Some(path) = &options.pid_file {
            file::write_pid(path, pid.cast_unsigned())?;
        }
        if options.detach {
            execute(starting, agent.as_ref())?.release();
            return Ok(0);
        }
        let signals = Signals::hold()?;
        let child = execute(starting, agent.as_ref())?.release();
        let exit = relay::wait(child.pidfd.as_fd(), &signals, outer)?;
        Ok(exit.code())
    }
}

/// Whether a container's mount namespace was there before.
fn joins_mounts(spec: &Spec) -> bool {
    let linux = spec.linux().as_ref();
    let mut namespaces = linux
        .and_then(|linux| linux.namespaces().as_ref())
        .into_iter()
        .flatten();
    !namespaces.any(|it| it.typ() == LinuxNamespaceType::Mount && it.path().is_none())
}

/// Reads a process.json.
pub fn read_process(path: &Path) -> Result<Process, Error> {
    lenient::read(path)
}
