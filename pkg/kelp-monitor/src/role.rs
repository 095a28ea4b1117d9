//! `kelp internal monitor`: the process itself.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use kelp_runtime::sockets::{self, Sockets};
use kelp_state::file::Durability;
use kelp_state::liveness::Alive;
use kelp_state::{ContainerId, Paths, Record, liveness};
use kelp_sys::signal::{SignalSet, set_mask, signalfd};
use rustix::net::{
    AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};
use rustix::process::DumpableBehavior;

use crate::error::Error;
use crate::launch::LogDriver;
use crate::launch_file::LaunchFile;
use crate::life::{Life, Starter};
use crate::log::{JOURNAL, LogWriter};
use crate::notify::proxy::Proxy;
use crate::notify::{self, Notify};
use crate::place::{self, Choice};
use crate::pod::{self, Pod};
use crate::protocol::{FailureKind, Reply, Request, Streams, receive, send};
use crate::service::{self, Service};

const SIGTERM: i32 = 15;

/// What the monitor itself is started with for the program: it keeps that over every run.
#[derive(Clone, Debug, Default)]
pub struct Handed {
    /// How many descriptors from [`sockets::FIRST`] on.
    pub preserved: i32,
    /// Which of them the program is told of as sockets.
    pub sockets: Option<Sockets>,
    /// Whether the starter was asked for this container, and not for one that needs it: a service manager hears of
    /// this one.
    pub is_main: bool,
    /// In how many microseconds that one wants to hear, again and again, that the service lives. The monitor finds it
    /// in its environment.
    pub watchdog: Option<u64>,
    /// Whether the monitor was executed outside of the container's user namespace, and has entered that itself
    /// ([`enter_user`]).
    pub enters: bool,
}

impl Handed {
    /// The descriptor of the starter's socket, which comes after them.
    pub fn socket(&self) -> i32 {
        sockets::FIRST + self.preserved
    }
}

/// The name of the monitor's socket in the container's runtime directory.
pub const SOCKET_NAME: &str = "sock";

/// Enters the user namespace whose descriptor comes after the starter's socket. Its memory stays the outer one's, and
/// so does that of the container's first process before it is the program: nothing that is in the pid namespace that
/// the container joins can look into it, whatever its capabilities are. `false` where that failed, which the starter
/// is told.
pub fn enter_user(handed: &Handed) -> bool {
    // What it lets nobody see from here on.
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let entered = kelp_sys::fd::inherited(handed.socket() + 1).and_then(|user| {
        kelp_sys::namespace::enter_user(user.as_fd())?;
        kelp_sys::spawn::keep_capabilities()
    });
    let Err(error) = entered else { return true };
    if let Ok(starter) = kelp_sys::fd::inherited(handed.socket()) {
        let error = Error::io("enter the container's user namespace")(error);
        refuse(&starter, &error);
    }
    false
}

fn refuse(starter: &OwnedFd, error: &Error) {
    let reply = Reply::Failed {
        kind: failure_kind(error),
        text: kelp_runtime::error::one_line(error),
    };
    let _ = send(starter.as_fd(), &reply, &[]);
}

/// Watches the container `id`: the whole life of the process. Failures go to the starter.
pub fn run(paths: &Paths, id: ContainerId, handed: &Handed) -> i32 {
    // It has every capability in the user namespace: nothing in a container may look into it.
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let Ok(starter) = kelp_sys::fd::inherited(handed.socket()) else {
        return 125;
    };
    let record = Record::new(paths, id);
    let Ok(Some((Request::Start(streams), fds))) =
        receive::<Request>(starter.as_fd(), RecvFlags::empty())
    else {
        return 125;
    };
    let mut after = After::default();
    let code = match watch(paths, &record, &starter, (streams, fds), handed, &mut after) {
        Ok(code) => code,
        Err(error) => {
            refuse(&starter, &error);
            125
        }
    };
    // Who waits for an answer has it.
    drop(starter);
    if let Some(pod) = &after.pod {
        pod::leave(paths, pod);
    }
    if let Some(service) = &after.service {
        service::leave(paths, service);
    }
    code
}

/// Who has to know of the end.
#[derive(Default)]
struct After {
    pod: Option<Pod>,
    service: Option<Service>,
}

