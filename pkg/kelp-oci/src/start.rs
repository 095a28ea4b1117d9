//! `start`: the program of a container that was created.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use kelp_runtime::launch::go;
use kelp_sys::process::wait_pidfd;
use kelp_sys::signal::{SignalSet, pidfd_send, read_signal, signalfd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::net::{SocketType, connect};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::create::{gate_address, socket};
use crate::error::Error;
use crate::hooks;
use crate::record::{Container, GATE, Status};

/// SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGTERM, SIGCONT, SIGWINCH.
const PASSED: &[i32] = &[1, 2, 3, 10, 12, 14, 15, 18, 28];

impl Container {
    /// Lets the program go; returns once it runs.
    pub fn start(&self) -> Result<(), Error> {
        let _lock = self.lock()?;
        let status = self.status();
        if status != Status::Created {
            return Err(Error::State(format!(
                "container \"{}\" is {status}: only one that was created can be started",
                self.id
            )));
        }
        let spec = self.spec()?;
        let program = spec
            .process()
            .as_ref()
            .and_then(|process| process.args().as_ref());
        let program = program
            .and_then(|args| args.first())
            .cloned()
            .unwrap_or_default();
        let gate = self.come_to_the_gate()?;
        let started = go(&gate, &program);
        // Whether it runs or has ended, it waits no longer.
        let _ = fs::remove_file(self.directory.join(GATE));
        started?;
        let state = self.state_as(&spec, Status::Running);
        let hooks = spec.hooks().as_ref();
        hooks::run_all(
            "poststart",
            hooks.and_then(|hooks| hooks.poststart().as_ref()),
            &state,
        );
        Ok(())
    }

    /// Waits for the end of the first process, which must be the caller's child; its exit code. Signals that
    /// come meanwhile are passed on.
    pub fn wait(&self) -> Result<i32, Error> {
        let what = || format!("wait for container \"{}\"", self.id);
        let Some(pid) = Pid::from_raw(self.record.pid) else {
            return Ok(0);
        };
        // Also of one that has ended: nobody else reaps it.
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).map_err(Error::io(what()))?;
        let signals = signalfd(&SignalSet::of(PASSED)).map_err(Error::io(what()))?;
        loop {
            let mut fds = [
                PollFd::new(&pidfd, PollFlags::IN),
                PollFd::new(&signals, PollFlags::IN),
            ];
            match poll(&mut fds, None) {
                Err(Errno::INTR) => continue,
                ready => drop(ready.map_err(Error::io(what()))?),
            }
            let ended = !fds[0].revents().is_empty();
            while let Some(signal) = read_signal(signals.as_fd()).map_err(Error::io(what()))? {
                let _ = pidfd_send(pidfd.as_fd(), signal);
            }
            if ended {
                let exit = wait_pidfd(pidfd.as_fd()).map_err(Error::io(what()))?;
                return Ok(exit.code());
            }
        }
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
