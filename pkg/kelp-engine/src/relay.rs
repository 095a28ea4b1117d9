//! The poll loop between the process's own streams and a container's.
//!
//! It waits in poll(2), but for answers that are on their way: a program that does not read and a
//! terminal that is not read hold up neither the other direction nor a signal.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use kelp_monitor::attach::Last;
use kelp_monitor::log::Stream;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio};

use crate::Engine;
use crate::container::exec::keeper;
use crate::detach::Keys;
use crate::flow::{CHUNK, Flow, Turn};
use crate::own_terminal::Mode;
use crate::terminal::{DEADLY, End, Other, SIGWINCH};

/// How much of what is typed is read, for the detach keys in it, while the program does not read.
const TYPED_AHEAD: usize = CHUNK;

/// How long output that is not taken is waited for, once a signal has come that was for the command.
const STUCK: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 500_000_000,
};

/// What is connected, and to what.
pub(crate) struct Relay<'a> {
    pub(crate) other: Other<'a>,
    pub(crate) signals: Option<&'a OwnedFd>,
    pub(crate) sig_proxy: bool,
    /// What the own terminal is changed back from.
    pub(crate) mode: &'a mut Option<Mode>,
    input: Option<Input>,
    outputs: Vec<Flow>,
    /// Whether the other side has ended.
    ended: bool,
    /// A signal that came when it had, and this was not known yet.
    missed: Option<i32>,
}

/// What is read from standard input.
struct Input {
    flow: Flow,
    /// Looked for in what is typed for a terminal.
    keys: Option<Keys>,
    /// Whether nothing more will be typed.
    ended: bool,
}

/// What a turn of the input came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Typed {
    Text,
    /// Nothing more can be passed on.
    End,
    Detach,
}

/// What a descriptor of the poll set stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    End,
    Signals,
    Output(usize),
    Input,
    /// Where what was typed goes.
    Room,
}

impl<'a> Relay<'a> {
    pub(crate) fn new(
        other: Other<'a>,
        signals: Option<&'a OwnedFd>,
        sig_proxy: bool,
        mode: &'a mut Option<Mode>,
    ) -> Self {
        Self {
            other,
            signals,
            sig_proxy,
            mode,
            input: None,
            outputs: Vec::new(),
            ended: false,
            missed: None,
        }
    }

    /// Connects standard input; with keys to look for where it goes to a terminal.
    pub(crate) fn add_input(&mut self, sink: OwnedFd, keys: Option<Keys>) -> io::Result<()> {
        ioctl_fionbio(&sink, true)?;
        self.input = Some(Input {
            flow: Flow::from_stdin(sink),
            keys,
            ended: false,
        });
        Ok(())
    }

    /// Connects standard output or error.
    pub(crate) fn add_output(&mut self, source: OwnedFd, stream: Stream) -> io::Result<()> {
        ioctl_fionbio(&source, true)?;
        let own = match stream {
            Stream::Stdout => rustix::stdio::stdout(),
            Stream::Stderr => rustix::stdio::stderr(),
        };
        self.outputs.push(Flow::to_standard(source, own));
        Ok(())
    }

    /// Moves bytes until the other side ends or the user detaches.
    pub(crate) fn run(&mut self, engine: &Engine) -> io::Result<End> {
        loop {
            if self.ended {
                self.finish();
                if self.outputs.is_empty()
                    && let Some(end) = self.end()?
                {
                    return Ok(end);
                }
            }
            let missed = self.missed.filter(|_| self.ended);
            let ready = self.wait(missed.map(|_| &STUCK))?;
            if let (Some(signal), true) = (missed, ready.is_empty()) {
                // Nobody takes what is left.
                self.die_of(signal);
            }
            if ready.contains(&Source::Signals) {
                self.pass_signals(engine)?;
            }
            let mut open = Vec::with_capacity(self.outputs.len());
            for (index, mut flow) in std::mem::take(&mut self.outputs).into_iter().enumerate() {
                let is_ready = ready.contains(&Source::Output(index));
                if !is_ready || flow.turn()? != Turn::Ended {
                    open.push(flow);
                }
            }
            self.outputs = open;
            if let Some(input) = &mut self.input {
                let typed = ready.contains(&Source::Input);
                let room = ready.contains(&Source::Room);
                match input.turn(typed, room)? {
                    Typed::Text => {}
                    Typed::End => self.input = None,
                    Typed::Detach => return Ok(End::Detached),
                }
            }
            self.ended |= ready.contains(&Source::End);
        }
    }

