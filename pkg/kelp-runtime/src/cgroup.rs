//! cgroup v2: where a container's cgroup can be, making it, and emptying it.
//!
//! Invariant: an explicit limit is in force or an error that says what to change; without one, a
//! host that delegates nothing is no obstacle (cgroup-v2.rst, "Delegation").

use std::fs;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Access, Mode, OFlags, access};

use crate::error::Error;
use crate::resources::Setting;

/// A container's cgroup.
#[derive(Debug)]
pub struct Cgroup {
    path: PathBuf,
    directory: OwnedFd,
}

/// What the user has to change so that limits can be set.
const HINT: &str = "this session has no delegated cgroup: start kelp in a systemd user session, \
                    or in a unit with Delegate=yes (for a login shell: `systemd-run --user --scope \
                    -p Delegate=yes SHELL`)";

impl Cgroup {
    /// Makes a cgroup named `name` in the nearest place that this user may write, and sets
    /// `settings`; `None` where there is no such place and no setting.
    pub fn create(name: &str, settings: &[Setting]) -> Result<Option<Self>, Error> {
        let controllers = controllers(settings);
        let Some(place) = Place::of_this_process() else {
            return no_place(settings);
        };
        let mut refused = None;
        for parent in place.writable_ancestors() {
            match make(&parent, name, &controllers) {
                Ok(cgroup) => {
                    cgroup.apply(settings).inspect_err(|_| cgroup.remove())?;
                    return Ok(Some(cgroup));
                }
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        match refused {
            Some(error) if !settings.is_empty() => Err(error),
            _ => no_place(settings),
        }
    }

    /// Opens an existing cgroup by its path below the cgroup v2 mount.
    pub fn open(path: &str) -> io::Result<Self> {
        let mount = Place::mount().ok_or(io::ErrorKind::NotFound)?;
        Self::at(mount.join(path.trim_start_matches('/')))
    }

    fn at(path: PathBuf) -> io::Result<Self> {
        let directory = rustix::fs::open(
            &path,
            OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        Ok(Self { path, directory })
    }

    /// Its path below the cgroup v2 mount, as /proc/<pid>/cgroup shows it.
    pub fn relative_path(&self) -> String {
        let mount = Place::mount().unwrap_or_default();
        let relative = self.path.strip_prefix(&mount).unwrap_or(&self.path);
        format!("/{}", relative.display())
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes each setting to its file.
    pub fn apply(&self, settings: &[Setting]) -> Result<(), Error> {
        for setting in settings {
            write_file(&self.path.join(&setting.file), &setting.value).map_err(|error| {
                if error.kind() == io::ErrorKind::NotFound {
                    return Error::Spec(format!(
                        "{}: the {} controller is not delegated to this user; {}",
                        setting.option,
                        setting.controller(),
                        delegate_hint(setting.controller())
                    ));
                }
                Error::io(format!(
                    "{}: write {} to {}",
                    setting.option, setting.value, setting.file
                ))(error)
            })?;
        }
        Ok(())
    }

    /// Freezes or thaws every process in it.
    pub fn freeze(&self, frozen: bool) -> io::Result<()> {
        write_file(
            &self.path.join("cgroup.freeze"),
            if frozen { "1" } else { "0" },
        )
    }

    /// Whether its processes are frozen, or about to be.
    pub fn is_frozen(&self) -> bool {
        fs::read(self.path.join("cgroup.freeze")).is_ok_and(|text| text.starts_with(b"1"))
    }

    /// Kills every process in it (Linux 5.14).
    pub fn kill(&self) -> io::Result<()> {
        write_file(&self.path.join("cgroup.kill"), "1")
    }

    /// How often the kernel killed a process in it for memory.
    pub fn oom_kills(&self) -> u64 {
        let text = fs::read_to_string(self.path.join("memory.events")).unwrap_or_default();
        text.lines()
            .find_map(|line| line.strip_prefix("oom_kill ")?.parse().ok())
            .unwrap_or(0)
    }

    /// Waits until the last process that was killed is gone. The kernel tells a change of
    /// `cgroup.events` since it was last read by a priority event (cgroup-v2.rst, "populated").
    fn wait_until_empty(&self) {
        let Ok(events) = fs::File::open(self.path.join("cgroup.events")) else {
            return;
        };
        // A process that hangs in the kernel must not hold up its user for ever.
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut text = [0; 256];
        while let Ok(length) = events.read_at(&mut text, 0) {
            let left = deadline.saturating_duration_since(Instant::now());
            let populated = text[..length].starts_with(b"populated 1");
            if !populated || left.is_zero() {
                return;
            }
            let timeout = Timespec {
                tv_sec: left.as_secs() as i64,
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            let _ = poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&timeout));
        }
    }

    /// Removes it and what the container made below it; the processes have ended.
    pub fn remove(&self) {
        if fs::remove_dir(&self.path).is_err() {
            let _ = self.kill();
            self.wait_until_empty();
            remove_tree(&self.path);
        }
    }
}

impl AsFd for Cgroup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

fn remove_tree(path: &Path) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    let _ = fs::remove_dir(path);
}

fn no_place(settings: &[Setting]) -> Result<Option<Cgroup>, Error> {
    match settings.first() {
        None => Ok(None),
        Some(setting) => Err(Error::Spec(format!(
            "{} can't be set: {HINT}",
            setting.option
        ))),
    }
}

fn delegate_hint(controller: &str) -> String {
    format!(
        "as root, put `[Service]` and `Delegate=cpu cpuset io memory pids` into \
         /etc/systemd/system/user@.service.d/delegate.conf, run `systemctl daemon-reload`, and log \
         in again (the kernel needs {controller} on cgroup v2)"
    )
}

fn controllers(settings: &[Setting]) -> Vec<&str> {
    let mut names: Vec<_> = settings.iter().map(Setting::controller).collect();
    names.retain(|name| *name != "cgroup");
    names.sort_unstable();
    names.dedup();
    names
}

fn make(parent: &Path, name: &str, controllers: &[&str]) -> Result<Cgroup, Error> {
    let enabled = fs::read_to_string(parent.join("cgroup.subtree_control")).unwrap_or_default();
    for controller in controllers {
        if enabled.split_ascii_whitespace().any(|on| on == *controller) {
            continue;
        }
        write_file(
            &parent.join("cgroup.subtree_control"),
            &format!("+{controller}"),
        )
        .map_err(|_| {
            Error::Spec(format!(
                "the {controller} controller is not delegated to this user; {}",
                delegate_hint(controller)
            ))
        })?;
    }
    let path = parent.join(name);
    fs::create_dir(&path).map_err(Error::io(format!("create cgroup {}", path.display())))?;
    Cgroup::at(path.clone()).map_err(Error::io(format!("open cgroup {}", path.display())))
}

/// cgroup files take one write(2) and no truncation.
fn write_file(path: &Path, value: &str) -> io::Result<()> {
    fs::OpenOptions::new()
        .write(true)
        .open(path)?
        .write_all(value.as_bytes())
}

/// Where the calling process is in the cgroup v2 tree.
struct Place {
    mount: PathBuf,
    own: PathBuf,
}

impl Place {
    fn of_this_process() -> Option<Self> {
        let mount = Self::mount()?;
        let text = fs::read_to_string("/proc/self/cgroup").ok()?;
        let path = text.lines().find_map(|line| line.strip_prefix("0::"))?;
        // A process of an outer cgroup namespace shows paths that begin with /../.
        if path.split('/').any(|part| part == "..") {
            return None;
        }
        Some(Self {
            own: mount.join(path.trim_start_matches('/')),
            mount,
        })
    }

    /// The mount point of cgroup v2.
    fn mount() -> Option<PathBuf> {
        // The usual place first: the mount table of a busy desktop is long.
        let usual = Path::new("/sys/fs/cgroup");
        if usual.join("cgroup.controllers").exists() {
            return Some(usual.to_owned());
        }
        let table = fs::read_to_string("/proc/self/mountinfo").ok()?;
        table.lines().find_map(|line| {
            let (before, after) = line.split_once(" - ")?;
            after
                .starts_with("cgroup2 ")
                .then(|| PathBuf::from(before.split(' ').nth(4).unwrap_or_default()))
        })
    }

    /// The process's cgroup and those above it, as far as this user may make cgroups there and move
    /// processes there.
    fn writable_ancestors(&self) -> impl Iterator<Item = PathBuf> {
        let mount = self.mount.clone();
        self.own
            .ancestors()
            .take_while(move |path| path.starts_with(&mount))
            .filter(|path| {
                access(*path, Access::WRITE_OK).is_ok()
                    && access(path.join("cgroup.procs"), Access::WRITE_OK).is_ok()
            })
            .map(Path::to_owned)
            .collect::<Vec<_>>()
            .into_iter()
    }
}
