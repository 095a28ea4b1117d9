//! `create`: everything but the program.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use kelp_runtime::launch::{Stdio, Surroundings, launch};
use kelp_runtime::plan::{Extras, Plan, Rootfs};
use kelp_state::file;
use kelp_state::record::start_time;
use kelp_userns::UserNamespace;
use rustix::fs::{Mode, OFlags, open};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};
use rustix::process::geteuid;

use crate::bundle::{self, Bundle};
use crate::cgroup::{self, Place};
use crate::console::ConsoleSocket;
use crate::error::Error;
use crate::hooks;
use crate::record::{self, Container, GATE, Record, Status};
use crate::root::Root;

/// How to create.
#[derive(Debug, Default)]
pub struct Options {
    /// The bundle's directory.
    pub bundle: PathBuf,
    /// Where the outer end of the terminal goes.
    pub console: Option<ConsoleSocket>,
    /// A file that gets the number of the first process.
    pub pid_file: Option<PathBuf>,
    /// How many descriptors after standard error the program gets.
    pub preserved_fds: i32,
    /// Whether cgroups are systemd's.
    pub systemd: bool,
    /// The time, as RFC 3339 has it.
    pub now: String,
}

/// What is taken back where a step fails.
struct Undo<'a> {
    directory: &'a Path,
    place: Place,
    is_done: bool,
}

impl Drop for Undo<'_> {
    fn drop(&mut self) {
        if self.is_done {
            return;
        }
        if let Some(cgroup) = &self.place.cgroup {
            cgroup.remove();
        }
        let _ = fs::remove_dir_all(self.directory);
    }
}

impl Root {
    /// Makes a container that waits to be started.
    pub fn create(&self, id: &str, options: &Options) -> Result<Container, Error> {
        let directory = self.directory(id)?;
        let Bundle {
            directory: bundle,
            spec,
            rootfs,
        } = Bundle::open(&options.bundle)?;
        let terminal = spec
            .process()
            .as_ref()
            .and_then(oci_spec::runtime::Process::terminal);
        match (&options.console, terminal.unwrap_or(false)) {
            (None, true) => {
                return Err(Error::Invalid(
                    "process.terminal needs --console-socket: somebody has to have the terminal"
                        .to_owned(),
                ));
            }
            (Some(_), false) => {
                return Err(Error::Invalid(
                    "--console-socket is given and process.terminal is false".to_owned(),
                ));
            }
            _ => {}
        }
        match fs::DirBuilder::new().mode(0o700).create(&directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(Error::Exists(id.to_owned()));
            }
            made => made.map_err(Error::io(format!("make {}", directory.display())))?,
        }
        let mut undo = Undo {
            directory: &directory,
            place: Place::default(),
            is_done: false,
        };
        let _lock = record::lock(&directory)?;
        let attach = directory.join("root");
        fs::create_dir(&attach).map_err(Error::io(format!("make {}", attach.display())))?;
        let extras = Extras {
            set_home: true,
            preserved_fds: options.preserved_fds,
            ..Extras::default()
        };
        let (joined, map) = bundle::user_namespace(&spec)?;
        let plan = Plan::new(&spec, Rootfs::Directory(rootfs.clone()), &attach, extras)?;
        let made = map.map(UserNamespace::create).transpose()?;
        let joined = joined.map(|path| {
            open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .map_err(Error::io(format!("open user namespace {}", path.display())))
        });
        let joined = joined.transpose()?;
        let user = made.as_ref().map(AsFd::as_fd);
        undo.place = cgroup::make(id, &spec, options.systemd)?;
        let place = &undo.place;
        let gate = gate(&directory)?;
        let around = Surroundings {
            stdio: terminal.is_none_or(|terminal| !terminal).then(own_streams),
            cgroup: place.cgroup.as_ref().map(AsFd::as_fd),
            user: user.or(joined.as_ref().map(AsFd::as_fd)),
            gate: Some(gate.as_fd()),
        };
        let mut starting = launch(&plan, around)?;
        let pid = starting.child.pid.as_raw_nonzero().get();
        if let (Some(console), Some(terminal)) = (&options.console, starting.terminal.take()) {
            console.give(&terminal)?;
        }
        let container = Container {
            id: id.to_owned(),
            record: Record {
                bundle,
                pid,
                start_time: start_time(pid.cast_unsigned()).unwrap_or(0),
                created: options.now.clone(),
                owner: geteuid().as_raw(),
                rootfs,
                cgroup: place
                    .cgroup
                    .as_ref()
                    .map(kelp_runtime::cgroup::Cgroup::relative_path)
                    .unwrap_or_default(),
                scope: place.scope.clone(),
            },
            directory: directory.clone(),
        };
        let state = container.state_as(&spec, Status::Created);
        let hooks = spec.hooks().as_ref();
        let prestart = hooks.and_then(|hooks| hooks.prestart().as_ref());
        hooks::run("prestart", prestart, &state)?;
        let create_runtime = hooks.and_then(|hooks| hooks.create_runtime().as_ref());
        hooks::run("createRuntime", create_runtime, &state)?;
        // Once it is at its gate it lives without this process.
        let held = starting.held()?;
        let written = container
            .write(&spec)
            .and_then(|()| match &options.pid_file {
                Some(path) => Ok(file::write_pid(path, pid.cast_unsigned())?),
                None => Ok(()),
            });
        if let Err(error) = written {
            drop(kelp_runtime::launch::Guarded::new(held));
            return Err(error);
        }
        undo.is_done = true;
        Ok(container)
    }
}

/// Binds the socket at which the container waits, by a name that is never too long (unix(7)).
fn gate(directory: &Path) -> Result<OwnedFd, Error> {
    let what = || format!("listen in {}", directory.display());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let at = open(directory, flags, Mode::empty()).map_err(Error::io(what()))?;
    let socket = socket(SocketType::SEQPACKET).map_err(Error::io(what()))?;
    bind(&socket, &gate_address(at.as_fd())?).map_err(Error::io(what()))?;
    listen(&socket, 4).map_err(Error::io(what()))?;
    Ok(socket)
}

/// A socket in the file system's name space.
pub(crate) fn socket(kind: SocketType) -> Result<OwnedFd, rustix::io::Errno> {
    socket_with(AddressFamily::UNIX, kind, SocketFlags::CLOEXEC, None)
}

/// The address of the gate in an open directory.
pub(crate) fn gate_address(directory: BorrowedFd<'_>) -> Result<SocketAddrUnix, Error> {
    let number = kelp_sys::spawn::number(directory);
    SocketAddrUnix::new(format!("/proc/self/fd/{number}/{GATE}"))
        .map_err(Error::io("name the gate"))
}

pub(crate) fn own_streams() -> Stdio<'static> {
    Stdio {
        stdin: rustix::stdio::stdin(),
        stdout: rustix::stdio::stdout(),
        stderr: rustix::stdio::stderr(),
    }
}