    /// Waits until there is something to do, or so long.
    fn wait(&self, time: Option<&Timespec>) -> io::Result<Vec<Source>> {
        let mut sources = Vec::with_capacity(6);
        let mut fds = Vec::with_capacity(6);
        let end = self.other.end();
        if !self.ended {
            sources.push(Source::End);
            fds.push(PollFd::new(&end, PollFlags::IN));
        }
        if let Some(signals) = self.signals {
            sources.push(Source::Signals);
            fds.push(PollFd::new(signals, PollFlags::IN));
        }
        for (index, flow) in self.outputs.iter().enumerate() {
            sources.push(Source::Output(index));
            fds.push(flow.awaited());
        }
        if let Some(input) = &self.input {
            if input.keys.is_none() {
                sources.push(Source::Input);
                fds.push(input.flow.awaited());
            } else {
                if !input.ended && input.flow.waiting() < TYPED_AHEAD {
                    sources.push(Source::Input);
                    fds.push(PollFd::from_borrowed_fd(input.flow.source(), PollFlags::IN));
                }
                if input.flow.is_blocked() {
                    sources.push(Source::Room);
                    fds.push(input.flow.room());
                }
            }
        }
        match poll(&mut fds, time) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready = fds.iter().map(|fd| !fd.revents().is_empty());
        let ready = sources.into_iter().zip(ready);
        Ok(ready
            .filter_map(|(source, ready)| ready.then_some(source))
            .collect())
    }

    fn pass_signals(&mut self, engine: &Engine) -> io::Result<()> {
        let Some(fd) = self.signals else {
            return Ok(());
        };
        while let Some(signal) = kelp_sys::signal::read_signal(fd.as_fd())? {
            // After the end there is nobody to pass it on to, and output that nobody takes may be
            // all that is waited for.
            let is_deadly = DEADLY.contains(&signal);
            let is_own = !self.sig_proxy || self.ended && is_deadly;
            match signal {
                SIGWINCH => self.other.tell_size(),
                _ if is_own => self.die_of(signal),
                _ if self.other.signal(engine, signal) => {}
                _ => self.missed = is_deadly.then_some(signal).or(self.missed),
            }
        }
        Ok(())
    }

    /// Ends by a signal, and leaves the own terminal as it was.
    fn die_of(&mut self, signal: i32) {
        *self.mode = None;
        kelp_sys::signal::die_of(signal);
    }

    /// Moves what is left. A monitor closes its ends; a process may have left others that hold them:
    /// what is there is moved, what may come is not waited for.
    fn finish(&mut self) {
        if matches!(self.other, Other::Container(..)) {
            return;
        }
        self.outputs.retain_mut(|flow| {
            loop {
                match flow.turn() {
                    Ok(Turn::Moved(length)) if length <= flow.left => flow.left -= length,
                    Ok(_) => return flow.is_blocked(),
                    Err(_) => return false,
                }
            }
        });
    }

    /// How it ended; `None` if there is more to move after all.
    fn end(&mut self) -> io::Result<Option<End>> {
        let connection = match self.other {
            Other::Container(_, connection) => connection,
            Other::Process(pidfd) => {
                let code = kelp_sys::process::wait_pidfd(pidfd)?.code();
                return Ok(Some(End::Exited(code)));
            }
            Other::Kept(keeper, _) => {
                let code = keeper::exit_code(keeper);
                return Ok(Some(code.map_or(End::Lost, End::Exited)));
            }
        };
        match connection.last() {
            Ok(Some(Last::Exited(code))) => Ok(Some(End::Exited(code))),
            Ok(Some(Last::Rest(stream, file))) => {
                self.add_output(file, stream)?;
                // More is told when there is more to tell.
                self.ended = false;
                Ok(None)
            }
            Err(error @ kelp_monitor::Error::Failed { .. }) => Err(io::Error::other(error)),
            Ok(None) | Err(_) => Ok(Some(End::Lost)),
        }
    }
}

impl Input {
    /// Passes on what can be.
    fn turn(&mut self, typed: bool, room: bool) -> io::Result<Typed> {
        let Some(keys) = &mut self.keys else {
            if !typed {
                return Ok(Typed::Text);
            }
            return match self.flow.turn() {
                Ok(Turn::Ended) => Ok(Typed::End),
                // The program has closed its input.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Typed::End),
                Err(error) => Err(error),
                Ok(Turn::Moved(_) | Turn::Idle) => Ok(Typed::Text),
            };
        };
        if room && self.flow.settle().is_err() {
            return Ok(Typed::End);
        }
        if typed {
            let mut buffer = [0; 4096];
            let (bytes, detached) = match rustix::io::read(self.flow.source(), &mut buffer) {
                Ok(0) | Err(Errno::IO) => {
                    self.ended = true;
                    (keys.take_held(), false)
                }
                Ok(read) => keys.filter(&buffer[..read]),
                Err(Errno::AGAIN | Errno::INTR) => return Ok(Typed::Text),
                Err(error) => return Err(error.into()),
            };
            let given = self.flow.give(&bytes);
            if detached {
                return Ok(Typed::Detach);
            }
            if given.is_err() {
                return Ok(Typed::End);
            }
        }
        if self.ended && self.flow.waiting() == 0 {
            return Ok(Typed::End);
        }
        Ok(Typed::Text)
    }
}
