//! `kelp internal monitor`: the process itself.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::SystemTime;

use kelp_state::file::Durability;
use kelp_state::{ContainerId, ExitRecord, Paths, Record, RunRecord, file, liveness, record};
use rustix::net::{
    AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType, bind, listen, socket_with,
};
use rustix::process::DumpableBehavior;

use crate::error::Error;
use crate::finish::{self, exit_record, finish, note, write_pid_file};
use crate::launch::Launch;
use crate::log::LogWriter;
use crate::place;
use crate::protocol::{FailureKind, Reply, Request, Streams, receive, send};
use crate::start::{Running, start};
use crate::watch::Watch;

/// The descriptor of the starter's socket.
pub const SOCKET: i32 = 3;

/// The name of the monitor's socket in the container's runtime directory.
pub const SOCKET_NAME: &str = "sock";

/// Watches the container `id`: the whole life of the process. Failures go to the starter.
pub fn run(paths: &Paths, id: ContainerId) -> i32 {
    // It has every capability in the user namespace: nothing in a container may look into it.
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    let Ok(starter) = kelp_sys::fd::inherited(SOCKET) else {
        return 125;
    };
    let record = Record::new(paths, id);
    let Ok(Some((Request::Start(streams), fds))) =
        receive::<Request>(starter.as_fd(), RecvFlags::empty())
    else {
        return 125;
    };
    match watch(paths, &record, &starter, streams, fds) {
        Ok(code) => code,
        Err(error) => {
            let _ = send(
                starter.as_fd(),
                &Reply::Failed {
                    kind: failure_kind(&error),
                    text: one_line(&error),
                },
                &[],
            );
            125
        }
    }
}

fn watch(
    paths: &Paths,
    record: &Record,
    starter: &OwnedFd,
    streams: Streams,
    fds: Vec<OwnedFd>,
) -> Result<i32, Error> {
    let Some(alive) = liveness::claim(&record.runtime)? else {
        return Err(Error::Failed {
            kind: FailureKind::Setup,
            text: format!("container {} has just been started", record.id.short()),
        });
    };
    let Some(launch) = file::read_json::<Launch>(&record.data.join("launch.json"))? else {
        // It was removed between its starter's look and the lock, which has made the directory.
        let _ = std::fs::remove_dir_all(&record.runtime);
        return Err(kelp_state::Error::NotFound(record.id.to_string()).into());
    };
    record.begin(if launch.remove {
        Durability::None
    } else {
        Durability::Synced
    })?;
    place::clear(record);
    place::note(record)?;
    let _registration =
        kelp_userns::shared::register(&paths.runtime, &launch.map_key, std::process::id())?;
    let log = LogWriter::open(&launch.log)
        .map_err(Error::io(format!("open log {}", launch.log.path.display())))?;
    let listener = listener(&record.runtime)?;
    let started = SystemTime::now();
    let running = match start_container(record, &launch, streams.size) {
        Ok(running) => running,
        Err(error) => {
            let code = match failure_kind(&error) {
                FailureKind::Setup => 125,
                FailureKind::NotExecutable => 126,
                FailureKind::NotFound => 127,
            };
            let exit = exit_record(code, false, None, &one_line(&error));
            finish::empty(&finish(paths, record, &launch, &exit, None));
            return Err(error);
        }
    };
    let run = write_run(record, &launch, &running, started)?;
    let pid = run.pid;
    // Here and not by the starter: it must come before the end.
    note(paths, record, &launch, &launch.name, "start", None);
    let mut watch = Watch::new(running, log, record, run, listener);
    let kept = starter
        .try_clone()
        .map_err(Error::io("copy a descriptor"))?;
    watch.adopt(kept, streams, fds);
    let _ = send(starter.as_fd(), &Reply::Started { pid }, &[]);
    // The plan and its texts are not needed again.
    kelp_sys::process::trim_heap();
    let exit = watch.run().map_err(Error::io("watch the container"))?;
    let (running, clients) = watch.into_parts();
    let oom = running
        .cgroup
        .as_ref()
        .is_some_and(|cgroup| cgroup.oom_kills() > 0);
    let exit: ExitRecord = exit_record(exit.code(), oom, Some(started), "");
    // Its ports are free before anybody is told of the end.
    let _ = running.network.tear_down();
    let trash = finish(paths, record, &launch, &exit, running.cgroup.as_ref());
    drop(alive);
    for client in clients {
        let _ = send(client.as_fd(), &Reply::Exited { code: exit.code }, &[]);
    }
    finish::empty(&trash);
    Ok(0)
}

fn start_container(
    record: &Record,
    launch: &Launch,
    size: Option<(u16, u16)>,
) -> Result<Running, Error> {
    // The overlay has its scratch directory open by the time the root is attached over it.
    let attach = record.data.join("work");
    start(launch, &place::cgroup_name(record), &attach, size)
}

fn write_run(
    record: &Record,
    launch: &Launch,
    running: &Running,
    started: SystemTime,
) -> Result<RunRecord, Error> {
    let pid = running.child.pid.as_raw_nonzero().get().unsigned_abs();
    let run = RunRecord {
        pid,
        start_time: record::start_time(pid).unwrap_or(0),
        monitor: std::process::id(),
        boot_id: record::boot_id(),
        started,
        cgroup: running
            .cgroup
            .as_ref()
            .map(kelp_runtime::cgroup::Cgroup::relative_path)
            .unwrap_or_default(),
        paused: false,
    };
    record.write_run(&run)?;
    if let Some(path) = &launch.pid_file {
        write_pid_file(path, pid).map_err(Error::io(format!("write {}", path.display())))?;
    }
    if let Some(path) = &launch.monitor_pid_file {
        write_pid_file(path, run.monitor)
            .map_err(Error::io(format!("write {}", path.display())))?;
    }
    Ok(run)
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

fn failure_kind(error: &Error) -> FailureKind {
    use kelp_runtime::Error as Runtime;
    match error {
        Error::Runtime(Runtime::ProgramNotFound(_)) => FailureKind::NotFound,
        Error::Runtime(Runtime::ProgramNotExecutable { .. }) => FailureKind::NotExecutable,
        _ => FailureKind::Setup,
    }
}

/// The error and its causes in one line.
fn one_line(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text.replace('\n', " ")
}
