//! cgroup v2: where a container's cgroup can be, making it, and emptying it.
//!
//! Invariant: an explicit limit is in force or an error that says what to change; without one, a
//! host that delegates nothing is no obstacle (cgroup-v2.rst, "Delegation").

mod change;
mod oom;

pub use change::Undo;
pub use oom::OomKills;

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
    /// Whether it is in a scope of systemd's that is the container's alone.
    in_scope: bool,
}

/// How long processes are waited for: one that hangs in the kernel must not hold up its user for ever.
const PATIENCE: Duration = Duration::from_secs(5);

/// The cgroup for processes that are in the way of a container's beside it.
const SUPERVISOR: &str = "supervisor";

/// The same as a path below the parent's.
const IN_SUPERVISOR: &str = "/supervisor";

/// What the user has to change so that limits can be set.
pub(crate) const HINT: &str = "this session has no delegated cgroup: start kelp in a systemd user session, \
                    or in a unit with Delegate=yes (for a login shell: `systemd-run --user --scope \
                    -p Delegate=yes SHELL`)";

/// Where a container's cgroup is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parent {
    /// The nearest cgroup, from the caller's own upwards, that this user may divide.
    Nearest,
    /// This one; its path below the mount of cgroup v2. It is made if it is missing.
    At(String),
}

