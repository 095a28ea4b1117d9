//! The calling process's own streams, connected to a container: for front ends at a shell.
//!
//! Bytes are moved between the process's standard streams and the pipes that the monitor was given.
//! Signals are passed on, the terminal's size is told, and the detach keys are looked for in what is
//! typed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use kelp_monitor::attach::{Connection, Pipes};
use kelp_monitor::log::Stream;
use kelp_runtime::console::Size;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};
use rustix::termios::{Winsize, isatty, tcgetwinsize, tcsetwinsize};
use serde::{Deserialize, Serialize};

use crate::detach::Keys;
use crate::own_terminal::Mode;
use crate::relay::Relay;
use crate::{ContainerId, Engine, Error};

/// Which of the process's streams are connected, and how.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Options {
    /// Pass what is read from standard input on.
    pub stdin: bool,
    /// Show the container's output.
    pub stdout: bool,
    /// Show its complaints.
    pub stderr: bool,
    /// The container has a terminal: the own one is made raw.
    pub tty: bool,
    /// Pass signals on to the container's init.
    pub sig_proxy: bool,
    /// The keys that detach; empty for none.
    pub detach_keys: Vec<u8>,
}

/// The own ends of the pipes, before and while they are connected.
#[derive(Debug)]
pub struct Session {
    options: Options,
    stdin: Option<OwnedFd>,
    outputs: Vec<(OwnedFd, Stream)>,
    /// What the own terminal is changed back from at the end.
    mode: Option<Mode>,
}

/// What the streams belong to.
#[derive(Clone, Copy, Debug)]
pub enum Other<'a> {
    /// A container, through its monitor.
    Container(&'a ContainerId, &'a Connection),
    /// A process that exec added, by its pidfd.
    Process(BorrowedFd<'a>),
    /// One with a terminal: the socket of its keeper, and the outer end of the terminal.
    Kept(BorrowedFd<'a>, BorrowedFd<'a>),
}

impl Other<'_> {
    /// Becomes readable at the end.
    pub(crate) fn end(&self) -> BorrowedFd<'_> {
        match self {
            Self::Container(_, connection) => connection.as_fd(),
            Self::Process(pidfd) => *pidfd,
            Self::Kept(keeper, _) => *keeper,
        }
    }

    /// Passes a signal on; whether there was somebody to pass it on to.
    pub(crate) fn signal(&self, engine: &Engine, signal: i32) -> bool {
        match self {
            Self::Container(id, _) => engine.kill_container(id, signal).is_ok(),
            Self::Process(pidfd) => kelp_sys::signal::pidfd_send(*pidfd, signal).is_ok(),
            // Its signals are what is typed at its terminal.
            Self::Kept(..) => true,
        }
    }

    /// Tells the size of the own terminal.
    pub(crate) fn tell_size(&self) {
        let Some(size) = own_size() else {
            return;
        };
        match self {
            Self::Container(_, connection) => connection.resize(size.into()),
            Self::Kept(_, terminal) => drop(tcsetwinsize(terminal, size)),
            Self::Process(_) => {}
        }
    }
}

/// The size of the own terminal.
pub(crate) fn own_size() -> Option<Winsize> {
    [rustix::stdio::stdin(), rustix::stdio::stdout()]
        .into_iter()
        .find_map(|stream| tcgetwinsize(stream).ok())
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The container ended with this code.
    Exited(i32),
    /// The user detached.
    Detached,
    /// The monitor went away without a word.
    Lost,
}

/// The room in a pipe of the container's output.
const BURST: usize = 512 * 1024;

/// SIGCHLD, SIGPIPE, SIGURG are never passed on, SIGKILL and SIGSTOP can't be.
const PASSED: &[i32] = &[
    1, 2, 3, 10, 12, 14, 15, 18, 20, 21, 22, 24, 25, 26, 27, 29, 30,
];
/// Stops of jobs: SIGTSTP, SIGTTIN, SIGTTOU. Where there is a terminal they are about this process's use
/// of the own one.
const STOPS: &[i32] = &[20, 21, 22];
/// Those that end this process where they are not passed on, from a terminal or its end: SIGHUP, SIGINT,
/// SIGQUIT, SIGTERM.
pub(crate) const DEADLY: &[i32] = &[1, 2, 3, 15];
const SIGPIPE: i32 = 13;
pub(crate) const SIGWINCH: i32 = 28;

