//! `start`: a monitor is started, and through it the container.

use std::fs;
use std::io::Write;
use std::os::fd::AsFd;
use std::time::Duration;

use kelp_monitor::Launch;
use kelp_monitor::attach::{Connection, Pipes};
use kelp_monitor::launch::LogDriver;
use kelp_monitor::role::Handed;
use kelp_runtime::launch::pair;
use kelp_runtime::sockets;
use kelp_state::file;
use kelp_state::{ContainerId, ExitRecord, Record, Status, liveness};
use kelp_userns::shared::{self, Coming};
use rustix::termios::isatty;

use crate::container::config::{Config, CreateOptions, Namespace, UserMode};
use crate::container::remove::RemoveOptions;
use crate::container::signal::{MONITORS_TIME, ends_within, may_start_again};
use crate::container::wait::Condition;
use crate::{Engine, Error, Kind, host, internal};

/// A container that has just been started.
#[derive(Debug)]
pub struct Started {
    /// The connection to its monitor: for sizes, and for its end.
    pub connection: Connection,
    /// The init's process id.
    pub pid: u32,
}

impl Engine {
    /// Creates a container and starts it with these streams attached. The user namespace is made
    /// while the record is: newuidmap and newgidmap take longer than all that kelp does itself.
    pub fn run_container(
        &self,
        options: CreateOptions,
        pipes: Pipes,
    ) -> Result<(ContainerId, Started), Error> {
        passes_no_terminal(options.log_driver)?;
        let coming = if is_any_with_its_map(&options) {
            let map = host::map_of(&options.namespaces)?;
            Some(shared::join_or_begin(&self.paths.runtime, map)?)
        } else {
            None
        };
        let remove = options.remove;
        let (id, _held) = self.create_held(options, true)?;
        match self.start_in(&id, pipes, coming) {
            Ok(started) => Ok((id, started)),
            Err(error) => {
                if remove {
                    let _ = self.remove_container(&id, &RemoveOptions::KILL);
                } else if let record = Record::new(&self.paths, id)
                    && !record.is_alive()
                {
                    record.never_began();
                }
                Err(error)
            }
        }
    }

    /// Starts a container that does not run, with these streams attached.
    pub fn start_container(&self, id: &ContainerId, pipes: Pipes) -> Result<Started, Error> {
        self.start_in(id, pipes, None)
    }

    /// Starts a container that does not run, unless somebody else does so just now: then that start is waited for.
    pub(crate) fn start_unless_started(
        &self,
        id: &ContainerId,
        pipes: impl Fn() -> Pipes,
    ) -> Result<(), Error> {
        let runs = |status| matches!(status, Status::Running | Status::Paused);
        if runs(self.settled_status(id)?) {
            return Ok(());
        }
        let record = Record::new(&self.paths, id.clone());
        let before = record.exit()?.map(|exit| exit.finished);
        let mut tries = 0;
        loop {
            let error = match self.start_container(id, pipes()) {
                Err(error) if error.kind() == Kind::Conflict => error,
                started => return started.map(drop),
            };
            tries += 1;
            let status = self.settled_status(id)?;
            // Somebody else was quicker, and what is started may have ended by now.
            let has_run = |exit: Option<ExitRecord>| {
                exit.is_some_and(|it| Some(it.finished) != before && it.error.is_empty())
            };
            if runs(status) || (status == Status::Exited && has_run(record.exit()?)) {
                return Ok(());
            }
            // That one could not start it: why is told by another try.
            if tries == 3 || !status.can_start() {
                return Err(error);
            }
        }
    }

    /// A container's status, once it is not about to change: a program that has ended is waited for
    /// until its record says so, and one that is being started until it runs.
    pub fn settled_status(&self, id: &ContainerId) -> Result<Status, Error> {
        let mut status = self.status(id)?;
        if status == Status::Stopping {
            let settled = [Condition::Running, Condition::Paused, Condition::Exited];
            self.wait_for(id, &settled)?;
            status = self.status(id)?;
        }
        // With a policy the monitor starts it again by itself.
        let ends = !may_start_again(&self.config(id)?);
        if ends && matches!(status, Status::Running | Status::Paused) {
            let ended = match self.init_of(id) {
                Ok((_, pidfd)) => ends_within(&pidfd, Duration::ZERO)?,
                Err(_) => true,
            };
            if ended {
                let record = Record::new(&self.paths, id.clone());
                liveness::gone_within(&record.runtime, MONITORS_TIME)?;
                status = self.status(id)?;
            }
        }
        Ok(status)
    }

