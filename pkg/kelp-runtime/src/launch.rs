//! Starting a container's first process: the parent's side.

use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use kelp_sys::clone::{Child, CloneFlags, clone3, clone3_sibling};
use kelp_sys::process::wait_pidfd;
use kelp_userns::error::forbidden;
use kelp_userns::{IdMap, UserNamespace, Writing};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::net::{AddressFamily, RecvFlags, SocketFlags, SocketType, socketpair};
use rustix::process::{DumpableBehavior, Signal, pidfd_send_signal, set_dumpable_behavior};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::error::{Error, Failure, Step, plain};
use crate::inside;
use crate::joiner::{Beginning, through_joiner};
use crate::message::{connect, receive, send};
use crate::plan::Plan;
use crate::process;
pub use crate::process::Tie;

/// The standard streams of a process without a terminal.
#[derive(Clone, Copy, Debug)]
pub struct Stdio<'a> {
    /// What it reads.
    pub stdin: BorrowedFd<'a>,
    /// What it writes.
    pub stdout: BorrowedFd<'a>,
    /// Where it complains.
    pub stderr: BorrowedFd<'a>,
}

/// A child that is killed and reaped when this is dropped: whoever fails while it is responsible for
/// one leaves none behind.
#[derive(Debug)]
pub struct Guarded {
    /// There until it is released.
    child: Option<Child>,
}

impl Guarded {
    /// A process that has been killed is gone at once, unless it hangs in the kernel.
    const REAPED_WITHIN: Timespec = Timespec {
        tv_sec: 5,
        tv_nsec: 0,
    };

    /// Takes the responsibility for a child.
    pub fn new(child: Child) -> Self {
        Self { child: Some(child) }
    }

    /// Gives it up: the child has ended, or goes its own way.
    pub fn release(mut self) -> Child {
        self.child.take().expect("only this takes the child away")
    }
}

impl Deref for Guarded {
    type Target = Child;

    fn deref(&self) -> &Child {
        self.child
            .as_ref()
            .expect("what takes the child away takes the guard too")
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        let Some(child) = &self.child else {
            return;
        };
        let _ = pidfd_send_signal(&child.pidfd, Signal::KILL);
        let mut ends = [PollFd::new(&child.pidfd, PollFlags::IN)];
        if poll(&mut ends, Some(&Self::REAPED_WITHIN)).is_ok_and(|ended| ended > 0) {
            let _ = wait_pidfd(child.pidfd.as_fd());
        }
    }
}

/// A process that has been made and is not yet the program. It is killed if it never becomes that.
#[derive(Debug)]
pub struct Starting {
    /// The process.
    pub child: Guarded,
    /// The outer end of its terminal, where it has one.
    pub terminal: Option<OwnedFd>,
    /// Its network namespace, where the caller can't open that by number ([`User::Entered`]).
    pub network: Option<OwnedFd>,
    /// Its namespaces, where hooks are to be run in them.
    namespaces: Vec<OwnedFd>,
    socket: OwnedFd,
    program: String,
}

pub(crate) const READY: u8 = 0x10;
/// Behind [`READY`]: the first descriptor that comes along is of the network namespace.
pub(crate) const NETWORK: u8 = 0x01;
pub(crate) const GO: u8 = 0x11;
/// The process is all but the program: it is about to wait at its gate, and once more when it does.
pub(crate) const HELD: u8 = 0x12;
/// The root and the mounts are there, and the root is not entered yet.
pub(crate) const MOUNTED: u8 = 0x13;
/// A descriptor comes along by which a seccomp filter asks about calls.
pub(crate) const LISTENER: u8 = 0x14;
/// Of one that was at its gate: next comes the execve(2).
pub(crate) const LEAVES: u8 = 0x15;

/// What a container's first process gets beside its plan.
#[derive(Clone, Copy, Debug, Default)]
pub struct Surroundings<'a> {
    /// Its standard streams, where it has no terminal.
    pub stdio: Option<Stdio<'a>>,
    /// Its cgroup.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// The user namespace that it is made in, if that is not the caller's.
    pub user: Option<User<'a>>,
    /// How long it dies with the caller. At a gate, a listening socket, it waits for whoever connects there
    /// later and lets the program go ([`go`]).
    pub tie: Tie<'a>,
}

