//! A container's directory: what it was made from, and which process it is.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use kelp_runtime::cgroup::Cgroup;
use kelp_runtime::resctrl::Groups;
use kelp_state::file::{self, Durability};
use kelp_state::record::{has_executed, start_time};
use kelp_sys::fd::has_input;
use oci_spec::runtime::Spec;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, fstat, open, stat};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::lenient;

/// The socket at which a created container waits to be started.
pub(crate) const GATE: &str = "gate";

const RECORD: &str = "state.json";
const SPEC: &str = "config.json";

/// What is kept of a container: `state.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) bundle: PathBuf,
    pub(crate) pid: i32,
    /// The process's start time (proc_pid_stat(5), field 22): its number may be another's by now.
    pub(crate) start_time: u64,
    /// RFC 3339, UTC.
    pub(crate) created: String,
    pub(crate) owner: u32,
    /// The root, on the host.
    pub(crate) rootfs: PathBuf,
    /// Its cgroup below the mount of cgroup v2; empty where it has none.
    pub(crate) cgroup: String,
    /// The scope that systemd made for it.
    pub(crate) scope: Option<String>,
    /// Its groups of resctrl.
    #[serde(default)]
    pub(crate) groups: Option<Groups>,
    /// The program, which errors are about.
    #[serde(default)]
    pub(crate) program: String,
    /// Whether it has neither hooks nor somebody who is asked about calls: `start` and `delete` read nothing of
    /// its specification then.
    #[serde(default)]
    pub(crate) is_plain: bool,
    /// Whether whoever makes it has not said yet that it is there.
    pub(crate) creating: bool,
}

/// A container.
#[derive(Debug)]
pub struct Container {
    /// Its id.
    pub id: String,
    /// What in its specification was passed over, and what went wrong beside it, when it was made.
    pub notes: Vec<String>,
    /// The outer end of its terminal, if whoever has made it keeps that.
    pub terminal: Option<OwnedFd>,
    pub(crate) directory: PathBuf,
    pub(crate) record: Record,
}

/// Where it is in its life (runtime-spec, "State").
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is being made.
    Creating,
    /// It waits to be started.
    Created,
    /// Its program runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// Its first process has ended.
    Stopped,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Creating => "creating",
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        })
    }
}

/// What `state` prints and hooks read (runtime-spec, "State"), with runc's additions.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct State {
    /// The version of the specification that the state is in.
    pub oci_version: String,
    /// The container's id.
    pub id: String,
    /// The first process; 0 if it has ended.
    pub pid: i32,
    /// Where it is in its life.
    pub status: Status,
    /// The bundle, as an absolute path.
    pub bundle: PathBuf,
    /// The root, on the host.
    pub rootfs: PathBuf,
    /// When it was made.
    pub created: String,
    /// The specification's annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty", default)]
    pub annotations: BTreeMap<String, String>,
    /// The user's name.
    pub owner: String,
}

impl State {
    /// The same as seen in the container: its processes have other numbers there (runtime-spec, runtime.md,
    /// "State").
    pub(crate) fn inside(&self) -> Self {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).unwrap_or_default();
        let numbers = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
        let inner = numbers.and_then(|numbers| numbers.split_ascii_whitespace().last());
        Self {
            pid: inner.and_then(|pid| pid.parse().ok()).unwrap_or(self.pid),
            ..self.clone()
        }
    }

    /// As a document.
    pub(crate) fn to_json(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("strings and numbers are always a document")
    }
}

impl Container {
    pub(crate) fn open(id: &str, directory: PathBuf) -> Result<Self, Error> {
        let path = directory.join(RECORD);
        let record = file::read_json(&path).map_err(|error| match error {
            kelp_state::Error::Json { what, source } => Error::Damaged(what, source),
            error => error.into(),
        })?;
        Ok(Self {
            id: id.to_owned(),
            notes: Vec::new(),
            terminal: None,
            record: record.ok_or_else(|| Error::NotFound(id.to_owned()))?,
            directory,
        })
    }

    /// Writes the specification, as it was read.
    pub(crate) fn write_spec(&self, text: &[u8]) -> Result<(), Error> {
        Ok(file::write(
            &self.directory.join(SPEC),
            text,
            Durability::None,
        )?)
    }

    /// Writes the record, which makes it a container.
    pub(crate) fn write_record(&self) -> Result<(), Error> {
        let path = self.directory.join(RECORD);
        Ok(file::write_json(&path, &self.record, Durability::None)?)
    }

    /// The specification that it was made from.
    pub fn spec(&self) -> Result<Spec, Error> {
        lenient::read(&self.directory.join(SPEC))
    }

