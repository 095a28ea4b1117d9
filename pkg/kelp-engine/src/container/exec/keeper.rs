//! `kelp internal exec`: the process that keeps one which exec adds in the background or with a
//! terminal.
//!
//! It is the process's parent and reaps it, which the container's process 1 need not do. It holds the
//! outer end of the terminal and drains it while nobody is attached, so that the process neither hangs
//! up nor blocks. Who is attached has a copy of that end, so that no byte takes a way round.
//!
//! Invariants: it stays in the user's own namespaces and is not dumpable, so that nothing inside can
//! look into it. It has one thread and sleeps unless something happens. It ends with the process, and
//! the process with the container.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use kelp_monitor::protocol::{receive, send};
use kelp_runtime::console::{Size, inner_end, set_size};
use kelp_runtime::launch::{Stdio, pair};
use kelp_state::{ContainerId, RunRecord};
use kelp_sys::clone::Child;
use kelp_sys::fd::has_gone;
use kelp_sys::process::wait_pidfd;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::RecvFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    DumpableBehavior, Signal, pidfd_send_signal, set_parent_process_death_signal,
};
use serde::{Deserialize, Serialize};

use super::ExecOptions;
use crate::terminal::own_size;
use crate::{Engine, Error, Kind, internal};

/// The descriptor of the socket to whoever asks for the process.
const SOCKET: i32 = 3;
/// Where the request is read.
const REQUEST: i32 = 4;

/// What is asked for: more than a packet may hold, and nothing for a command line that all can see.
#[derive(Serialize, Deserialize)]
struct Request {
    options: ExecOptions,
    /// That of the terminal.
    size: Option<Size>,
}

/// What the keeper tells.
#[derive(Serialize, Deserialize)]
enum Reply {
    /// The program runs; the outer end of its terminal comes along.
    Started,
    /// It does not, and why.
    Failed { kind: Kind, text: String },
    /// It has ended with this code.
    Exited(i32),
}

/// Starts a keeper, and through it the process; the socket to it, and the outer end of the terminal.
pub(crate) fn start(
    id: &ContainerId,
    options: &ExecOptions,
) -> Result<(OwnedFd, Option<OwnedFd>), Error> {
    let request = Request {
        options: options.clone(),
        size: own_size().map(Size::from),
    };
    let request =
        serde_json::to_vec(&request).map_err(|error| Error::invalid(error.to_string()))?;
    let (ours, theirs) = pair()?;
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(Error::io("make a pipe"))?;
    let null = File::options().read(true).write(true).open("/dev/null");
    let null = null.map_err(Error::io("open /dev/null"))?;
    let mut fds = vec![(theirs.as_fd(), SOCKET), (read.as_fd(), REQUEST)];
    fds.extend((0..3).map(|number| (null.as_fd(), number)));
    internal::spawn_outside(&["exec", id.as_str()], fds, Some(Signal::KILL))?;
    drop((theirs, read));
    File::from(write)
        .write_all(&request)
        .map_err(|_| killed())?;
    match receive(ours.as_fd(), RecvFlags::empty()) {
        Ok(Some((Reply::Started, mut fds))) => Ok((ours, fds.pop())),
        Ok(Some((Reply::Failed { kind, text }, _))) => Err(Error::new(kind, text)),
        Ok(Some((Reply::Exited(_), _)) | None) | Err(_) => Err(killed()),
    }
}

/// The exit code, once there is something to read; `None` if the keeper was killed.
pub(crate) fn exit_code(keeper: BorrowedFd<'_>) -> Option<i32> {
    match receive(keeper, RecvFlags::empty()) {
        Ok(Some((Reply::Exited(code), _))) => Some(code),
        _ => None,
    }
}

/// The keeper went away without a word.
pub(crate) fn killed() -> Error {
    Error::new(Kind::Failed, "the exec session's keeper was killed")
}

