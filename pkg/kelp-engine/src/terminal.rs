//! The calling process's own streams, connected to a container: for front ends at a shell.
//!
//! One poll loop moves bytes between the process's standard streams and the pipes that the monitor
//! was given; splice(2) where the kernel can, read and write where it can't. Signals are passed on,
//! the terminal's size is told, and the detach keys are looked for in what is typed.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use kelp_monitor::attach::{Connection, Pipes};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};

use crate::{ContainerId, Engine, Error};

/// Which of the process's streams are connected, and how.
#[derive(Clone, Debug, Default)]
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
    outputs: Vec<(OwnedFd, i32)>,
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

const CHUNK: usize = 1 << 20;

/// SIGCHLD, SIGPIPE, SIGURG are never passed on, SIGKILL and SIGSTOP can't be.
const PASSED: &[i32] = &[1, 2, 3, 10, 12, 14, 15, 18, 20, 21, 22, 24, 25, 26, 27, 29, 30];
const SIGWINCH: i32 = 28;

impl Session {
    /// Makes the pipes: the session, and the ends for the monitor.
    pub fn new(options: Options) -> Result<(Self, Pipes), Error> {
        let mut pipes = Pipes::default();
        let pipe = || {
            let pair = pipe_with(PipeFlags::CLOEXEC).map_err(Error::io("make a pipe"))?;
            // At the user's limit of pipe memory (pipe(7)) the usual size has to do.
            let _ = fcntl_setpipe_size(&pair.1, CHUNK);
            Ok::<_, Error>(pair)
        };
        let mut session = Self {
            stdin: None,
            outputs: Vec::new(),
            options,
        };
        if session.options.stdin {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(Error::io("make a pipe"))?;
            pipes.stdin = Some(read);
            session.stdin = Some(write);
        }
        if session.options.stdout {
            let (read, write) = pipe()?;
            pipes.stdout = Some(write);
            session.outputs.push((read, 1));
        }
        if session.options.stderr && !session.options.tty {
            let (read, write) = pipe()?;
            pipes.stderr = Some(write);
            session.outputs.push((read, 2));
        }
        Ok((session, pipes))
    }

    /// Moves bytes until the container ends or the user detaches.
    pub fn run(
        mut self,
        engine: &Engine,
        id: &ContainerId,
        connection: &Connection,
    ) -> Result<End, Error> {
        let raw = self.raw_mode()?;
        let signals = self.signals()?;
        if self.options.tty {
            tell_size(connection);
        }
        let end = self.relay(engine, id, connection, signals.as_ref());
        drop(raw);
        end.map_err(Error::io("move the container's streams"))
    }

    fn raw_mode(&self) -> Result<Option<Raw>, Error> {
        if !self.options.tty || !self.options.stdin || !isatty(rustix::stdio::stdin()) {
            return Ok(None);
        }
        Raw::enter().map(Some).map_err(Error::io("make the terminal raw"))
    }