impl Cgroup {
    /// Makes a cgroup named `name`, and sets `settings`; `None` where there is no place for it and no
    /// setting.
    pub fn create(
        parent: &Parent,
        name: &str,
        settings: &[Setting],
    ) -> Result<Option<Self>, Error> {
        let controllers = controllers(settings);
        let Some(place) = Place::of_this_process() else {
            return no_place(settings);
        };
        let parents = match parent {
            Parent::Nearest => place.writable_ancestors(),
            Parent::At(path) => {
                let path = place.mount.join(path.trim_start_matches('/'));
                fs::create_dir_all(&path).map_err(not_writable("create", &path))?;
                vec![path]
            }
        };
        let mut refused = None;
        for parent in parents {
            match make(&parent, name, &controllers) {
                Ok(cgroup) => {
                    cgroup.apply(settings).inspect_err(|_| cgroup.remove())?;
                    return Ok(Some(cgroup));
                }
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        match refused {
            Some(error) if !settings.is_empty() || *parent != Parent::Nearest => Err(error),
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
        let parent = path.parent().and_then(Path::file_name).unwrap_or_default();
        let parent = parent.as_encoded_bytes();
        // As a monitor names it.
        let in_scope = parent.starts_with(b"kelp-") && parent.ends_with(b".scope");
        Ok(Self {
            path,
            directory,
            in_scope,
        })
    }

    /// Its path below the cgroup v2 mount, as /proc/<pid>/cgroup shows it.
    pub fn relative_path(&self) -> String {
        let mount = Place::mount().unwrap_or_default();
        let relative = self.path.strip_prefix(&mount).unwrap_or(&self.path);
        format!("/{}", relative.display())
    }

    /// Whether the calling process may move processes into it, if it may move them away from where they are.
    pub fn is_writable(&self) -> bool {
        access(self.path.join("cgroup.procs"), Access::WRITE_OK).is_ok()
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

    /// Freezes every process in it, and returns once that is done, or thaws them. Where one can't be frozen, all are
    /// thawed again.
    pub fn freeze(&self, frozen: bool) -> io::Result<()> {
        let file = self.path.join("cgroup.freeze");
        write_file(&file, if frozen { "1" } else { "0" })?;
        if frozen && !self.wait_for("frozen 1", PATIENCE) {
            write_file(&file, "0")?;
            let text = "a process in it hangs in the kernel and can't be frozen";
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        Ok(())
    }

    /// Whether its processes are frozen, or about to be.
    pub fn is_frozen(&self) -> bool {
        fs::read(self.path.join("cgroup.freeze")).is_ok_and(|text| text.starts_with(b"1"))
    }

    /// Kills every process in it (Linux 5.14).
    pub fn kill(&self) -> io::Result<()> {
        write_file(&self.path.join("cgroup.kill"), "1")
    }

    /// The same, in a scope of systemd's that is the container's alone.
    #[must_use]
    pub fn in_scope(self) -> Self {
        Self {
            in_scope: true,
            ..self
        }
    }

    /// Where one of its counters is kept. A scope that is the container's alone has the controllers that
    /// nothing has asked for below it; a monitor counts there as well.
    pub fn counter(&self, name: &str) -> PathBuf {
        let own = self.path.join(name);
        let scope = self
            .path
            .parent()
            .filter(|_| self.in_scope && !own.exists());
        scope.map_or(own, |scope| scope.join(name))
    }

    /// Whether its processes, which were killed, have ended before this time has passed.
    pub fn empties_within(&self, time: Duration) -> bool {
        self.wait_for("populated 0", time) || !self.path.exists()
    }

    /// Waits until its `cgroup.events` say this; whether they did in time. The kernel tells a change since the file was
    /// last read by a priority event (cgroup-v2.rst, "populated").
    fn wait_for(&self, event: &str, time: Duration) -> bool {
        let Ok(events) = fs::File::open(self.path.join("cgroup.events")) else {
            return false;
        };
        let deadline = Instant::now() + time;
        let mut text = [0; 256];
        while let Ok(length) = events.read_at(&mut text, 0) {
            let mut lines = text[..length].split(|&byte| byte == b'\n');
            if lines.any(|line| line == event.as_bytes()) {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let timeout = Timespec {
                tv_sec: left.as_secs() as i64,
                tv_nsec: i64::from(left.subsec_nanos()),
            };
            let _ = poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&timeout));
        }
        false
    }

    /// Removes it and what the container made below it; the processes have ended.
    pub fn remove(&self) {
        if fs::remove_dir(&self.path).is_err() {
            let _ = self.kill();
            let _ = self.wait_for("populated 0", PATIENCE);
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
        Some(setting) => Err(refusal(setting)),
    }
}

/// Says that a limit can't be set where there is no cgroup, and how to get one.
pub fn refusal(setting: &Setting) -> Error {
    Error::Spec(format!("{} can't be set: {HINT}", setting.option))
}

/// The error of a cgroup that is not this user's to divide, with what to do about it.
fn not_writable(verb: &str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let what = format!("{verb} cgroup {}", path.display());
    move |error| match error.kind() {
        io::ErrorKind::PermissionDenied => Error::Spec(format!(
            "{what}: it is not in a cgroup that is delegated to this user; {HINT}"
        )),
        _ => Error::io(what)(error),
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
    hand_out(parent, controllers)?;
    let path = parent.join(name);
    match fs::create_dir(&path) {
        // Somebody has made it for this container, with limits of their own perhaps.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => check_free(&path)?,
        made => made.map_err(not_writable("create", &path))?,
    }
    Cgroup::at(path.clone()).map_err(Error::io(format!("open cgroup {}", path.display())))
}

/// Refuses a cgroup in which, or below which, there is a process: it would be taken for the container's. In one that
/// is frozen, or below such a one, the init would say nothing for ever.
fn check_free(path: &Path) -> Result<(), Error> {
    let what = || format!("read cgroup {}", path.display());
    let events = fs::read_to_string(path.join("cgroup.events")).map_err(Error::io(what()))?;
    let why = if events.starts_with("populated 1") {
        "has processes already: choose another path"
    } else if events.lines().any(|line| line == "frozen 1") {
        "is frozen: thaw it (cgroup.freeze), or choose another path"
    } else {
        return Ok(());
    };
    Err(Error::Spec(format!("cgroup {} {why}", path.display())))
}

/// Has the cgroups below `parent` get these controllers; those that they had not got before.
fn hand_out<'a>(parent: &Path, controllers: &[&'a str]) -> Result<Vec<&'a str>, Error> {
    let enabled = fs::read_to_string(parent.join("cgroup.subtree_control")).unwrap_or_default();
    let enabled: Vec<_> = enabled.split_ascii_whitespace().collect();
    let mut wanted = controllers.to_vec();
    wanted.retain(|name| !enabled.contains(name));
    if wanted.is_empty() {
        return Ok(wanted);
    }
    let list = fs::read_to_string(parent.join("cgroup.controllers")).unwrap_or_default();
    let here = |name: &&&str| !list.split_ascii_whitespace().any(|has| has == **name);
    if let Some(missing) = wanted.iter().find(here) {
        return Err(Error::Spec(format!(
            "the {missing} controller is not delegated to this user; {}",
            delegate_hint(missing)
        )));
    }
    if !may_have_processes(parent) {
        make_room(parent)?;
    }
    // At once: the kernel hands out all of them, or none.
    let words: Vec<_> = wanted.iter().map(|name| format!("+{name}")).collect();
    write_file(&parent.join("cgroup.subtree_control"), &words.join(" ")).map_err(|_| {
        Error::Spec(format!(
            "the {} controller is not delegated to this user; {}",
            wanted.join(" or "),
            delegate_hint(wanted[0])
        ))
    })?;
    Ok(wanted)
}

/// Whether a cgroup may have processes and hand out controllers as well: the machine's root, which has no type
/// (cgroup-v2.rst, "No Internal Process Constraint").
pub(crate) fn may_have_processes(path: &Path) -> bool {
    !path.join("cgroup.type").exists()
}

/// Moves the processes of a cgroup into one below it, because a cgroup that hands out controllers may
/// have none of its own (cgroup-v2.rst, "No Internal Process Constraint"). For the controllers that
/// can be threaded the kernel would let it pass, and then refuse processes below.
pub fn make_room(parent: &Path) -> Result<(), Error> {
    let below = parent.join(SUPERVISOR);
    let what = || {
        format!(
            "move the processes of cgroup {} out of the way",
            parent.display()
        )
    };
    // One that forks meanwhile leaves its child here.
    for _ in 0..10 {
        let list = fs::read_to_string(parent.join("cgroup.procs")).map_err(Error::io(what()))?;
        if list.is_empty() {
            return Ok(());
        }
        match fs::create_dir(&below) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Error::io(what())(error));
            }
            _ => {}
        }
        for pid in list.lines() {
            match write_file(&below.join("cgroup.procs"), pid) {
                // It has ended.
                Err(error)
                    if error.raw_os_error() != Some(rustix::io::Errno::SRCH.raw_os_error()) =>
                {
                    return Err(Error::io(what())(error));
                }
                _ => {}
            }
        }
    }
    Err(Error::Spec(what()))
}

