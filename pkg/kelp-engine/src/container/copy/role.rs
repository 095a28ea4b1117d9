//! The hidden roles `copy-out` and `copy-in`: the container's side of a copy, in a user namespace
//! with the container's ids.
//!
//! The archive goes over standard output and input. What is to be said besides it is a line of JSON
//! on a descriptor of its own: first what was found, then how it ended.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, RawFd};
use std::path::Path;

use kelp_image::tar::Entry;
use kelp_image::unpack::{Options, Ownership};
use kelp_monitor::Launch;
use kelp_runtime::rootfd::Root;
use kelp_state::liveness::{self, Offline};
use kelp_state::{ContainerId, Paths, Record, file};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::Mode;
use serde::{Deserialize, Serialize};

use super::inside::{Target, is_directory, open_source, receive, send};
use super::place::Source;
use crate::{Engine, Error, Kind};

/// The root of a running container.
pub(super) const ROOT: RawFd = 3;
/// Where it is told what was found and how it ended.
pub(super) const REPLY: RawFd = 4;

/// What is to be done.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    /// Whether the container's root is given; otherwise it is mounted.
    pub(super) running: bool,
    /// The path in the container.
    pub(super) path: String,
    /// The rest.
    pub(super) direction: Direction,
}

/// Which way.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Direction {
    /// Out of the container: what the top is called in the archive.
    Out(String),
    /// Into it.
    In(Incoming),
}

/// What comes in.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Incoming {
    /// What was packed; `None` for an archive of somebody else's.
    pub(super) source: Option<Source>,
    /// Whether everything is given to the container's user.
    pub(super) chown: bool,
    /// Whether directories may replace others and the other way round.
    pub(super) overwrite: bool,
    /// Whether only one id is mapped.
    pub(super) single: bool,
    /// What the user's ids are in the container.
    pub(super) inside: (u32, u32),
    /// The ids of the host in an archive that was packed there: those of the user.
    pub(super) host: Option<(u32, u32)>,
}

/// What is told.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reply {
    /// The source is there: whether it is a directory.
    Found(bool),
    /// All is done.
    Done,
    /// It failed.
    Failed {
        /// Whether what was named is not there.
        missing: bool,
        /// One line.
        text: String,
    },
}

/// Runs `kelp internal copy ID REQUEST`; the exit code.
pub(crate) fn run(engine: &Engine, id: &ContainerId, request: &str) -> i32 {
    let Ok(mut reply) = kelp_sys::fd::inherited(REPLY).map(File::from) else {
        return 125;
    };
    let result = serde_json::from_str(request)
        .map_err(|error| Error::invalid(error.to_string()))
        .and_then(|request: Request| act(engine, id, &request, &mut reply));
    let (code, last) = match result {
        Ok(()) => (0, Reply::Done),
        Err(error) => {
            let failed = Reply::Failed {
                missing: error.kind() == Kind::NotFound,
                text: error.line(),
            };
            (1, failed)
        }
    };
    let _ = say(&mut reply, &last);
    code
}

fn say(reply: &mut File, text: &Reply) -> io::Result<()> {
    let mut line = serde_json::to_vec(text)?;
    line.push(b'\n');
    reply.write_all(&line)
}

fn act(
    engine: &Engine,
    id: &ContainerId,
    request: &Request,
    reply: &mut File,
) -> Result<(), Error> {
    // Nothing in a container may look into it: it has every capability in the namespace.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let record = Record::new(&engine.paths, id.clone());
    let launch: Launch = file::read_json(&record.data.join("launch.json"))?
        .ok_or_else(|| Error::new(Kind::NotFound, format!("no such container: {id}")))?;
    if is_unread(reply) {
        // Too early for the death signal to have been set.
        return Err(Error::new(Kind::Failed, "nobody waits for the copy"));
    }
    let (root, _kept) = open_root(&engine.paths, &record, &launch, request.running)?;
    enter(&root)?;
    let path = Path::new(&request.path);
    match &request.direction {
        Direction::Out(name) => {
            let source = open_source(&root, path)?;
            say(reply, &Reply::Found(is_directory(&source)))
                .map_err(Error::io("tell what was found"))?;
            let sink = stream(rustix::stdio::stdout())?;
            send(&source, name, sink).map_err(Error::io(format!("copy {}", path.display())))
        }
        Direction::In(incoming) => write_into(&root, path, &launch, incoming),
    }
}

/// Whether the other end of the pipe is closed.
fn is_unread(reply: &File) -> bool {
    let mut ends = [PollFd::new(reply, PollFlags::empty())];
    let polled = poll(&mut ends, Some(&Timespec::default()));
    polled.is_ok() && ends[0].revents().contains(PollFlags::ERR)
}

/// The root, and what keeps the container from being started while it is mounted here.
fn open_root(
    paths: &Paths,
    record: &Record,
    launch: &Launch,
    running: bool,
) -> Result<(Root, Option<Offline>), Error> {
    if running {
        let fd = kelp_sys::fd::inherited(ROOT).map_err(Error::io("take the container's root"))?;
        kelp_runtime::stopped::become_root()?;
        return Ok((Root::new(fd), None));
    }
    let offline = liveness::offline(&record.runtime)?.ok_or_else(|| {
        Error::conflict(format!(
            "container {} has just been started: try again",
            record.id.short()
        ))
    })?;
    let attach = record.data.join("work");
    let rootfs = kelp_monitor::shown::root(paths, record, &launch.rootfs)?;
    let root = kelp_runtime::stopped::mount(&launch.spec, &rootfs, &attach)?;
    Ok((root, Some(offline)))
}

/// Makes the container's root this process's own as well: all is found by descriptor beneath it, and a
/// link that was followed by mistake would lead to the container's files, not to the host's.
fn enter(root: &Root) -> Result<(), Error> {
    rustix::process::fchdir(root)
        .and_then(|()| rustix::process::chroot("."))
        .map_err(Error::io("enter the container's root"))
}

fn stream(fd: BorrowedFd<'_>) -> Result<File, Error> {
    fd.try_clone_to_owned()
        .map(File::from)
        .map_err(Error::io("copy a descriptor"))
}

fn write_into(root: &Root, path: &Path, launch: &Launch, incoming: &Incoming) -> Result<(), Error> {
    rustix::process::umask(Mode::empty());
    let target = Target::find(root, path, incoming.source.as_ref(), incoming.overwrite)?;
    let ownership = if incoming.single {
        Ownership::Single
    } else {
        Ownership::Mapped
    };
    let options = Options {
        replace_kinds: incoming.overwrite,
        ..Options::copy(ownership)
    };
    let user = launch.extras.user.as_deref().unwrap_or_default();
    let user = kelp_runtime::user::resolve(root, user, &launch.extras.groups)?;
    let mapped = (u64::from(incoming.inside.0), u64::from(incoming.inside.1));
    let own = |entry: &mut Entry| {
        if incoming.chown {
            (entry.uid, entry.gid) = (user.uid.into(), user.gid.into());
        } else if let Some((uid, gid)) = incoming.host {
            // Of the host's ids only the user's own mean something inside.
            let is_own = (entry.uid == u64::from(uid), entry.gid == u64::from(gid));
            entry.uid = if is_own.0 { mapped.0 } else { 0 };
            entry.gid = if is_own.1 { mapped.1 } else { 0 };
        }
    };
    receive(
        stream(rustix::stdio::stdin().as_fd())?,
        root,
        &target,
        options,
        own,
    )
}