/// The keeper itself.
pub(crate) fn run(engine: &Engine, id: &ContainerId) -> i32 {
    // First: for this the program may be executed anew, and what was inherited has to be there then.
    let target = engine.exec_target(id);
    let (Ok(client), Ok(request)) = (
        kelp_sys::fd::inherited(SOCKET),
        kelp_sys::fd::inherited(REQUEST),
    ) else {
        return 125;
    };
    let mut text = Vec::new();
    let read = File::from(request).read_to_end(&mut text);
    let (Ok(_), Ok(request)) = (read, serde_json::from_slice::<Request>(&text)) else {
        return 125;
    };
    drop(text);
    // As long as it has not begun it ends with whoever asks, who may have gone before that held.
    if has_gone(client.as_fd()) {
        return 125;
    }
    // It is nobody's reason to stay mounted.
    let _ = rustix::process::chdir("/");
    let Begun {
        init,
        child,
        terminal,
        inner,
    } = match target.and_then(|target| begin(engine, id, &request, target)) {
        Ok(begun) => begun,
        Err(error) => {
            let (kind, text) = (error.kind(), error.line());
            let _ = send(client.as_fd(), &Reply::Failed { kind, text }, &[]);
            return 125;
        }
    };
    let _ = set_parent_process_death_signal(None);
    // Not before: its file for the OOM score, which the process begins with, would be the host's root's.
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
    drop(request);
    engine.note_id("exec", id, None);
    let fds: Vec<_> = terminal.iter().map(AsFd::as_fd).collect();
    let _ = send(client.as_fd(), &Reply::Started, &fds);
    kelp_sys::process::trim_heap();
    let mut kept = Kept {
        child,
        init: Some(init),
        terminal,
        inner,
        client: Some(client),
    };
    let Ok(code) = kept.until_its_end() else {
        return 125;
    };
    engine.note_id("exec_died", id, Some(code));
    if let Some(client) = kept.client {
        let _ = send(client.as_fd(), &Reply::Exited(code), &[]);
    }
    0
}

/// A process that has just begun.
struct Begun {
    /// The container's first process.
    init: OwnedFd,
    child: Child,
    /// The outer end of its terminal, and the inner one.
    terminal: Option<OwnedFd>,
    inner: Option<OwnedFd>,
}

fn begin(
    engine: &Engine,
    id: &ContainerId,
    request: &Request,
    target: (RunRecord, OwnedFd),
) -> Result<Begun, Error> {
    let null = rustix::stdio::stdin();
    let stdio = (!request.options.streams.tty).then_some(Stdio {
        stdin: null,
        stdout: null,
        stderr: null,
    });
    let streams = (stdio, request.size);
    let mut begun = engine.begin_exec(id, &request.options, &target, streams)?;
    let terminal = begun.take_terminal();
    // Before the program can ask for it.
    if let (Some(terminal), Some(size)) = (&terminal, request.size) {
        let _ = set_size(terminal, size);
    }
    // Nor after it may have closed its own.
    let inner = terminal.as_ref().and_then(|it| inner_end(it.as_fd()));
    Ok(Begun {
        init: target.1,
        child: begun.execute()?,
        terminal,
        inner,
    })
}

struct Kept {
    child: Child,
    /// The container's first process, until it has ended.
    init: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
    /// The inner end. While it is open, that the process closes its own is not the end: it can open the
    /// terminal again by its name.
    inner: Option<OwnedFd>,
    /// Whoever asked for the process, until they have gone.
    client: Option<OwnedFd>,
}

impl Kept {
    /// Waits for the end of the process, and reaps it; the exit code.
    fn until_its_end(&mut self) -> io::Result<i32> {
        loop {
            let unattended = self.terminal.as_ref().filter(|_| self.client.is_none());
            let watched = [self.client.as_ref(), self.init.as_ref(), unattended];
            let mut fds = vec![PollFd::new(&self.child.pidfd, PollFlags::IN)];
            let present = watched.iter().flatten();
            fds.extend(present.map(|fd| PollFd::new(*fd, PollFlags::IN)));
            rustix::io::retry_on_intr(|| poll(&mut fds, None))?;
            let mut states = fds.iter().map(|fd| !fd.revents().is_empty());
            let mut next = || states.next().unwrap_or(false);
            let ended = next();
            let [client_left, init_ended, terminal_ready] =
                watched.map(|fd| fd.is_some() && next());
            if ended {
                return Ok(wait_pidfd(self.child.pidfd.as_fd())?.code());
            }
            if client_left {
                self.client = None;
                if let Some(terminal) = &self.terminal {
                    ioctl_fionbio(terminal, true)?;
                }
            }
            if init_ended {
                // In a pid namespace of the host's, or of another container, it does not end by itself.
                let _ = pidfd_send_signal(&self.child.pidfd, Signal::KILL);
                self.init = None;
            }
            if terminal_ready {
                self.drain();
            }
        }
    }

    /// Drops what the terminal has to show.
    fn drain(&mut self) {
        let Some(terminal) = &self.terminal else {
            return;
        };
        let read = rustix::io::read(terminal, &mut [0_u8; 4096]);
        if !matches!(read, Ok(1..) | Err(Errno::AGAIN | Errno::INTR)) {
            // vhangup(2) has cut off whoever had it open.
            self.inner = inner_end(terminal.as_fd());
            if self.inner.is_none() {
                self.terminal = None;
            }
        }
    }
}
