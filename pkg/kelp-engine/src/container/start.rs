//! `start`: a monitor is started, and through it the container.

use std::fs;
use std::os::fd::AsFd;

use kelp_monitor::Launch;
use kelp_monitor::attach::{Connection, Pipes};
use kelp_monitor::role::SOCKET;
use kelp_state::{ContainerId, Record, file};
use kelp_userns::shared::{self, Coming};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};

use crate::container::config::{Config, CreateOptions};
use crate::container::remove::RemoveOptions;
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
        let map = host::id_map(&options.namespaces.user)?;
        let coming = shared::join_or_begin(&self.paths.runtime, map)?;
        let remove = options.remove;
        let (id, _held) = self.create_held(options, true)?;
        match self.start_in(&id, pipes, Some(coming)) {
            Ok(started) => Ok((id, started)),
            Err(error) => {
                if remove {
                    let _ = self.remove_container(&id, &RemoveOptions::KILL);
                }
                Err(error)
            }
        }
    }

    /// Starts a container that does not run, with these streams attached.
    pub fn start_container(&self, id: &ContainerId, pipes: Pipes) -> Result<Started, Error> {
        self.start_in(id, pipes, None)
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
        if !status.can_start() {
            return Err(Error::conflict(format!(
                "container {} is {status}: it can't be started",
                id.short()
            )));
        }
        let userns = match userns {
            Some(coming) => coming.finish()?,
            None => self.user_namespace(host::id_map(&config.options.namespaces.user)?)?,
        };
        let (ours, theirs) = socketpair(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )
        .map_err(Error::io("make a socket pair"))?;
        let connection = Connection::new(ours);
        // Sent before the monitor is there to read it: it waits in the socket.
        connection.send_start(pipes)?;
        let null = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")
            .map_err(Error::io("open /dev/null"))?;
        let mut fds = vec![(theirs.as_fd(), SOCKET)];
        if !passes_streams(&record)? {
            fds.extend((0..3).map(|number| (null.as_fd(), number)));
        }
        internal::spawn(&["monitor", id.as_str()], &userns, fds)?;
        drop(theirs);
        let pid = connection.started()?;
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

fn passes_streams(record: &Record) -> Result<bool, Error> {
    let launch: Option<Launch> = file::read_json(&record.data.join("launch.json"))?;
    Ok(launch
        .is_some_and(|launch| launch.log.driver == kelp_monitor::launch::LogDriver::Passthrough))
}