/// The user namespace of a first process.
#[derive(Clone, Copy, Debug)]
pub enum User<'a> {
    /// One that is there already.
    Joined(BorrowedFd<'a>),
    /// A new one with this map, which is made together with the others: no process has to hold it meanwhile.
    New(&'a IdMap),
    /// The caller's, which has entered it and executed nothing since: its memory belongs to the outer one, and so
    /// does that of the first process until that is the program. No capability in the container's user namespace
    /// looks into it (ptrace(2), "Ptrace access mode checking"), whoever is in its pid namespace already.
    Entered,
}

/// Who is asked about the calls that a seccomp filter does not decide (runtime-spec, config-linux.md, "The
/// Container Process State").
#[derive(Debug)]
pub struct Agent {
    /// Its socket.
    pub path: PathBuf,
    /// What it is told of the process.
    pub state: Vec<u8>,
}

impl Agent {
    /// Connects, and hands the descriptor over; a connection is about one filter.
    fn give(agent: Option<&Self>, listener: Option<OwnedFd>) -> Result<(), Error> {
        let (Some(agent), Some(listener)) = (agent, listener) else {
            let text = "seccomp: nobody is there to be asked: give linux.seccomp a listenerPath";
            return Err(Error::Init(text.to_owned()));
        };
        let what = || format!("ask linux.seccomp.listenerPath {}", agent.path.display());
        connect(&agent.path)
            .and_then(|socket| send(socket.as_fd(), &agent.state, &[listener.as_fd()]))
            .map_err(Error::io(what()))
    }
}

/// Makes the process and its namespaces.
///
/// Returns when the root, the mounts and the terminal are there, and the init waits for
/// [`Starting::execute`]: the moment to set up its network. With a plan that [`Plan::pauses`], it returns when
/// the mounts are there, and the rest is done by [`Starting::enter`].
///
/// The caller has one thread, and is in the container's user namespace with every capability there
/// unless [`Surroundings::user`] names it.
pub fn launch(plan: &Plan, around: Surroundings<'_>) -> Result<Starting, Error> {
    let needs_joiner = plan.joined_pids().is_some() || plan.namespaces.time.is_some();
    if let (Some(User::New(map)), true) = (around.user, needs_joiner) {
        let made = UserNamespace::create(map.clone())?;
        let user = Some(User::Joined(made.as_fd()));
        return launch(plan, Surroundings { user, ..around });
    }
    let (parent_end, child_end) = pair()?;
    let mut parent_end = Some(parent_end);
    let init = || {
        // Its copy would keep it from seeing that the parent's is closed.
        drop(parent_end.take());
        let failure = crate::init::run(plan, around, child_end.as_fd());
        let _ = send(child_end.as_fd(), &failure.to_bytes(), &[]);
        1
    };
    let create = plan.namespaces.create;
    let child = match around.user {
        None if !needs_joiner => clone3(create, around.cgroup, init).map_err(clone_error)?,
        Some(User::New(_)) => {
            let create = create.with(CloneFlags::NEWUSER);
            clone3(create, around.cgroup, init).map_err(|error| match error {
                error if is_forbidden(&error) => forbidden(&error).into(),
                error => clone_error(error),
            })?
        }
        _ => through_joiner(&plan.process.program(), Beginning::default(), |_| {
            clone_among(plan, around, init)
        })?,
    };
    drop(child_end);
    let parent_end = parent_end.expect("the child took its own copy");
    let starting = Starting::new(child, parent_end, plan.process.program());
    if let Some(User::New(map)) = around.user {
        let number = starting.child.pid.as_raw_nonzero().to_string();
        process::set_oom_score(&plan.process, &number)
            .map_err(|failure| Error::Init(failure.text))?;
        Writing::begin(starting.child.pid, map)?.finish()?;
        say_go(&starting.socket, &[])?;
    }
    if plan.pauses() {
        return starting.mounted();
    }
    starting.ready()
}

/// Whether it is the new user namespace, among others, that can't be had.
fn is_forbidden(error: &io::Error) -> bool {
    let limit = || std::fs::read_to_string("/proc/sys/user/max_user_namespaces");
    match Errno::from_io_error(error) {
        Some(Errno::PERM) => true,
        Some(Errno::NOSPC) => limit().is_ok_and(|limit| limit.trim() == "0"),
        _ => false,
    }
}

fn clone_error(error: io::Error) -> Error {
    match Errno::from_io_error(&error) {
        Some(Errno::NOSPC) => Error::Init(
            "too many namespaces: raise the sysctls user.max_*_namespaces, or remove containers"
                .to_owned(),
        ),
        Some(Errno::PERM) => Error::Init(
            "create the container's namespaces: operation not permitted: without root a user namespace has \
             to be in linux.namespaces"
                .to_owned(),
        ),
        _ => Error::io("create the container's namespaces")(error),
    }
}

/// Clones the init into namespaces that are there already, as a joiner does.
fn clone_among(
    plan: &Plan,
    around: Surroundings<'_>,
    init: impl FnOnce() -> i32,
) -> Result<Child, Failure> {
    if let Some(User::Entered) = around.user {
        // Its files in /proc are its own for as long as it takes to write them; nobody in the container sees it.
        set_dumpable_behavior(DumpableBehavior::Dumpable).step(|| "become dumpable".to_owned())?;
    }
    let time = plan.namespaces.time.as_deref();
    let clocks = time.map(|_| open_clocks()).transpose()?;
    if let Some(User::Joined(_) | User::Entered) = around.user {
        // In another user namespace this process is undumpable, and what /proc has of it is the host's
        // root's.
        process::set_by_proc(&plan.process)?;
        // Whoever is in there already must not look into this process, nor into the init.
        set_dumpable_behavior(DumpableBehavior::NotDumpable)
            .step(|| "become undumpable".to_owned())?;
    }
    if let Some(User::Joined(user)) = around.user {
        move_into_link_name_space(user, Some(LinkNameSpaceType::User))
            .step(|| "join the user namespace".to_owned())?;
    }
    if let Some(pids) = plan.joined_pids() {
        move_into_link_name_space(pids, Some(LinkNameSpaceType::ProcessID))
            .step(|| "join the pid namespace".to_owned())?;
    }
    if let Some(clocks) = clocks {
        kelp_sys::namespace::unshare_time().step(|| "make the time namespace".to_owned())?;
        let offsets = time.unwrap_or_default();
        if !offsets.is_empty() {
            rustix::io::write(&clocks, offsets.as_bytes())
                .step(|| "set linux.timeOffsets".to_owned())?;
        }
    }
    clone3_sibling(plan.namespaces.create, around.cgroup, init).map_err(|error| {
        // clone(2), ENOMEM: a pid namespace ends with its first process.
        if error.raw_os_error() == Some(Errno::NOMEM.raw_os_error()) {
            return Failure::setup("join the pid namespace: its first process has ended");
        }
        match clone_error(error) {
            Error::Io { what, source } => Failure::setup(format!("{what}: {}", plain(&source))),
            error => Failure::setup(error.to_string()),
        }
    })
}

/// Opens the calling process's file for the clocks of its children. The kernel looks at who has opened it.
fn open_clocks() -> Result<OwnedFd, Failure> {
    let flags = OFlags::WRONLY | OFlags::CLOEXEC;
    match open("/proc/self/timens_offsets", flags, Mode::empty()) {
        Err(Errno::NOENT) => Err(Failure::setup(
            "this kernel has no time namespaces: leave the one in linux.namespaces out",
        )),
        file => file.step(|| "open /proc/self/timens_offsets".to_owned()),
    }
}

/// A pair of sockets that keep messages apart (unix(7), SOCK_SEQPACKET).
pub fn pair() -> Result<(OwnedFd, OwnedFd), Error> {
    socketpair(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|error| Error::io("make a socket pair")(error.into()))
}

impl Starting {
    pub(crate) fn new(child: Child, socket: OwnedFd, program: String) -> Self {
        Self {
            child: Guarded::new(child),
            terminal: None,
            network: None,
            namespaces: Vec::new(),
            socket,
            program,
        }
    }

    /// Waits for the init's word that all is set up.
    pub(crate) fn ready(mut self) -> Result<Self, Error> {
        let (message, fds) = self.receive()?;
        if message.first() != Some(&READY) {
            return Err(self.fail(&message));
        }
        let mut fds = fds.into_iter();
        if message.get(1) == Some(&NETWORK) {
            self.network = fds.next();
        }
        self.terminal = fds.next();
        Ok(self)
    }

    fn mounted(mut self) -> Result<Self, Error> {
        let (message, namespaces) = self.receive()?;
        if message.first() != Some(&MOUNTED) {
            return Err(self.fail(&message));
        }
        self.namespaces = namespaces;
        Ok(self)
    }

    /// Runs the createContainer hooks of a plan that pauses, which are told `state`, and lets the init enter its
    /// root.
    pub fn enter(self, plan: &Plan, state: &[u8]) -> Result<Self, Error> {
        let hooks = &plan.hooks.create_container;
        if !hooks.is_empty() {
            inside::run_hooks("createContainer", hooks, &self.namespaces, state)?;
        }
        say_go(&self.socket, &[])?;
        self.ready()
    }

    /// Lets the init execute the program; returns the process once it has.
    pub fn execute(self) -> Result<Guarded, Error> {
        self.execute_asking(None)
    }

    /// The same where there is somebody to be asked about calls.
    pub fn execute_asking(self, agent: Option<&Agent>) -> Result<Guarded, Error> {
        say_go(&self.socket, &[])?;
        let message = self.hear(agent)?;
        if message.is_empty() {
            return Ok(self.child);
        }
        Err(self.fail(&message))
    }

    /// Waits until the process is all but the program, and waits for [`Starting::held`].
    pub fn prepared(&self, agent: Option<&Agent>) -> Result<(), Error> {
        let message = self.hear(agent)?;
        if message.first() != Some(&HELD) {
            return Err(failure(&message, &self.program));
        }
        Ok(())
    }

    /// Lets the process wait at its gate. It lives on without the caller.
    pub fn held(self) -> Result<Child, Error> {
        say_go(&self.socket, &[])?;
        let (message, _) = self.receive()?;
        if message.first() != Some(&HELD) {
            return Err(self.fail(&message));
        }
        Ok(self.child.release())
    }

    /// The next message that is not about a listener, which the agent gets.
    fn hear(&self, agent: Option<&Agent>) -> Result<Vec<u8>, Error> {
        loop {
            let (message, mut fds) = self.receive()?;
            if message.first() != Some(&LISTENER) {
                return Ok(message);
            }
            Agent::give(agent, fds.pop())?;
        }
    }

    /// Why the init can't go on, where it has said so: it is silent until it is let go unless a step
    /// has failed. Whatever has failed on the outside meanwhile may be for that reason.
    pub fn failure(self) -> Option<Error> {
        let mut buffer = vec![0; 4096];
        let (length, _) = receive(self.socket.as_fd(), &mut buffer, RecvFlags::DONTWAIT).ok()?;
        Some(self.fail(&buffer[..length]))
    }

    fn receive(&self) -> Result<(Vec<u8>, Vec<OwnedFd>), Error> {
        let mut buffer = vec![0; 4096];
        let (length, fds) = receive(self.socket.as_fd(), &mut buffer, RecvFlags::empty())
            .map_err(Error::io("hear from the init"))?;
        buffer.truncate(length);
        Ok((buffer, fds))
    }

    fn fail(self, message: &[u8]) -> Error {
        failure(message, &self.program)
    }
}

fn failure(message: &[u8], program: &str) -> Error {
    if message.is_empty() {
        return Error::Init("the container's init was killed while it was starting".to_owned());
    }
    Failure::to_error(message, program)
}

/// Says the word, with a file in memory that has the state, where there is one to be told: it may be longer than a
/// message. A send to one that is gone is no failure: its message, or its absence, says why.
fn say_go(socket: &OwnedFd, state: &[u8]) -> Result<(), Error> {
    if state.is_empty() {
        let _ = send(socket.as_fd(), &[GO], &[]);
        return Ok(());
    }
    let file = crate::hooks::memory(state).map_err(Error::io("keep the state for hooks"))?;
    let _ = send(socket.as_fd(), &[GO], &[file.as_fd()]);
    Ok(())
}

/// Lets a process that waits at its gate become its program; returns once it has, or was killed. `gate` is a
/// connection to the gate, `program` what errors are about, and hooks in the container are told `state`.
///
/// `has_executed` is asked when the process has closed its end, as execve(2) and a kill do, and knows nothing of
/// one that was reaped: then it counts how far the process had come.
pub fn go(
    gate: &OwnedFd,
    program: &str,
    state: &[u8],
    agent: Option<&Agent>,
    has_executed: impl Fn() -> Option<bool>,
) -> Result<(), Error> {
    say_go(gate, state)?;
    let mut leaves = false;
    loop {
        let mut buffer = vec![0; 4096];
        let (length, mut fds) = receive(gate.as_fd(), &mut buffer, RecvFlags::empty())
            .map_err(Error::io("hear from the init"))?;
        match &buffer[..length] {
            [] if has_executed().unwrap_or(leaves) => return Ok(()),
            [LISTENER, ..] => Agent::give(agent, fds.pop())?,
            [LEAVES, ..] => leaves = true,
            message => return Err(failure(message, program)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::{WaitId, WaitIdOptions, waitid};

    /// A child that waits until `end` is closed.
    fn waiting(end: &OwnedFd) -> Child {
        let body = || {
            let _ = rustix::io::read(end, &mut [0; 1]);
            0
        };
        clone3(CloneFlags::empty(), None, body).unwrap()
    }

    #[test]
    fn a_guarded_child_is_killed_and_reaped_unless_it_is_released() {
        let (read, write) = rustix::pipe::pipe().unwrap();
        let child = waiting(&read);
        let pidfd = child.pidfd.try_clone().unwrap();
        drop(Guarded::new(child));
        let again = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED);
        assert_eq!(again.unwrap_err(), Errno::CHILD);

        let child = Guarded::new(waiting(&read)).release();
        rustix::io::write(&write, b"x").unwrap();
        let exit = wait_pidfd(child.pidfd.as_fd()).unwrap();
        assert_eq!(exit, kelp_sys::process::Exit::Code(0));
    }
}
