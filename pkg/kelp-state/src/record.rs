//! The parts of a container's record that are the same for every container: where it is, what runs,
//! and how it ended.

use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use kelp_sys::stat::Stat;
use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::file::{self, Durability};
use crate::id::ContainerId;
use crate::liveness;
use crate::paths::Paths;
use crate::status::Status;

/// What is known of a running container; in the runtime directory, so a reboot takes it along
/// where that is a tmpfs, and the boot id tells where it is not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// The init's process id, as the host counts.
    pub pid: u32,
    /// The init's start time in clock ticks since boot (proc_pid_stat(5), field 22).
    pub start_time: u64,
    /// The monitor's process id.
    pub monitor: u32,
    /// `/proc/sys/kernel/random/boot_id` at the start.
    pub boot_id: String,
    /// When the program was executed.
    pub started: SystemTime,
    /// The cgroup, relative to the mount of cgroup v2; empty without one.
    #[serde(default)]
    pub cgroup: String,
    /// Whether the container is paused.
    #[serde(default)]
    pub paused: bool,
    /// How often it was started again by its restart policy.
    #[serde(default)]
    pub restarts: u32,
    /// Whether the kernel has killed a process of it for memory since somebody started it.
    #[serde(default)]
    pub oom_killed: bool,
}

impl RunRecord {
    /// A pidfd of the init; `None` if that has been reaped, or its number was never one.
    pub fn open_init(&self) -> Option<OwnedFd> {
        let pid = Pid::from_raw(i32::try_from(self.pid).ok()?)?;
        let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // Looked at after the pidfd was opened: the number can't change hands any more.
        (start_time(self.pid) == Some(self.start_time)).then_some(pidfd)
    }
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// What a shell would show: the code, or 128 and the signal.
    pub code: i32,
    /// Whether the kernel killed a process of it for memory, in this run or in one before it that its
    /// restart policy followed up.
    #[serde(default)]
    pub oom_killed: bool,
    /// When it was started; `None` if it never was.
    pub started: Option<SystemTime>,
    /// When it ended, or when somebody found out.
    pub finished: SystemTime,
    /// Why it ended, where that is not the program's own doing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// Whether somebody stopped it, as far as its restart policy has to know.
    #[serde(default)]
    pub stopped: bool,
    /// Whether it ended with its session or its machine, neither by itself nor because somebody stopped it.
    #[serde(default)]
    pub interrupted: bool,
    /// How often it was started again by its restart policy before.
    #[serde(default)]
    pub restarts: u32,
}

/// The link that names the boot in which a container was started last, and the runtime directory that it
/// has, until it has ended.
const BEGUN: &str = "begun";

/// What the link says.
fn begun(data: &Path) -> Option<(String, PathBuf)> {
    let text = fs::read_link(data.join(BEGUN)).ok()?;
    let text = text.to_str()?;
    let (boot, runtime) = text.split_once(' ').unwrap_or((text, ""));
    Some((boot.to_owned(), PathBuf::from(runtime)))
}

/// A container's place on disk.
#[derive(Clone, Debug)]
pub struct Record {
    /// Whose.
    pub id: ContainerId,
    /// What lasts.
    pub data: PathBuf,
    /// What ends with the boot.
    pub runtime: PathBuf,
    /// Whether it had been started and had not ended by the book when this was looked up: what has not
    /// does not run.
    pub had_begun: bool,
}

impl Record {
    /// The record of `id`, which need not exist. What runs is where it was started, also where the caller
    /// has another $XDG_RUNTIME_DIR.
    pub fn new(paths: &Paths, id: ContainerId) -> Self {
        let data = paths.container(&id);
        let mut runtime = paths.container_runtime(&id);
        let begun = begun(&data);
        let had_begun = begun.is_some();
        if let Some((boot, other)) = begun
            && other != runtime
            && other.is_dir()
            && boot == boot_id()
        {
            runtime = other;
        }
        Self {
            id,
            data,
            runtime,
            had_begun,
        }
    }

    /// Every container's record, in no order.
    pub fn all(paths: &Paths) -> Vec<Self> {
        fs::read_dir(paths.containers())
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .map(|id| Self::new(paths, id))
            .collect()
    }

    /// Whether it was made to the end.
    pub fn is_finished(&self) -> bool {
        is_finished(&self.data)
    }

    /// What runs, if something was started and has not ended by the book.
    pub fn run(&self) -> Result<Option<RunRecord>, Error> {
        file::read_json(&self.runtime.join("run.json"))
    }

    /// Writes what runs.
    pub fn write_run(&self, run: &RunRecord) -> Result<(), Error> {
        file::write_json(&self.runtime.join("run.json"), run, Durability::None)
    }

