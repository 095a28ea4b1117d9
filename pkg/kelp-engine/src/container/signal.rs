//! `kill`, `stop`, `wait`, `pause`: signals and states of a running container.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use kelp_args::RestartPolicy;
use kelp_monitor::attach::Connection;
use kelp_runtime::cgroup::Cgroup;
use kelp_state::{ContainerId, Record, RunRecord, Status, liveness};

use crate::container::config::{Config, Notify};
use crate::container::deaf::is_deaf;
use crate::container::find::KILLED;
use crate::container::hang::{KILL_TIME, ends_late, hangs};
use crate::container::health;
use crate::{Engine, Error, Kind};

/// The signal that no program can catch.
const SIGKILL: i32 = 9;

/// The signal by which a monitor is asked to end.
const SIGTERM: i32 = 15;

/// How long a monitor may take to write how its program has ended: disks can be slow.
pub(crate) const MONITORS_TIME: Duration = Duration::from_secs(10);

/// How a container is to be stopped.
#[derive(Clone, Copy, Debug, Default)]
pub struct StopRequest {
    /// Until it is killed; `None` for its own time.
    pub timeout: Option<Duration>,
    /// Whether one that would not hear the signal is killed at once.
    pub fast: bool,
    /// Whether it ends as with its session or the machine, after which its restart policy counts.
    pub until_boot: bool,
}

/// How a container was stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// It did not run, and would not have again.
    AtRest,
    /// It ended in time, or its time was nothing.
    Ended,
    /// It was killed when its time had passed.
    Killed {
        /// After this.
        time: Duration,
        /// What it was sent.
        signal: i32,
        /// Whether its first process had no handler for that: as process 1 it does not end by it.
        deaf: bool,
    },
}

impl Engine {
    /// Sends a signal to a running container's init.
    pub fn kill_container(&self, id: &ContainerId, signal: i32) -> Result<(), Error> {
        let status = self.status(id)?;
        if !status.can_kill() {
            return Err(Error::conflict(format!(
                "can only kill running containers. {id} is in state {status}: container state \
                 improper"
            )));
        }
        let (run, pidfd) = self.init_of(id)?;
        let config = match self.config(id) {
            // That it can't be read keeps nothing running.
            Err(_) if signal == SIGKILL => None,
            config => Some(config?),
        };
        let is_of_interest = config.as_ref().is_none_or(may_start_again);
        let stop_signal = config.as_ref().map(|config| config.stop_signal);
        if matches!(signal, 9 | 15) || Some(signal) == stop_signal {
            self.keep_stopped(id, is_of_interest);
        }
        kelp_sys::signal::pidfd_send(pidfd.as_fd(), signal)
            .map_err(Error::io(format!("signal container {}", id.short())))?;
        if signal == SIGKILL {
            // Nothing prevents it, but it takes a moment, and whoever asks next should see it.
            if !ends_within(&pidfd, KILL_TIME)? && !ends_late(&run, &pidfd)? {
                return Err(hangs(id, &run));
            }
            if config.is_none_or(|config| config.options.restart == RestartPolicy::No) {
                let record = Record::new(&self.paths, id.clone());
                liveness::gone_within(&record.runtime, MONITORS_TIME)?;
            }
        }
        self.note_id("kill", id, None);
        Ok(())
    }

    /// Asks a container to stop, and kills it when its time has passed.
    pub fn stop_container(&self, id: &ContainerId, request: StopRequest) -> Result<Stopped, Error> {
        let stopped = self.end_program(id, request)?;
        if stopped == Stopped::AtRest {
            return Ok(stopped);
        }
        self.await_monitor(&Record::new(&self.paths, id.clone()))?;
        if let Some(config) = Config::read(&self.paths, id)? {
            self.note("stop", &config);
        }
        Ok(stopped)
    }

