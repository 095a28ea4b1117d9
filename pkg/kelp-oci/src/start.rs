//! `start`: the program of a container that was created.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use kelp_runtime::hooks;
use kelp_runtime::launch::{Agent, Guarded, Starting, go};
use kelp_state::record::child_has_executed;
use kelp_sys::signal::pidfd_send;
use oci_spec::runtime::{Hook, Spec};
use rustix::fs::{Mode, OFlags, open};
use rustix::net::{SocketType, connect};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::agent::agent;
use crate::create::{gate_address, socket};
use crate::error::Error;
use crate::record::{Container, GATE, State, Status};
use crate::relay::{self, Signals};

impl Container {
    /// Lets the program go; returns once it runs.
    pub fn start(&self) -> Result<(), Error> {
        let spec = {
            let (fresh, _lock) = self.lock()?;
            fresh.start_locked()?
        };
        match spec {
            Some(spec) => self.after_start(&spec),
            None => Ok(()),
        }
    }

    /// Runs the poststart hooks. Not under the lock: what is done by then is a container that runs, whatever
    /// hooks do.
    pub(crate) fn after_start(&self, spec: &Spec) -> Result<(), Error> {
        let hooks = spec.hooks().as_ref();
        let Some(list) = hooks.and_then(|hooks| hooks.poststart().as_ref()) else {
            return Ok(());
        };
        let told = run(
            "poststart",
            Some(list),
            &self.state_as(spec, Status::Running),
        );
        if told.is_err()
            && let Ok((fresh, _lock)) = self.lock()
        {
            fresh.stop_and_delete();
        }
        Ok(told?)
    }

    /// What it was made from, where more is to be done by that.
    fn start_locked(&self) -> Result<Option<Spec>, Error> {
        let status = self.status();
        if status != Status::Created {
            return Err(Error::State(format!(
                "container \"{}\" is {status}: only one that was created can be started",
                self.id
            )));
        }
        let spec = self.spec_unless_plain()?;
        let created = |spec| self.state_as(spec, Status::Created);
        let agent = spec
            .as_ref()
            .and_then(|spec| agent(spec, self.record.pid, || created(spec)));
        let has_hooks = |spec: &&Spec| {
            let hooks = spec.hooks().as_ref();
            hooks.is_some_and(|hooks| hooks.start_container().is_some())
        };
        let told = spec.as_ref().filter(has_hooks);
        let told = told.map_or(Vec::new(), |spec| created(spec).inside().to_json());
        let gate = self.come_to_the_gate()?;
        let executed = || self.has_executed();
        let started = go(&gate, &self.record.program, &told, agent.as_ref(), executed);
        // Whether it runs or has ended, it waits no longer.
        let _ = fs::remove_file(self.directory.join(GATE));
        match &started {
            Ok(()) => return Ok(spec),
            Err(kelp_runtime::Error::Hook(_)) => self.stop_and_delete(),
            Err(_) => {
                // Nothing may run that is said not to: it may have got past what failed here.
                if let Some(init) = self.init() {
                    let _ = pidfd_send(init.as_fd(), 9);
                }
            }
        }
        started?;
        Ok(spec)
    }

    /// "If any hook fails, the runtime MUST stop the container and continue the lifecycle" with its destruction
    /// (runtime-spec, runtime.md, "Lifecycle"). The error is the hook's.
    fn stop_and_delete(&self) {
        let _ = self.delete_locked(true);
    }

    /// Waits for the end of the first process, which must be the caller's child; its exit code. Signals that
    /// come meanwhile are passed on, and `terminal`, the outer end of its own, is connected to the caller's.
    pub fn wait(&self, signals: &Signals, terminal: Option<OwnedFd>) -> Result<i32, Error> {
        let what = || format!("wait for container \"{}\"", self.id);
        let Some(pid) = Pid::from_raw(self.record.pid) else {
            return Ok(0);
        };
        // Also of one that has ended: nobody else reaps it.
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(Error::io(what()))?;
        Ok(relay::wait(pidfd.as_fd(), signals, terminal)?.code())
    }

    fn come_to_the_gate(&self) -> Result<OwnedFd, Error> {
        let what = || format!("connect to container \"{}\"", self.id);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = open(&self.directory, flags, Mode::empty()).map_err(Error::io(what()))?;
        let socket = socket(SocketType::SEQPACKET).map_err(Error::io(what()))?;
        connect(&socket, &gate_address(directory.as_fd())?).map_err(Error::io(what()))?;
        Ok(socket)
    }
}

/// Lets a child execute its program; returns it once it has. One that was killed before that, by its own filter
/// perhaps, has closed its end of the socket too.
pub(crate) fn execute(starting: Starting, agent: Option<&Agent>) -> Result<Guarded, Error> {
    let child = starting.execute_asking(agent)?;
    match child_has_executed(child.pid.as_raw_nonzero().get().cast_unsigned()) {
        Some(false) => Err(Error::State(
            "the process was killed before its program ran".to_owned(),
        )),
        _ => Ok(child),
    }
}

/// Runs hooks of one kind; the first that fails ends it.
pub(crate) fn run(
    name: &str,
    list: Option<&Vec<Hook>>,
    state: &State,
) -> Result<(), kelp_runtime::Error> {
    match list {
        Some(list) => hooks::run(name, list, &state.to_json()),
        None => Ok(()),
    }
}

/// Runs the poststop hooks, whose failure keeps nothing from going on; a line for each that has failed.
pub(crate) fn run_poststop(spec: &Spec, state: &State) -> Vec<String> {
    let hooks = spec
        .hooks()
        .as_ref()
        .and_then(|hooks| hooks.poststop().as_ref());
    let text = state.to_json();
    let failed = |hook| hooks::run("poststop", std::slice::from_ref(hook), &text).err();
    let failures = hooks.into_iter().flatten().filter_map(failed);
    failures.map(|error| error.to_string()).collect()
}