impl Session {
    /// Makes the pipes: the session, and the ends for the monitor.
    pub fn new(options: Options) -> Result<(Self, Pipes), Error> {
        let mut pipes = Pipes::default();
        let pipe = || pipe_with(PipeFlags::CLOEXEC).map_err(Error::io("make a pipe"));
        if options.tty {
            pipes.size = own_size().map(Size::from);
        }
        let mut session = Self {
            stdin: None,
            outputs: Vec::new(),
            options,
            mode: None,
        };
        if session.options.stdin {
            let (read, write) = pipe()?;
            pipes.stdin = Some(read);
            session.stdin = Some(write);
        }
        if session.options.stdout {
            let (read, write) = pipe()?;
            // Twice what the monitor moves at once. At the user's limit of pipe memory (pipe(7)), which all
            // that is attached shares, the usual size has to do.
            let _ = fcntl_setpipe_size(&write, BURST);
            pipes.stdout = Some(write);
            session.outputs.push((read, Stream::Stdout));
        }
        if session.options.stderr && !session.options.tty {
            let (read, write) = pipe()?;
            pipes.stderr = Some(write);
            session.outputs.push((read, Stream::Stderr));
        }
        Ok((session, pipes))
    }

    /// For a process with a terminal: its outer end takes the input and gives the output.
    pub(crate) fn over_terminal(options: Options, master: &OwnedFd) -> Result<Self, Error> {
        let copy = || {
            master
                .try_clone()
                .map_err(Error::io("copy the terminal's descriptor"))
        };
        Ok(Self {
            stdin: if options.stdin { Some(copy()?) } else { None },
            outputs: vec![(copy()?, Stream::Stdout)],
            options,
            mode: None,
        })
    }

    /// Moves bytes until the other side ends or the user detaches.
    pub fn run(mut self, engine: &Engine, other: Other<'_>) -> Result<End, Error> {
        // In this order: one that comes in between is seen, and the mode changed back.
        let signals = self.signals()?;
        self.mode = self.own_mode()?;
        if self.options.tty {
            other.tell_size();
        }
        let end = self.relay(engine, other, signals.as_ref());
        self.mode = None;
        if let Err(error) = &end
            && error.kind() == io::ErrorKind::BrokenPipe
        {
            // Nobody reads on: the end of any command in a pipe.
            kelp_sys::signal::die_of(SIGPIPE);
        }
        end.map_err(Error::io("move the container's streams"))
    }

    fn own_mode(&self) -> Result<Option<Mode>, Error> {
        let mode = if !self.options.tty {
            return Ok(None);
        } else if self.options.stdin && isatty(rustix::stdio::stdin()) {
            Mode::raw()
        } else if self.options.stdout && isatty(rustix::stdio::stdout()) {
            Mode::plain_output()
        } else {
            return Ok(None);
        };
        mode.map(Some)
            .map_err(Error::io("change the mode of the terminal"))
    }

    fn signals(&self) -> Result<Option<OwnedFd>, Error> {
        let mut numbers = Vec::new();
        if self.options.sig_proxy {
            numbers.extend_from_slice(PASSED);
            numbers.extend(34..=64);
        }
        if self.options.tty {
            numbers.retain(|number| !STOPS.contains(number));
            numbers.push(SIGWINCH);
        }
        if self.options.tty && !self.options.sig_proxy {
            // The mode is changed back before one of them ends this process.
            numbers.extend_from_slice(DEADLY);
        }
        if numbers.is_empty() {
            return Ok(None);
        }
        let set = kelp_sys::signal::SignalSet::of(&numbers);
        kelp_sys::signal::signalfd(&set)
            .map(Some)
            .map_err(Error::io("make a signalfd"))
    }

    fn relay(
        &mut self,
        engine: &Engine,
        other: Other<'_>,
        signals: Option<&OwnedFd>,
    ) -> io::Result<End> {
        let keys = std::mem::take(&mut self.options.detach_keys);
        let keys = self.options.tty.then(|| Keys::new(keys));
        let mut relay = Relay::new(other, signals, self.options.sig_proxy, &mut self.mode);
        if let Some(sink) = self.stdin.take() {
            relay.add_input(sink, keys)?;
        }
        for (source, stream) in self.outputs.drain(..) {
            relay.add_output(source, stream)?;
        }
        relay.run(engine)
    }
}