    /// The same, if there is more in it to be done.
    pub(crate) fn spec_unless_plain(&self) -> Result<Option<Spec>, Error> {
        if self.record.is_plain {
            return Ok(None);
        }
        self.spec().map(Some)
    }

    /// A pidfd of its first process, unless that has ended.
    pub fn init(&self) -> Option<OwnedFd> {
        let pid = Pid::from_raw(self.record.pid)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // Looked at after the pidfd was opened: it is the one that was meant, or none.
        let is_same = start_time(self.record.pid.cast_unsigned()) == Some(self.record.start_time);
        (is_same && !has_input(pidfd.as_fd())).then_some(pidfd)
    }

    /// Whether its first process has become the program; `None` if it was reaped.
    pub(crate) fn has_executed(&self) -> Option<bool> {
        has_executed(self.record.pid.cast_unsigned(), self.record.start_time)
    }

    /// Where it is in its life.
    pub fn status(&self) -> Status {
        if self.init().is_none() {
            return Status::Stopped;
        }
        if self.record.creating {
            return Status::Creating;
        }
        // Whoever has started it may have been killed before the gate was removed.
        if self.directory.join(GATE).exists() && self.has_executed() != Some(true) {
            return Status::Created;
        }
        if self.cgroup().is_some_and(|cgroup| cgroup.is_frozen()) {
            return Status::Paused;
        }
        Status::Running
    }

    /// Its cgroup, where it has one.
    pub(crate) fn cgroup(&self) -> Option<Cgroup> {
        let path = &self.record.cgroup;
        if path.is_empty() {
            return None;
        }
        let cgroup = Cgroup::open(path).ok()?;
        Some(match self.record.scope {
            Some(_) => cgroup.in_scope(),
            None => cgroup,
        })
    }

    /// What the specification calls its state.
    pub fn state(&self) -> Result<State, Error> {
        let spec = self.spec()?;
        Ok(self.state_as(&spec, self.status()))
    }

    pub(crate) fn state_as(&self, spec: &Spec, status: Status) -> State {
        State {
            oci_version: kelp_runtime::OCI_VERSION.to_owned(),
            id: self.id.clone(),
            pid: if status == Status::Stopped {
                0
            } else {
                self.record.pid
            },
            status,
            bundle: self.record.bundle.clone(),
            rootfs: self.record.rootfs.clone(),
            created: self.record.created.clone(),
            annotations: spec
                .annotations()
                .clone()
                .unwrap_or_default()
                .into_iter()
                .collect(),
            owner: kelp_userns::subid::user_name(self.record.owner).unwrap_or_default(),
        }
    }

    fn is_same(&self, other: &Self) -> bool {
        let number = |container: &Self| (container.record.pid, container.record.start_time);
        number(self) == number(other)
    }

    /// Keeps other verbs from changing it meanwhile, and reads again what they have changed before. Where its id
    /// is another container's by now, it is not found.
    pub(crate) fn lock(&self) -> Result<(Self, OwnedFd), Error> {
        self.locked(lock(&self.directory))
    }

    /// The same, unless another verb is at it.
    pub(crate) fn try_lock(&self) -> Result<Option<(Self, OwnedFd)>, Error> {
        match lock_by(&self.directory, FlockOperation::NonBlockingLockExclusive) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::WouldBlock => Ok(None),
            lock => self.locked(lock).map(Some),
        }
    }

    fn locked(&self, lock: Result<OwnedFd, Error>) -> Result<(Self, OwnedFd), Error> {
        let lock = lock.map_err(|error| match error {
            Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Error::NotFound(self.id.clone())
            }
            error => error,
        })?;
        let fresh = Self::open(&self.id, self.directory.clone())?;
        if !fresh.is_same(self) {
            return Err(Error::NotFound(self.id.clone()));
        }
        Ok((fresh, lock))
    }
}

/// Locks a container's directory; released when the descriptor is closed. One that was removed meanwhile, and
/// perhaps made again, is not the one that was locked.
pub(crate) fn lock(directory: &Path) -> Result<OwnedFd, Error> {
    lock_by(directory, FlockOperation::LockExclusive)
}

fn lock_by(directory: &Path, operation: FlockOperation) -> Result<OwnedFd, Error> {
    let what = || format!("lock {}", directory.display());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    loop {
        let lock = open(directory, flags, Mode::empty()).map_err(Error::io(what()))?;
        match flock(&lock, operation) {
            Err(rustix::io::Errno::INTR) => continue,
            locked => locked.map_err(Error::io(what()))?,
        }
        let locked = fstat(&lock).map_err(Error::io(what()))?;
        let named = stat(directory).map_err(Error::io(what()))?;
        if (locked.st_dev, locked.st_ino) == (named.st_dev, named.st_ino) {
            return Ok(lock);
        }
    }
}