    /// Asks a container's program to end, and kills it when the time has passed. Its monitor has not ended
    /// yet.
    pub(crate) fn end_program(
        &self,
        id: &ContainerId,
        request: StopRequest,
    ) -> Result<Stopped, Error> {
        let config = self.config(id)?;
        let status = self.status(id)?;
        if status.can_remove() {
            return Ok(Stopped::AtRest);
        }
        // To a service manager the end of one that is stopped is no failure.
        let is_service = config
            .options
            .notify
            .is_some_and(|notify| notify != Notify::Ignore);
        // What fails while it ends is no reason to do anything about it.
        let is_watched = is_service || config.health.is_some();
        let asked = request.until_boot && self.end_monitor(id);
        let is_of_interest = may_start_again(&config) || is_watched;
        let restarts = asked || self.keep_stopped(id, is_of_interest);
        let Ok((run, pidfd)) = self.init_of(id) else {
            // It has just ended, or is between two runs, and there is no next one now.
            return Ok(if restarts || status != Status::Stopping {
                Stopped::Ended
            } else {
                Stopped::AtRest
            });
        };
        if status == Status::Paused
            && let Err(error) = self.pause_container(id, false)
            // Else it went on and has ended, before its monitor could be told that it goes on.
            && !ends_within(&pidfd, Duration::ZERO)?
        {
            return Err(error);
        }
        let signal = config.stop_signal;
        let mut time = Duration::from_secs(config.stop_timeout);
        time = request.timeout.unwrap_or(time);
        if request.fast && is_deaf(run.pid, signal) {
            time = Duration::ZERO;
        }
        // A monitor that is asked sends it.
        if !asked {
            let _ = kelp_sys::signal::pidfd_send(pidfd.as_fd(), signal);
        }
        if ends_within(&pidfd, time)? {
            return Ok(Stopped::Ended);
        }
        let deaf = is_deaf(run.pid, signal);
        let _ = kelp_sys::signal::pidfd_send(pidfd.as_fd(), SIGKILL);
        if time.is_zero() {
            return Ok(Stopped::Ended);
        }
        Ok(Stopped::Killed { time, signal, deaf })
    }

    /// Waits until the monitor of a program that has ended lets go of its lock: then the record is written.
    pub(crate) fn await_monitor(&self, record: &Record) -> Result<(), Error> {
        if self.monitor_ends(record)? {
            return Ok(());
        }
        Err(Error::conflict(format!(
            "the program of container {} has ended and its monitor does not: kelp rm -f removes both",
            record.id.short()
        )))
    }

    /// The same; whether it does in time.
    ///
    /// # Errors
    /// If it can't, because the program was killed and hangs in the kernel.
    pub(crate) fn monitor_ends(&self, record: &Record) -> Result<bool, Error> {
        if liveness::gone_within(&record.runtime, KILL_TIME)? {
            return Ok(true);
        }
        if let Ok((run, pidfd)) = self.init_of(&record.id)
            && !ends_late(&run, &pidfd)?
        {
            return Err(hangs(&record.id, &run));
        }
        let rest = MONITORS_TIME.saturating_sub(KILL_TIME);
        Ok(liveness::gone_within(&record.runtime, rest)?)
    }

    /// Tells the monitor of a container that its end is wanted, if that is of interest to it, and that it is not to
    /// start it again; whether it has been told.
    fn keep_stopped(&self, id: &ContainerId, is_of_interest: bool) -> bool {
        if !is_of_interest {
            return false;
        }
        let record = Record::new(&self.paths, id.clone());
        while let Ok(monitor) = Connection::open(&record.runtime) {
            if monitor.stop() {
                return true;
            }
        }
        false
    }

    /// Asks the monitor of a container to end, and its program first, as systemd does at the end of a session;
    /// whether that was possible.
    fn end_monitor(&self, id: &ContainerId) -> bool {
        let record = Record::new(&self.paths, id.clone());
        let monitor = Connection::open(&record.runtime).and_then(|connection| connection.monitor());
        let monitor = monitor.ok().flatten();
        monitor
            .is_some_and(|monitor| kelp_sys::signal::pidfd_send(monitor.as_fd(), SIGTERM).is_ok())
    }