    /// How it ended last.
    pub fn exit(&self) -> Result<Option<ExitRecord>, Error> {
        match file::read_json(&self.runtime.join("exit.json"))? {
            Some(exit) => Ok(Some(exit)),
            None => file::read_json(&self.data.join("exit.json")),
        }
    }

    /// Notes on disk, where a reboot leaves it, that it is about to be started: a link that names the
    /// boot. A short link is in the directory's own blocks or the inode, so a power cut leaves all of
    /// it or nothing. Who makes a container to start it notes it before anybody can see the record,
    /// and a monitor where nobody has.
    pub fn begin(&self, durability: Durability) -> Result<(), Error> {
        let link = self.data.join(BEGUN);
        let what = || format!("write {}", link.display());
        let text = format!("{} {}", boot_id(), self.runtime.display());
        if fs::read_link(&link).is_ok_and(|begun| begun == Path::new(&text)) {
            return Ok(());
        }
        let _ = fs::remove_file(&link);
        std::os::unix::fs::symlink(text, &link).map_err(Error::io(what()))?;
        match durability {
            Durability::Synced => self.sync_begin(),
            Durability::None => Ok(()),
        }
    }

    /// Has what [`Record::begin`] has noted on disk.
    pub fn sync_begin(&self) -> Result<(), Error> {
        let data = &self.data;
        file::sync_directory(data).map_err(Error::io(format!("sync {}", data.display())))
    }

    /// Takes back that it is about to be started: it was not.
    pub fn never_began(&self) {
        let _ = fs::remove_file(self.data.join(BEGUN));
    }

    /// Since when it ran, if it has ended and the runtime directory does not tell: its boot is over, or the
    /// directory was taken away, as at the end of a session, and nobody watches or makes it.
    pub fn ended_unseen(&self) -> Option<SystemTime> {
        let link = self.data.join(BEGUN);
        let (boot, _) = begun(&self.data)?;
        if boot == boot_id() && (self.is_alive() || is_being_made(&self.data)) {
            return None;
        }
        // Looked at once more after the lock: it may have ended by the book in between.
        let begun = fs::symlink_metadata(&link).ok()?.modified().ok()?;
        // The exit is written before the link is removed.
        let exit = self.exit().unwrap_or_default();
        exit.is_none_or(|exit| exit.finished < begun)
            .then_some(begun)
    }

    /// Whether it was started in this boot, and has not ended by the book.
    pub fn began_in_this_boot(&self) -> bool {
        begun(&self.data).is_some_and(|(boot, _)| boot == boot_id())
    }

    /// Writes how it ended, and takes what ran away: in this order, so that a kill in between leaves
    /// an exit, and a run whose monitor is gone. Where the disk is full it is known until the boot at
    /// least.
    pub fn write_exit(&self, exit: &ExitRecord, durability: Durability) -> Result<(), Error> {
        let stopgap = self.runtime.join("exit.json");
        match file::write_json(&self.data.join("exit.json"), exit, durability) {
            Ok(()) => drop(fs::remove_file(stopgap)),
            Err(_) => file::write_json(&stopgap, exit, Durability::None)?,
        }
        let _ = fs::remove_file(self.runtime.join("run.json"));
        let _ = fs::remove_file(self.data.join(BEGUN));
        Ok(())
    }

    /// Whether its monitor lives.
    pub fn is_alive(&self) -> bool {
        liveness::is_alive(&self.runtime)
    }

    /// Its status, from the files and the lock.
    pub fn status(&self) -> Result<Status, Error> {
        let alive = self.is_alive();
        let run = self.run()?;
        let exited =
            alive || run.is_some() || self.exit()?.is_some() || self.ended_unseen().is_some();
        Ok(Status::derive(alive, run.as_ref(), exited))
    }
}

/// Whether the record in this directory was made to the end. A power cut can leave the name of a file
/// that was not synced, without its content.
pub fn is_finished(directory: &Path) -> bool {
    fs::metadata(directory.join("config.json")).is_ok_and(|file| file.len() > 0)
}

/// Locks a record's directory while the record is being made; `None` if somebody else does.
pub fn making(directory: &Path) -> Result<Option<OwnedFd>, Error> {
    lock_directory(directory, FlockOperation::NonBlockingLockExclusive)
}

/// Locks a directory (flock(2)), for as long as what is returned is open; `None` if that would have to be waited for.
pub fn lock_directory(directory: &Path, how: FlockOperation) -> Result<Option<OwnedFd>, Error> {
    let lock = || {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let lock = rustix::fs::open(directory, flags, Mode::empty())?;
        match rustix::io::retry_on_intr(|| flock(&lock, how)) {
            Ok(()) => Ok(Some(lock)),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(error) => Err(std::io::Error::from(error)),
        }
    };
    lock().map_err(Error::io(format!("lock {}", directory.display())))
}