    fn signals(&self) -> Result<Option<OwnedFd>, Error> {
        let mut numbers = Vec::new();
        if self.options.sig_proxy {
            numbers.extend_from_slice(PASSED);
            numbers.extend(34..=64);
        }
        if self.options.tty {
            numbers.push(SIGWINCH);
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
        id: &ContainerId,
        connection: &Connection,
        signals: Option<&OwnedFd>,
    ) -> io::Result<End> {
        let mut keys = Keys::new(std::mem::take(&mut self.options.detach_keys));
        let mut ended = false;
        loop {
            // The end is told after all output has been put into the pipes: they are emptied first.
            if ended && self.outputs.is_empty() {
                return match connection.exited() {
                    Ok(Some(code)) => Ok(End::Exited(code)),
                    _ => Ok(End::Lost),
                };
            }
            let ready = self.wait(connection, signals, ended)?;
            if ready.signal {
                while let Some(fd) = signals {
                    match kelp_sys::signal::read_signal(fd.as_fd())? {
                        Some(SIGWINCH) => tell_size(connection),
                        Some(signal) => drop(engine.kill_container(id, signal)),
                        None => break,
                    }
                }
            }
            self.outputs.retain(|(read, number)| {
                let is_ready = ready.outputs.contains(number);
                !is_ready || matches!(forward(read.as_fd(), *number), Ok(true))
            });
            if ready.stdin && self.input(&mut keys)? {
                return Ok(End::Detached);
            }
            ended |= ready.connection;
        }
    }

    fn wait(
        &self,
        connection: &Connection,
        signals: Option<&OwnedFd>,
        ended: bool,
    ) -> io::Result<Ready> {
        let stdin = rustix::stdio::stdin();
        let mut fds = Vec::with_capacity(5);
        if !ended {
            fds.push(PollFd::new(connection, PollFlags::IN));
        }
        if let Some(signals) = signals {
            fds.push(PollFd::new(signals, PollFlags::IN));
        }
        for (read, _) in &self.outputs {
            fds.push(PollFd::new(read, PollFlags::IN));
        }
        if self.stdin.is_some() {
            fds.push(PollFd::from_borrowed_fd(stdin, PollFlags::IN));
        }
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let mut states = fds.iter().map(|fd| !fd.revents().is_empty());
        let mut next = || states.next().unwrap_or(false);
        Ok(Ready {
            connection: !ended && next(),
            signal: signals.is_some() && next(),
            outputs: self
                .outputs
                .iter()
                .filter_map(|(_, number)| next().then_some(*number))
                .collect(),
            stdin: self.stdin.is_some() && next(),
        })
    }

    /// Passes input on; whether the detach keys were typed.
    fn input(&mut self, keys: &mut Keys) -> io::Result<bool> {
        let Some(sink) = &self.stdin else {
            return Ok(false);
        };
        let stdin = rustix::stdio::stdin();
        if !self.options.tty {
            match splice(stdin, None, sink, None, CHUNK, SpliceFlags::MOVE) {
                Ok(0) | Err(Errno::PIPE) => self.stdin = None,
                Ok(_) | Err(Errno::INTR) => {}
                Err(_) => {
                    let mut buffer = vec![0; 64 * 1024];
                    match rustix::io::read(stdin, &mut buffer) {
                        Ok(0) | Err(Errno::IO) => self.stdin = None,
                        Ok(read) => {
                            if write_all(sink.as_fd(), &buffer[..read]).is_err() {
                                self.stdin = None;
                            }
                        }
                        Err(Errno::AGAIN | Errno::INTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
            }
            return Ok(false);
        }
        let mut buffer = [0; 4096];
        match rustix::io::read(stdin, &mut buffer) {
            Ok(0) | Err(Errno::IO) => self.stdin = None,
            Ok(read) => {
                let (bytes, detached) = keys.filter(&buffer[..read]);
                if write_all(sink.as_fd(), &bytes).is_err() {
                    self.stdin = None;
                }
                return Ok(detached);
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(false)
    }
}

struct Ready {
    connection: bool,
    signal: bool,
    outputs: Vec<i32>,
    stdin: bool,
}

/// Moves what a pipe holds to standard output or error; whether there may be more.
fn forward(pipe: BorrowedFd<'_>, number: i32) -> io::Result<bool> {
    let target = if number == 1 {
        rustix::stdio::stdout()
    } else {
        rustix::stdio::stderr()
    };
    match splice(pipe, None, target, None, CHUNK, SpliceFlags::MOVE) {
        Ok(0) => return Ok(false),
        Ok(_) | Err(Errno::INTR) => return Ok(true),
        // Terminals and files opened for appending can't be spliced to.
        Err(Errno::INVAL) => {}
        Err(error) => return Err(error.into()),
    }
    let mut buffer = vec![0; 64 * 1024];
    match rustix::io::read(pipe, &mut buffer) {
        Ok(0) => Ok(false),
        Ok(read) => write_all(target, &buffer[..read]).map(|()| true),
        Err(Errno::INTR | Errno::AGAIN) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(written) => bytes = &bytes[written..],
            Err(Errno::AGAIN) => {
                poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::OUT)], None)?;
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn tell_size(connection: &Connection) {
    for stream in [rustix::stdio::stdin(), rustix::stdio::stdout()] {
        if let Ok(size) = tcgetwinsize(stream) {
            connection.resize(size.ws_row, size.ws_col);
            return;
        }
    }
}

/// The own terminal in raw mode, until dropped.
struct Raw(Termios);

impl Raw {
    fn enter() -> io::Result<Self> {
        let old = tcgetattr(rustix::stdio::stdin())?;
        let mut new = old.clone();
        new.make_raw();
        tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &new)?;
        Ok(Self(old))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.0);
    }
}

/// Looks for the detach keys. A key that begins the sequence is held back until the next one shows
/// whether it was meant.
struct Keys {
    sequence: Vec<u8>,
    matched: usize,
}

impl Keys {
    fn new(sequence: Vec<u8>) -> Self {
        Self {
            sequence,
            matched: 0,
        }
    }

    /// What to pass on, and whether the sequence is complete.
    fn filter(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        if self.sequence.is_empty() {
            return (bytes.to_vec(), false);
        }
        let mut passed = Vec::with_capacity(bytes.len());
        for &byte in bytes {
            if byte == self.sequence[self.matched] {
                self.matched += 1;
                if self.matched == self.sequence.len() {
                    return (passed, true);
                }
                continue;
            }
            passed.extend_from_slice(&self.sequence[..self.matched]);
            self.matched = 0;
            if byte == self.sequence[0] {
                self.matched = 1;
            } else {
                passed.push(byte);
            }
        }
        (passed, false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detach_keys_are_found_across_reads_and_others_pass() {
        let mut keys = Keys::new(vec![16, 17]);
        assert_eq!(keys.filter(b"ab"), (b"ab".to_vec(), false));
        assert_eq!(keys.filter(&[16]), (vec![], false));
        assert_eq!(keys.filter(b"x"), (vec![16, b'x'], false));
        assert_eq!(keys.filter(&[16, 16, 17]), (vec![16], true));
        let mut none = Keys::new(vec![]);
        assert_eq!(none.filter(&[16, 17]), (vec![16, 17], false));
    }
}