/// The cgroup that the calling process is in and that the system's manager has delegated: not to the
/// user's manager, which divides its own by itself. Its path below the mount.
///
/// systemd marks it by an extended attribute (systemd's `CGROUP_DELEGATION` document).
pub fn delegated_unit() -> Option<String> {
    let place = Place::of_this_process()?;
    let unit = place
        .own
        .ancestors()
        .take_while(|path| path.starts_with(&place.mount))
        .find(|path| {
            let mut value = [0_u8; 1];
            rustix::fs::getxattr(*path, "user.delegate", &mut value[..]) == Ok(1) && value == *b"1"
        })?;
    let name = unit.file_name()?.to_str()?;
    if name.starts_with("user@") {
        return None;
    }
    let relative = unit.strip_prefix(&place.mount).ok()?;
    Some(format!("/{}", relative.display()))
}

/// The calling process's cgroup, as /proc/self/cgroup has it.
pub fn own() -> Option<String> {
    let place = Place::of_this_process()?;
    let relative = place.own.strip_prefix(&place.mount).ok()?;
    Some(format!("/{}", relative.display()))
}

/// The nearest cgroup, from the calling process's own upwards, that this user may divide.
pub fn nearest() -> Option<String> {
    let place = Place::of_this_process()?;
    let found = place.writable_ancestors();
    let relative = found.first()?.strip_prefix(&place.mount).ok()?;
    Some(format!("/{}", relative.display()))
}

/// Where in a scope a process can be that does not belong into the container's cgroup, which is `below` it.
pub fn beside(container: &str, below: &str) -> &'static str {
    let scope = container.strip_suffix(below).unwrap_or(container);
    let mount = Place::mount().unwrap_or_default();
    let supervisor = mount.join(scope.trim_start_matches('/')).join(SUPERVISOR);
    if supervisor.is_dir() {
        IN_SUPERVISOR
    } else {
        ""
    }
}

/// Whether the calling process may move itself and its children into this cgroup: it takes the right
/// to write the common ancestor's list of processes as well (cgroup-v2.rst, "Delegation
/// Containment").
pub fn may_enter(path: &str) -> bool {
    let Some(place) = Place::of_this_process() else {
        return false;
    };
    let target = place.mount.join(path.trim_start_matches('/'));
    let common = place.own.ancestors().find(|path| target.starts_with(path));
    common.is_some_and(|path| access(path.join("cgroup.procs"), Access::WRITE_OK).is_ok())
}

/// cgroup files take one write(2) and no truncation.
pub(crate) fn write_file(path: &Path, value: &str) -> io::Result<()> {
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
    fn writable_ancestors(&self) -> Vec<PathBuf> {
        self.own
            .ancestors()
            .take_while(|path| path.starts_with(&self.mount))
            // That one is beside the containers.
            .filter(|path| !path.ends_with(SUPERVISOR))
            .filter(|path| {
                access(*path, Access::WRITE_OK).is_ok()
                    && access(path.join("cgroup.procs"), Access::WRITE_OK).is_ok()
            })
            .map(Path::to_owned)
            .collect()
    }
}