/// Whether a file was made longer ago than it takes from a note of a container to that container's record.
pub fn is_old(file: &fs::Metadata) -> bool {
    let age = file.modified().ok().and_then(|made| made.elapsed().ok());
    age.is_some_and(|age| age > Duration::from_mins(1))
}

/// Waits until nobody holds the lock of a record's directory, or there is no directory.
pub fn wait_until_unlocked(directory: &Path) {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    if let Ok(lock) = rustix::fs::open(directory, flags, Mode::empty()) {
        while flock(&lock, FlockOperation::LockShared) == Err(Errno::INTR) {}
    }
}

/// Whether somebody makes or first starts the record in this directory, see [`making`]; leaves
/// others' tries alone.
pub fn is_being_made(directory: &Path) -> bool {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(directory, flags, Mode::empty()).is_ok_and(|file| {
        flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK)
    })
}

/// Whether the record of a container or a pod was given up while it was being made, or is gone: nobody holds the lock
/// that a maker holds ([`making`]), and it lacks its config, which is written last.
pub fn is_abandoned(directory: &Path) -> bool {
    // One that is whole is not asked for its lock, which members of a pod that end want for themselves alone. The rest
    // in this order: a maker that is done gives the lock up after it has written the config.
    !is_finished(directory) && !is_being_made(directory) && !is_finished(directory)
}

/// The id of this boot of the machine.
pub fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

/// A process's start time in clock ticks since boot; with the pid it names a process for one boot.
pub fn start_time(pid: u32) -> Option<u64> {
    flags_and_start_time(pid).map(|(_, start_time)| start_time)
}

/// Whether a process, by its number and its start time, has executed a program since it was forked; `None` if
/// it was reaped. One that has ended and was not reaped still tells.
pub fn has_executed(pid: u32, start_time: u64) -> Option<bool> {
    let (flags, started) = flags_and_start_time(pid)?;
    (started == start_time).then_some(flags & FORKED == 0)
}

/// The same of a child that nobody has reaped, so that its number is its own.
pub fn child_has_executed(pid: u32) -> Option<bool> {
    flags_and_start_time(pid).map(|(flags, _)| flags & FORKED == 0)
}

/// `PF_FORKNOEXEC` of the kernel: fork(2) sets it, and execve(2) clears it before it closes descriptors.
const FORKED: u64 = 0x40;

/// Fields 9 and 22 of proc_pid_stat(5), of one look.
fn flags_and_start_time(pid: u32) -> Option<(u64, u64)> {
    let stat = Stat::of(pid).ok()?;
    Some((stat.flags()?, stat.start_time()?))
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;
    use std::process::Command;
    use std::time::Duration;

    use kelp_sys::clone::{CloneFlags, clone3};
    use kelp_sys::process::wait_pidfd;

    use super::*;

    #[test]
    fn an_init_is_opened_by_its_number_and_start_time_until_it_is_reaped() {
        let forked = clone3(CloneFlags::empty(), None, || 0).unwrap();
        let pid = forked.pid.as_raw_nonzero().get().cast_unsigned();
        let run = RunRecord {
            pid,
            start_time: start_time(pid).unwrap(),
            monitor: 0,
            boot_id: String::new(),
            started: SystemTime::UNIX_EPOCH,
            cgroup: String::new(),
            paused: false,
            restarts: 0,
            oom_killed: false,
        };
        let pidfd = run.open_init().unwrap();
        assert!(kelp_sys::fd::wait_input(pidfd.as_fd(), Duration::from_mins(1)).unwrap());
        // Another that has the number.
        let other = RunRecord {
            start_time: run.start_time + 1,
            ..run.clone()
        };
        assert!(other.open_init().is_none());
        wait_pidfd(forked.pidfd.as_fd()).unwrap();
        assert!(run.open_init().is_none());
        for pid in [0, u32::MAX] {
            let none = RunRecord { pid, ..run.clone() };
            assert!(none.open_init().is_none(), "{pid}");
        }
    }

    #[test]
    fn whether_a_process_has_executed_is_known_until_it_is_reaped() {
        let known = child_has_executed;
        let forked = clone3(CloneFlags::empty(), None, || 0).unwrap();
        let pid = forked.pid.as_raw_nonzero().get().cast_unsigned();
        assert_eq!(known(pid), Some(false));
        wait_pidfd(forked.pidfd.as_fd()).unwrap();
        assert_eq!(known(pid), None);

        let mut child = Command::new("true").spawn().unwrap();
        let pidfd = pidfd_open(Pid::from_child(&child), PidfdFlags::empty()).unwrap();
        assert!(kelp_sys::fd::wait_input(pidfd.as_fd(), Duration::from_mins(1)).unwrap());
        assert_eq!(known(child.id()), Some(true));
        // Another that had the number.
        assert_eq!(has_executed(child.id(), 0), None);
        child.wait().unwrap();
        assert_eq!(known(child.id()), None);
    }
}
