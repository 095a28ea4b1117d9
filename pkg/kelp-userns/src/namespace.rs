//! Making a user namespace with a map.

use std::ffi::CString;
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use kelp_sys::clone::{Child, CloneFlags, clone3};
use kelp_sys::exec::CStringArray;
use kelp_sys::process::{Exit, wait_pidfd};
use kelp_sys::spawn::{Begun, Spawn};
use rustix::event::pause;
use rustix::fs::{Mode, OFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Pid, Signal, geteuid, getppid, pidfd_send_signal, set_parent_process_death_signal,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::error::{Error, forbidden};
use crate::map::{IdMap, IdMapping, lines, parse_lines};
use crate::own;

/// A user namespace held by a descriptor.
#[derive(Debug)]
pub struct UserNamespace {
    fd: OwnedFd,
    map: IdMap,
}

impl UserNamespace {
    /// Makes a namespace with this map.
    ///
    /// A child is cloned into it, waits while its map is written from outside, and ends; the
    /// descriptor keeps the namespace. newuidmap and newgidmap run side by side.
    pub fn create(map: IdMap) -> Result<Self, Error> {
        Self::begin(map)?.finish()
    }

    /// Begins to make one; newuidmap and newgidmap run while the caller does other work.
    pub fn begin(map: IdMap) -> Result<Making, Error> {
        map.validate()?;
        let parent = rustix::process::getpid();
        let child = clone3(CloneFlags::NEWUSER, None, || {
            // The signal is set first and the parent looked at second, so that a parent killed in
            // between is noticed by one of the two.
            let _ = set_parent_process_death_signal(Some(Signal::KILL));
            while getppid() == Some(parent) {
                pause();
            }
            0
        })
        .map_err(|error| forbidden(&error))?;
        let placeholder = Placeholder(child);
        let writing = Writing::begin(placeholder.0.pid, &map)?;
        Ok(Making {
            writing,
            placeholder,
            map,
        })
    }

    /// Begins to make one with a map as this crate has them where the process is in a namespace of its
    /// own ([`own`]).
    pub(crate) fn begin_beneath(map: IdMap) -> Result<Making, Error> {
        let making = Self::begin(own::inner(&map)?)?;
        Ok(Making { map, ..making })
    }

    /// Opens the namespace of a file, such as `/proc/PID/ns/user`. It may be the process's own where that
    /// is one in which the user is root ([`own`]).
    ///
    /// # Errors
    /// [`Error::Map`] if it is no user namespace, or one that a process of this user's can't enter.
    pub fn at(path: &Path) -> Result<Self, Error> {
        let what = || format!("open user namespace {}", path.display());
        let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|e| Error::io(what())(e.into()))?;
        let owner = kelp_sys::namespace::owner_uid(fd.as_fd())
            .map_err(|_| Error::Map(format!("{} is no user namespace", path.display())))?;
        if let Some(map) = own::map()
            && kelp_sys::namespace::is_own(fd.as_fd()).map_err(Error::io(what()))?
        {
            let map = map.clone();
            return Ok(Self { fd, map });
        }
        if owner != geteuid().as_raw() || depth_beneath_own(fd.as_fd()).is_none() {
            return Err(Error::Map(format!(
                "{} is not a user namespace that this user made from its own",
                path.display()
            )));
        }
        let map = own::outer(&map_of(fd.as_fd())?);
        Ok(Self { fd, map })
    }

    pub(crate) fn from_parts(fd: OwnedFd, map: IdMap) -> Self {
        Self { fd, map }
    }

    /// Its id map.
    pub fn map(&self) -> &IdMap {
        &self.map
    }
}

/// A namespace whose map is being written.
#[derive(Debug)]
pub struct Making {
    /// Dropped, and so waited for, before the process whose map is written.
    writing: Writing,
    placeholder: Placeholder,
    map: IdMap,
}

impl Making {
    /// Waits until the map is there.
    pub fn finish(self) -> Result<UserNamespace, Error> {
        self.writing.finish()?;
        Ok(UserNamespace {
            fd: open_namespace(self.placeholder.0.pid)?,
            map: self.map,
        })
    }
}