    fn start_in(
        &self,
        id: &ContainerId,
        pipes: Pipes,
        userns: Option<Coming>,
    ) -> Result<Started, Error> {
        let record = Record::new(&self.paths, id.clone());
        // A container that ended with its boot or its monitor leaves its cgroup and processes.
        let status = self.status(id)?;
        let config = self.config(id)?;
        passes_no_terminal(config.options.log_driver)?;
        if !status.can_start() {
            return Err(Error::conflict(format!(
                "container {} is {status}: it can't be started",
                id.short()
            )));
        }
        let mut in_pod = self.begin_in_pod_of(&config);
        self.start_required(id, &config.options)?;
        if let Some(in_pod) = &mut in_pod {
            in_pod.enter()?;
            // It may have ended with the last of the others just now.
            self.start_infra(&config.options)?;
        }
        let userns = match userns {
            Some(coming) => coming.finish()?,
            None => self.userns_of(&config.options)?,
        };
        let launch: Option<Launch> = file::read_json(&record.data.join("launch.json"))?;
        // It is removed meanwhile.
        let launch = launch.ok_or_else(|| kelp_state::Error::NotFound(id.to_string()))?;
        let passes_streams = launch.log.driver.passes_streams();
        // Whom it joins the monitor looks up; that they can't be joined is better said here.
        for other in config.options.namespaces.of_containers() {
            self.running(other)?;
        }
        let handed = handed(&pipes, &launch)?;
        let (ours, theirs) = pair()?;
        let connection = Connection::new(ours);
        // Sent before the monitor is there to read it: it waits in the socket.
        connection.send_start(pipes)?;
        let null = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")
            .map_err(Error::io("open /dev/null"))?;
        let mut fds = vec![(theirs.as_fd(), handed.socket())];
        if !passes_streams {
            fds.extend((0..3).map(|number| (null.as_fd(), number)));
        }
        let user = handed.socket() + 1;
        let count = handed.sockets.map_or(0, |sockets| sockets.count);
        let (preserved, count) = (handed.preserved.to_string(), count.to_string());
        let whose = if handed.is_main { "main" } else { "needed" };
        let mut words = vec!["monitor", id.as_str(), &preserved, &count, whose];
        if joins_pids(&config, &launch) {
            // What is in that pid namespace already could look into the container's first process otherwise, while
            // that has the host's files.
            words.push("enters");
            fds.push((userns.as_fd(), user));
            internal::spawn_outside(&words, fds, None)?;
        } else {
            internal::spawn(&words, &userns, fds)?;
        }
        drop(theirs);
        let started = connection.started();
        drop(in_pod);
        let (pid, untold) = started.map_err(|error| self.explained(&config, error.into()))?;
        if let Some(why) = untold {
            // Nobody may read it.
            let _ = writeln!(
                std::io::stderr(),
                "Warning: {why}; NOTIFY_SOCKET says where it should be"
            );
        }
        Ok(Started { connection, pid })
    }

    /// A container's config.
    pub fn config(&self, id: &ContainerId) -> Result<Config, Error> {
        Config::read(&self.paths, id)?.ok_or_else(|| {
            Error::new(
                Kind::NotFound,
                format!("no container with name or ID \"{id}\" found: no such container"),
            )
        })
    }
}

/// Whether kelp itself starts it among processes that are there already, and are not the host's.
fn joins_pids(config: &Config, launch: &Launch) -> bool {
    let pids = &config.options.namespaces.pid;
    launch.runtime.is_none() && matches!(pids, Namespace::Container(_) | Namespace::Path(_))
}

/// What the program gets of this process's descriptors: those that were asked for, and sockets that somebody has
/// opened for it.
fn handed(pipes: &Pipes, launch: &Launch) -> Result<Handed, Error> {
    let sockets = pipes.sockets.clone();
    let listened = sockets.as_ref().map_or(0, |sockets| sockets.count);
    let preserved = i32::from(pipes.preserved_fds) + i32::from(listened);
    if preserved > 0 && launch.runtime.is_some() {
        return Err(Error::invalid(
            "descriptors and sockets (LISTEN_FDS) are passed on by kelp's own runtime alone: leave --runtime away",
        ));
    }
    if let Some(number) = sockets::closed(preserved) {
        return Err(Error::invalid(format!(
            "descriptor {number} is not open: --preserve-fds and LISTEN_FDS count from 3 on"
        )));
    }
    Ok(Handed {
        preserved,
        sockets,
        is_main: pipes.is_main,
        ..Handed::default()
    })
}

/// A terminal is passed on only where that is said: the program would read what is typed for others.
fn passes_no_terminal(driver: Option<LogDriver>) -> Result<(), Error> {
    let mut own = [
        rustix::stdio::stdin(),
        rustix::stdio::stdout(),
        rustix::stdio::stderr(),
    ]
    .into_iter();
    if driver == Some(LogDriver::Passthrough) && own.any(isatty) {
        return Err(Error::invalid(
            "the '--log-driver passthrough' option cannot be used on a TTY. If you really want it, use \
             '--log-driver passthrough-tty'",
        ));
    }
    Ok(())
}

/// Whether any user namespace with the container's map will do, of those that there are before it is made.
fn is_any_with_its_map(options: &CreateOptions) -> bool {
    let names = &options.namespaces;
    let settled_later = matches!(
        names.user,
        UserMode::Auto { .. } | UserMode::Container(_) | UserMode::Path(_)
    );
    !settled_later && names.of_containers().is_empty() && options.pod.is_none()
}