    /// Waits until a container does not run; its exit code.
    pub fn wait_container(&self, id: &ContainerId) -> Result<i32, Error> {
        let record = Record::new(&self.paths, id.clone());
        // A connection tells the code also of a container that is removed at its end.
        while let Ok(connection) = Connection::open(&record.runtime)
            && record.is_alive()
        {
            match connection.exited() {
                Ok(Some(code)) => return Ok(code),
                // Between two runs the monitor hangs up: the next one's end is waited for.
                Ok(None) => {}
                Err(_) => break,
            }
        }
        liveness::wait_until_gone(&record.runtime)?;
        let ran = record.run()?.is_some();
        self.status(id)?;
        match record.exit()? {
            Some(exit) => Ok(exit.code),
            // A --rm container whose monitor was killed is gone by now.
            None if ran => Ok(KILLED),
            None if record.data.is_dir() => Ok(0),
            None => Err(kelp_state::Error::NotFound(id.to_string()).into()),
        }
    }

    /// Freezes or thaws a container.
    pub fn pause_container(&self, id: &ContainerId, pause: bool) -> Result<(), Error> {
        let record = Record::new(&self.paths, id.clone());
        let run = self.running(id.as_str())?;
        let cgroup = Cgroup::open(&run.cgroup)
            .ok()
            .filter(|_| !run.cgroup.is_empty());
        // Whoever was killed between the two has left them apart.
        let is_frozen = cgroup.as_ref().map_or(run.paused, Cgroup::is_frozen);
        if run.paused == pause && is_frozen == pause {
            let (verb, state) = if pause {
                ("pause", "paused")
            } else {
                ("unpause", "not paused")
            };
            return Err(Error::conflict(format!(
                "can't {verb} container {}: it is {state}",
                id.short()
            )));
        }
        let cgroup = cgroup.ok_or_else(|| {
            Error::new(
                Kind::Failed,
                "pausing needs a cgroup, and this container has none: start kelp in a systemd user \
                 session, or in a unit with Delegate=yes",
            )
        })?;
        cgroup
            .freeze(pause)
            .map_err(Error::io(format!("freeze container {}", id.short())))?;
        let monitor = Connection::open(&record.runtime)
            .map_err(Error::io("connect to the container's monitor"));
        let told = monitor.and_then(|monitor| {
            monitor
                .paused(pause)
                .inspect_err(|_| monitor.not_paused())?;
            Ok(())
        });
        if told.is_err() && pause {
            // Its record would not say so.
            let _ = cgroup.freeze(false);
        }
        told?;
        self.note_id(if pause { "pause" } else { "unpause" }, id, None);
        Ok(())
    }

    /// What runs, and a pidfd of its init.
    pub(crate) fn init_of(&self, id: &ContainerId) -> Result<(RunRecord, OwnedFd), Error> {
        let not_running = || {
            Error::new(
                Kind::Conflict,
                format!(
                    "can only kill running containers. {id} is in state exited: container state improper"
                ),
            )
        };
        let run = self.running(id.as_str())?;
        let pidfd = run.open_init().ok_or_else(not_running)?;
        Ok((run, pidfd))
    }
}

/// Whether the monitor may start it again when it has ended.
pub(crate) fn may_start_again(config: &Config) -> bool {
    config.options.restart != RestartPolicy::No || health::starts_again(config.health.as_ref())
}

/// Whether the process ends before the time has passed.
pub(crate) fn ends_within(pidfd: &OwnedFd, time: Duration) -> Result<bool, Error> {
    kelp_sys::fd::wait_input(pidfd.as_fd(), time).map_err(Error::io("wait for the container"))
}
