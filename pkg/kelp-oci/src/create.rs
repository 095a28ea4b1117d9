//! `create`: everything but the program.

use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use kelp_runtime::cgroup::Cgroup;
use kelp_runtime::launch::{Stdio, Surroundings, Tie, User, launch};
use kelp_runtime::net_devices::Moved;
use kelp_runtime::plan::{Extras, Plan, Rootfs};
use kelp_runtime::resctrl::{Groups, ResctrlPlan};
use kelp_runtime::sockets::Sockets;
use kelp_state::file;
use kelp_state::record::start_time;
use kelp_userns::UserNamespace;
use oci_spec::runtime::Spec;
use rustix::fs::{Mode, OFlags, open};
use rustix::net::{
    AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};
use rustix::process::geteuid;

use crate::agent;
use crate::bundle::{self, Bundle};
use crate::cgroup::{self, Place};
use crate::console::Terminal;
use crate::error::Error;
use crate::net_devices;
use crate::record::{self, Container, GATE, Record, Status};
use crate::root::{self, Root};
use crate::start::{execute, run, run_poststop};

/// How to create.
#[derive(Debug, Default)]
pub struct Options {
    /// The bundle's directory.
    pub bundle: PathBuf,
    /// Who gets the outer end of the terminal.
    pub terminal: Terminal,
    /// A file that gets the number of the first process.
    pub pid_file: Option<PathBuf>,
    /// How many descriptors after standard error the program gets.
    pub preserved_fds: i32,
    /// Which of those are sockets that the program is told of.
    pub sockets: Option<Sockets>,
    /// Whether cgroups are systemd's.
    pub systemd: bool,
    /// The time, as RFC 3339 has it.
    pub now: String,
}

/// What is taken back where a step fails.
struct Undo<'a> {
    directory: &'a Path,
    place: Place,
    groups: Option<Groups>,
    pid_file: Option<&'a Path>,
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
        if let Some(groups) = &self.groups {
            groups.remove();
        }
        if let Some(path) = self.pid_file {
            let _ = fs::remove_file(path);
        }
        let _ = fs::remove_dir_all(self.directory);
    }
}

impl Root {
    /// Makes a container that waits to be started.
    pub fn create(&self, id: &str, options: &Options) -> Result<Container, Error> {
        self.make(id, options, true).map(|(container, _)| container)
    }

    /// Makes a container and starts it; it is not there if that fails.
    pub fn run(&self, id: &str, options: &Options) -> Result<Container, Error> {
        let (container, started) = self.make(id, options, false)?;
        if let Some(spec) = started {
            container.after_start(&spec)?;
        } else if let Err(error) = container.start() {
            let _ = container.delete(true);
            return Err(error);
        }
        Ok(container)
    }

    /// Makes a container, and what it was made from where it was started too.
    fn make(
        &self,
        id: &str,
        options: &Options,
        waits: bool,
    ) -> Result<(Container, Option<Spec>), Error> {
        let mut moved = None;
        self.make_with(id, options, waits, &mut moved)
            .map_err(|error| net_devices::put_back(moved, error))
    }