impl AsFd for UserNamespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[derive(Debug)]
/// The waiting child; killed and reaped when it is no longer needed, whatever happens.
struct Placeholder(Child);

impl Drop for Placeholder {
    fn drop(&mut self) {
        let _ = pidfd_send_signal(&self.0.pidfd, Signal::KILL);
        let _ = wait_pidfd(self.0.pidfd.as_fd());
    }
}

/// How far beneath the calling process's own a namespace is: 1 for one that was made there; `None` for one
/// that is elsewhere.
pub(crate) fn depth_beneath_own(namespace: BorrowedFd<'_>) -> Option<usize> {
    let mut parent = kelp_sys::namespace::parent(namespace);
    for depth in 1.. {
        let above = parent.ok()?;
        if kelp_sys::namespace::is_own(above.as_fd()).unwrap_or(false) {
            return Some(depth);
        }
        parent = kelp_sys::namespace::parent(above.as_fd());
    }
    None
}

/// The map of a namespace, as the caller's namespace counts: that of a process which enters it.
fn map_of(namespace: BorrowedFd<'_>) -> Result<IdMap, Error> {
    let (read, write) =
        pipe_with(PipeFlags::CLOEXEC).map_err(|e| Error::io("make a pipe")(e.into()))?;
    let parent = rustix::process::getpid();
    let child = clone3(CloneFlags::empty(), None, || {
        let _ = set_parent_process_death_signal(Some(Signal::KILL));
        let kind = Some(LinkNameSpaceType::User);
        if move_into_link_name_space(namespace, kind).is_err() {
            return 1;
        }
        let _ = rustix::io::write(&write, b"!");
        while getppid() == Some(parent) {
            pause();
        }
        0
    })
    .map_err(|error| forbidden(&error))?;
    drop(write);
    let inside = Placeholder(child);
    let mut said = [0; 1];
    let entered = fs::File::from(read).read(&mut said);
    if !matches!(entered, Ok(1)) {
        return Err(Error::Map("the user namespace can't be entered".to_owned()));
    }
    let side = |name: &str| {
        let path = format!("/proc/{}/{name}", inside.0.pid.as_raw_nonzero());
        let text = fs::read_to_string(&path).map_err(Error::io(format!("read {path}")))?;
        parse_lines(&text).ok_or_else(|| Error::Map(format!("{path} is no id map")))
    };
    let map = IdMap {
        uids: side("uid_map")?,
        gids: side("gid_map")?,
    };
    map.validate()?;
    Ok(map)
}

fn open_namespace(pid: Pid) -> Result<OwnedFd, Error> {
    let path = format!("/proc/{}/ns/user", pid.as_raw_nonzero());
    rustix::fs::open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Error::io(format!("open {path}"))(e.into()))
}

/// The map of a process in a new namespace, which is being written.
#[derive(Debug)]
pub struct Writing(Vec<Newidmap>);

impl Writing {
    /// Writes the map of a process, which has to be there until this is done, or starts the programs that may.
    pub fn begin(pid: Pid, map: &IdMap) -> Result<Self, Error> {
        let number = pid.as_raw_nonzero();
        let is_single = map.is_single() && map.gids.len() == 1 && map.gids[0].size == 1;
        if !is_single && !geteuid().is_root() {
            let uids = start_newidmap("newuidmap", pid, &map.uids)?;
            let gids = start_newidmap("newgidmap", pid, &map.gids)?;
            return Ok(Self(vec![uids, gids]));
        }
        if !geteuid().is_root() {
            // One's own ids need no privilege, once setgroups(2) is given up (user_namespaces(7)).
            let setgroups = format!("/proc/{number}/setgroups");
            fs::write(&setgroups, "deny").map_err(Error::io(format!("write {setgroups}")))?;
        }
        write_map(&format!("/proc/{number}/uid_map"), &map.uids)?;
        write_map(&format!("/proc/{number}/gid_map"), &map.gids)?;
        Ok(Self(Vec::new()))
    }