fn watch(
    paths: &Paths,
    record: &Record,
    starter: &OwnedFd,
    streams: (Streams, Vec<OwnedFd>),
    handed: &Handed,
    after: &mut After,
) -> Result<i32, Error> {
    let mut handed = handed.clone();
    if handed.is_main {
        handed.watchdog = notify::watchdog();
        notify::leave_starter().map_err(Error::io("leave the process that started this one"))?;
    }
    let Some(alive) = liveness::claim(&record.runtime, starter.as_fd())? else {
        return Err(Error::Failed {
            kind: FailureKind::Started,
            text: format!("container {} has just been started", record.id.short()),
        });
    };
    let Some(file) = LaunchFile::read(&record.data)? else {
        // It was removed between its starter's look and the lock, which has made the directory.
        let _ = std::fs::remove_dir_all(&record.runtime);
        return Err(kelp_state::Error::NotFound(record.id.to_string()).into());
    };
    after.pod.clone_from(&file.launch.pod);
    after.service.clone_from(&file.launch.service);
    record.begin(if file.launch.remove {
        Durability::None
    } else {
        Durability::Synced
    })?;
    let lived = live(paths, record, file, (starter, streams, handed), alive);
    if lived.is_err() {
        // What began and ended is in the exit's record; what did not has begun nothing.
        record.never_began();
    }
    lived
}

/// Gets ready for the container's life, and lives it.
fn live(
    paths: &Paths,
    record: &Record,
    file: LaunchFile,
    (starter, (streams, fds), handed): (&OwnedFd, (Streams, Vec<OwnedFd>), Handed),
    alive: Alive,
) -> Result<i32, Error> {
    let launch = &file.launch;
    place::clear(record);
    let choice = Choice::begin(record, launch, paths.session())?;
    // Nobody can open the namespace of one that has entered it.
    let registration = (!handed.enters).then(|| {
        kelp_userns::shared::register(&paths.runtime, &launch.map_key, std::process::id())
    });
    let _registration = registration.transpose()?;
    let what = match launch.log.driver {
        LogDriver::Journald => format!("connect to the journal at {JOURNAL}"),
        _ => format!("open log {}", launch.log.path.display()),
    };
    let log = LogWriter::open(launch, &record.id).map_err(Error::io(what))?;
    let listener = listener(&record.runtime)?;
    let signals = take_signals().map_err(Error::io("make a signalfd"))?;
    let proxy = (launch.notify == Some(Notify::Container))
        .then(|| Proxy::bind(&record.data, handed.is_main));
    let proxy = proxy.transpose().map_err(Error::io(
        "make the socket by which the container tells that it is ready",
    ))?;
    let socket = starter
        .try_clone()
        .map_err(Error::io("copy a descriptor"))?;
    let life = Life {
        paths,
        record,
        file,
        log,
        listener: &listener,
        signals: &signals,
        handed,
        unready: None,
        proxy,
        choice: Some(choice),
        place: None,
        restarts: 0,
        oom_killed: false,
    };
    let starter = Starter {
        socket,
        streams,
        fds,
    };
    life.live(starter, alive)
}

/// SIGTERM comes to the poll loop from here on.
fn take_signals() -> std::io::Result<OwnedFd> {
    let set = SignalSet::of(&[SIGTERM]);
    let signals = signalfd(&set)?;
    set_mask(&set);
    Ok(signals)
}

/// Binds by a name relative to the directory: the path of a socket has at most 108 bytes (unix(7)).
fn listener(runtime: &Path) -> Result<OwnedFd, Error> {
    let what = || format!("listen on {}/{SOCKET_NAME}", runtime.display());
    rustix::process::chdir(runtime).map_err(Error::io(what()))?;
    let _ = std::fs::remove_file(SOCKET_NAME);
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC | SocketFlags::NONBLOCK,
        None,
    )
    .map_err(Error::io(what()))?;
    let address = SocketAddrUnix::new(SOCKET_NAME).map_err(Error::io(what()))?;
    bind(&socket, &address).map_err(Error::io(what()))?;
    listen(&socket, 16).map_err(Error::io(what()))?;
    Ok(socket)
}

pub(crate) fn failure_kind(error: &Error) -> FailureKind {
    use kelp_runtime::Error as Runtime;
    use kelp_runtime::foreign::Refusal;
    match error {
        Error::Failed { kind, .. } => *kind,
        Error::Runtime(Runtime::Refused { refusal, .. }) => match refusal {
            Refusal::Setup => FailureKind::Setup,
            Refusal::NotFound => FailureKind::NotFound,
            Refusal::NotExecutable => FailureKind::NotExecutable,
        },
        Error::Runtime(Runtime::ProgramNotFound { .. }) => FailureKind::NotFound,
        Error::Runtime(Runtime::ProgramNotExecutable { .. }) => FailureKind::NotExecutable,
        _ => FailureKind::Setup,
    }
}