    fn make_with(
        &self,
        id: &str,
        options: &Options,
        waits: bool,
        moved: &mut Option<Moved>,
    ) -> Result<(Container, Option<Spec>), Error> {
        let directory = self.directory(id)?;
        let bundle = Bundle::open(&options.bundle)?;
        let process = bundle.spec.process().as_ref();
        let terminal = process.and_then(oci_spec::runtime::Process::terminal);
        options.terminal.check(terminal.unwrap_or(false))?;
        agent::check(&bundle.spec)?;
        let devices = net_devices::planned(&bundle.spec)?;
        let linux = bundle.spec.linux().as_ref();
        let rdt = linux.and_then(|linux| linux.intel_rdt().as_ref());
        let rdt = rdt.map(|rdt| ResctrlPlan::new(rdt, id)).transpose()?;
        match fs::DirBuilder::new().mode(0o700).create(&directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(self.taken(id));
            }
            made => made.map_err(Error::io(format!("make {}", directory.display())))?,
        }
        let lock = record::lock(&directory);
        let _lock = lock.inspect_err(|_| drop(fs::remove_dir(&directory)))?;
        // Who deletes whatever is there may have come first, and then somebody who has made one of this id.
        if self.container(id).is_ok() {
            return Err(Error::Exists(id.to_owned()));
        }
        let mut undo = Undo {
            directory: &directory,
            place: Place::default(),
            groups: None,
            pid_file: None,
            is_done: false,
        };
        let is_root = root::is_host_root();
        let (joined, map) = bundle::user_namespace(&bundle.spec)?;
        let extras = Extras {
            set_home: true,
            preserved_fds: options.preserved_fds,
            sockets: options.sockets.clone(),
            makes_devices: is_root && map.is_none() && joined.is_none(),
            makes_idmaps: is_root,
            seccomp_cache: Some(self.seccomp_cache()),
            ..Extras::default()
        };
        // Attached over itself, where hooks in the container look for it.
        let rootfs = Rootfs::Directory(bundle.rootfs.clone());
        let mut plan = Plan::new(&bundle.spec, rootfs, &bundle.rootfs, extras)?;
        // Idmapped mounts are made before the process is, and may need the namespace.
        let mut made = None;
        if plan.has_idmapped() {
            made = map.clone().map(UserNamespace::create).transpose()?;
        }
        let joined = joined.map(|path| {
            open(&path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
                .map_err(Error::io(format!("open user namespace {}", path.display())))
        });
        let joined = joined.transpose()?;
        let there = made
            .as_ref()
            .map(AsFd::as_fd)
            .or(joined.as_ref().map(AsFd::as_fd));
        plan.open_idmapped(there)?;
        undo.place = cgroup::make(id, &directory, &bundle.spec, options.systemd)?;
        let hooks = bundle.spec.hooks().as_ref();
        // Until its hooks in the container have run it counts as created, which the gate tells.
        let has_start_hooks = hooks.is_some_and(|hooks| hooks.start_container().is_some());
        let waits = waits || has_start_hooks;
        let gate = waits.then(|| gate(&directory)).transpose()?;
        undo.groups = rdt.as_ref().map(ResctrlPlan::make).transpose()?;
        let around = Surroundings {
            stdio: terminal.is_none_or(|terminal| !terminal).then(own_streams),
            cgroup: undo.place.cgroup.as_ref().map(AsFd::as_fd),
            user: there.map(User::Joined).or(map.as_ref().map(User::New)),
            tie: match &gate {
                Some(gate) => Tie::Gate(gate.as_fd()),
                None => Tie::Start,
            },
        };
        let starting = launch(&plan, around)?;
        let pid = starting.child.pid.as_raw_nonzero().get();
        let mut container = new(id, &directory, &bundle, pid, &undo, &options.now);
        // Before it lives on by itself, so that one whose maker is killed can be found.
        container.write_spec(&bundle.text)?;
        container.write_record()?;
        if let Some(groups) = &undo.groups {
            groups.add(pid)?;
        }
        net_devices::take(&devices, pid, moved)?;
        let state = |container: &Container| container.state_as(&bundle.spec, Status::Creating);
        let agent = agent::agent(&bundle.spec, pid, || state(&container));
        let held = || {
            let mut starting = starting;
            if plan.pauses() {
                let state = state(&container);
                run(
                    "prestart",
                    hooks.and_then(|hooks| hooks.prestart().as_ref()),
                    &state,
                )?;
                let list = hooks.and_then(|hooks| hooks.create_runtime().as_ref());
                run("createRuntime", list, &state)?;
                starting = starting.enter(&plan, &state.inside().to_json())?;
            }
            container.terminal = options.terminal.take(starting.terminal.take())?;
            if waits {
                starting.prepared(agent.as_ref())?;
            }
            if let Some(path) = &options.pid_file {
                file::write_pid(path, pid.cast_unsigned())?;
                undo.pid_file = Some(path);
            }
            container.record.creating = false;
            container.write_record()?;
            if waits {
                starting.held()?;
                return Ok(());
            }
            execute(starting, agent.as_ref())?.release();
            Ok(())
        };
        if let Err(error) = held() {
            drop(undo);
            let state = container.state_as(&bundle.spec, Status::Stopped);
            let _ = run_poststop(&bundle.spec, &state);
            return Err(error);
        }
        container.notes = bundle.notes;
        undo.is_done = true;
        Ok((container, (!waits).then_some(bundle.spec)))
    }

    /// Why nothing of this id can be made, where its directory is there.
    fn taken(&self, id: &str) -> Error {
        match self.container(id) {
            Err(Error::NotFound(_)) => Error::State(format!(
                "container \"{id}\" is being created, or who created it was killed: wait for that, or \
                 delete it with --force"
            )),
            _ => Error::Exists(id.to_owned()),
        }
    }
}

/// A container whose process has just been made.
fn new(
    id: &str,
    directory: &Path,
    bundle: &Bundle,
    pid: i32,
    Undo { place, groups, .. }: &Undo<'_>,
    now: &str,
) -> Container {
    let cgroup = place.cgroup.as_ref().map(Cgroup::relative_path);
    Container {
        id: id.to_owned(),
        notes: Vec::new(),
        terminal: None,
        record: Record {
            bundle: bundle.directory.clone(),
            pid,
            start_time: start_time(pid.cast_unsigned()).unwrap_or(0),
            created: now.to_owned(),
            owner: geteuid().as_raw(),
            rootfs: bundle.rootfs.clone(),
            cgroup: cgroup.unwrap_or_default(),
            scope: place.scope.clone(),
            groups: groups.clone(),
            program: program(&bundle.spec).to_owned(),
            is_plain: bundle.spec.hooks().is_none() && !agent::is_asked(&bundle.spec),
            creating: true,
        },
        directory: directory.to_owned(),
    }
}

/// The program, as the specification names it.
fn program(spec: &Spec) -> &str {
    let process = spec.process().as_ref();
    let args = process.and_then(|process| process.args().as_ref());
    args.and_then(|args| args.first())
        .map_or("", String::as_str)
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