    /// Waits until the map is there.
    pub fn finish(mut self) -> Result<(), Error> {
        self.0.iter_mut().try_for_each(Newidmap::finish)
    }
}

fn write_map(path: &str, map: &[IdMapping]) -> Result<(), Error> {
    // One write(2): the kernel takes a map once and whole.
    fs::write(path, lines(map)).map_err(Error::io(format!("write {path}")))
}

/// A running newuidmap or newgidmap.
#[derive(Debug)]
struct Newidmap {
    name: &'static str,
    program: PathBuf,
    begun: Option<Begun>,
    output: fs::File,
}

fn start_newidmap(name: &'static str, pid: Pid, map: &[IdMapping]) -> Result<Newidmap, Error> {
    let program = find_program(name).ok_or_else(|| {
        Error::Newidmap(format!(
            "{name} is not installed; it maps the ids of /etc/subuid and /etc/subgid \
             (Debian and Ubuntu: apt install uidmap; Fedora: dnf install shadow-utils)"
        ))
    })?;
    let mut argv = vec![cstring(name), cstring(&pid.as_raw_nonzero().to_string())];
    for line in map {
        for number in [line.container, line.host, line.size] {
            argv.push(cstring(&number.to_string()));
        }
    }
    let (read, write) =
        pipe_with(PipeFlags::CLOEXEC).map_err(|e| Error::io("make a pipe")(e.into()))?;
    let spawn = Spawn {
        program: cstring(&program.to_string_lossy()),
        argv: CStringArray::new(argv),
        envp: CStringArray::new(Vec::new()),
        fds: vec![(write.as_fd(), 1), (write.as_fd(), 2)],
        userns: None,
        session: false,
        death_signal: None,
    };
    let begun = spawn
        .begin()
        .map_err(Error::io(format!("run {}", program.display())))?;
    Ok(Newidmap {
        name,
        program,
        begun: Some(begun),
        output: read.into(),
    })
}

impl Newidmap {
    fn finish(&mut self) -> Result<(), Error> {
        let Some(begun) = self.begun.take() else {
            return Ok(());
        };
        let child = begun
            .executed()
            .map_err(Error::io(format!("run {}", self.program.display())))?;
        let exit = wait_pidfd(child.pidfd.as_fd())
            .map_err(Error::io(format!("wait for {}", self.name)))?;
        if exit == Exit::Code(0) {
            return Ok(());
        }
        let mut said = String::new();
        let _ = (&mut self.output).take(4096).read_to_string(&mut said);
        let said = said.trim().lines().next_back().unwrap_or_default();
        Err(Error::Newidmap(explain_newidmap(self.name, said)))
    }
}

impl Drop for Newidmap {
    fn drop(&mut self) {
        // It is root's, so that it can't be killed, and it ends by itself.
        let _ = self.finish();
    }
}

fn explain_newidmap(name: &str, said: &str) -> String {
    let file = if name == "newuidmap" {
        "/etc/subuid"
    } else {
        "/etc/subgid"
    };
    if said.contains("Operation not permitted") || said.contains("not owned") {
        return format!(
            "{name} may not write the map ({said}): it must be setuid root or have its file \
             capability (chmod u+s, or setcap cap_setuid,cap_setgid+ep)"
        );
    }
    format!("{name} refused the map ({said}): check this user's line in {file}")
}

fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/sbin"];
    std::env::split_paths(&path)
        .chain(usual.iter().map(PathBuf::from))
        .map(|directory| directory.join(name))
        .find(|file| {
            rustix::fs::access(file, rustix::fs::Access::EXEC_OK).is_ok() && file.is_file()
        })
}

fn cstring(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}

/// Whether a namespace can be made at all: `Err` names what forbids it.
pub fn probe() -> Result<(), Error> {
    let child = clone3(CloneFlags::NEWUSER, None, || 0).map_err(|error| forbidden(&error))?;
    match wait_pidfd(child.pidfd.as_fd()) {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::io("wait for a child")(error)),
    }
}

/// For `doctor`: where a program is, as [`UserNamespace::create`] would find it.
pub fn newidmap_program(name: &str) -> io::Result<PathBuf> {
    find_program(name).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
}
