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
use rustix::termios::{Winsize, isatty, tcgetwinsize, tcsetwinsize};

use crate::own_terminal::Mode;
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
    /// What the own terminal is changed back from at the end.
    mode: Option<Mode>,
}

/// What the streams belong to.
#[derive(Clone, Copy, Debug)]
pub enum Other<'a> {
    /// A container, through its monitor.
    Container(&'a ContainerId, &'a Connection),
    /// A process that exec added: its pidfd, and the outer end of its terminal.
    Process(BorrowedFd<'a>, Option<BorrowedFd<'a>>),
}

impl Other<'_> {
    /// Becomes readable at the end.
    fn end(&self) -> BorrowedFd<'_> {
        match self {
            Self::Container(_, connection) => connection.as_fd(),
            Self::Process(pidfd, _) => *pidfd,
        }
    }

    fn signal(&self, engine: &Engine, signal: i32) {
        match self {
            Self::Container(id, _) => drop(engine.kill_container(id, signal)),
            Self::Process(pidfd, _) => drop(kelp_sys::signal::pidfd_send(*pidfd, signal)),
        }
    }

    /// Tells the size of the own terminal.
    fn tell_size(&self) {
        let Some(size) = own_size() else {
            return;
        };
        match self {
            Self::Container(_, connection) => connection.resize(size.ws_row, size.ws_col),
            Self::Process(_, Some(terminal)) => drop(tcsetwinsize(terminal, size)),
            Self::Process(_, None) => {}
        }
    }
}

/// The size of the own terminal.
fn own_size() -> Option<Winsize> {
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

const CHUNK: usize = 1 << 20;

/// SIGCHLD, SIGPIPE, SIGURG are never passed on, SIGKILL and SIGSTOP can't be.
const PASSED: &[i32] = &[
    1, 2, 3, 10, 12, 14, 15, 18, 20, 21, 22, 24, 25, 26, 27, 29, 30,
];
/// Those that end this process where they are not passed on.
const DEADLY: &[i32] = &[1, 2, 3, 15];
const SIGPIPE: i32 = 13;
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
        if options.tty {
            pipes.size = own_size().map(|size| (size.ws_row, size.ws_col));
        }
        let mut session = Self {
            stdin: None,
            outputs: Vec::new(),
            options,
            mode: None,
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

    /// For a process with a terminal: its outer end takes the input and gives the output.
    pub(crate) fn over_terminal(options: Options, master: &OwnedFd) -> Result<Self, Error> {
        if let Some(size) = own_size() {
            let _ = tcsetwinsize(master, size);
        }
        let copy = || {
            master
                .try_clone()
                .map_err(Error::io("copy the terminal's descriptor"))
        };
        Ok(Self {
            stdin: if options.stdin { Some(copy()?) } else { None },
            outputs: vec![(copy()?, 1)],
            options,
            mode: None,
        })
    }

    /// Moves bytes until the other side ends or the user detaches.
    pub fn run(mut self, engine: &Engine, other: Other<'_>) -> Result<End, Error> {
        self.mode = self.own_mode()?;
        let signals = self.signals()?;
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
            numbers.push(SIGWINCH);
        }
        if self.mode.is_some() && !self.options.sig_proxy {
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
        let mut keys = Keys::new(std::mem::take(&mut self.options.detach_keys));
        let mut ended = false;
        loop {
            if ended && self.drained(other)? {
                return Ok(match other {
                    Other::Container(_, connection) => match connection.exited() {
                        Ok(Some(code)) => End::Exited(code),
                        _ => End::Lost,
                    },
                    Other::Process(pidfd, _) => {
                        End::Exited(kelp_sys::process::wait_pidfd(pidfd)?.code())
                    }
                });
            }
            let ready = self.wait((!ended).then(|| other.end()), signals)?;
            if ready.signal {
                while let Some(fd) = signals {
                    match kelp_sys::signal::read_signal(fd.as_fd())? {
                        Some(SIGWINCH) => other.tell_size(),
                        Some(signal) if !self.options.sig_proxy => {
                            self.mode = None;
                            kelp_sys::signal::die_of(signal);
                        }
                        Some(signal) => other.signal(engine, signal),
                        None => break,
                    }
                }
            }
            let mut open = Vec::with_capacity(self.outputs.len());
            for (read, number) in std::mem::take(&mut self.outputs) {
                if !ready.outputs.contains(&number) || forward(read.as_fd(), number)? {
                    open.push((read, number));
                }
            }
            self.outputs = open;
            if ready.stdin && self.input(&mut keys)? {
                return Ok(End::Detached);
            }
            ended |= ready.end;
        }
    }

    /// Whether all output has been moved, once the other side has ended. A monitor closes its ends;
    /// a process may have left others that hold them: what is there is moved, what may come is not
    /// waited for.
    fn drained(&mut self, other: Other<'_>) -> io::Result<bool> {
        if matches!(other, Other::Process(..)) {
            for (read, number) in &self.outputs {
                rustix::io::ioctl_fionbio(read, true)?;
                while forward(read.as_fd(), *number).unwrap_or(false) {}
            }
            self.outputs.clear();
        }
        Ok(self.outputs.is_empty())
    }

    fn wait(&self, end: Option<BorrowedFd<'_>>, signals: Option<&OwnedFd>) -> io::Result<Ready> {
        let stdin = rustix::stdio::stdin();
        let mut fds = Vec::with_capacity(5);
        if let Some(end) = &end {
            fds.push(PollFd::new(end, PollFlags::IN));
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
            end: end.is_some() && next(),
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
    end: bool,
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
        // A terminal whose last user has gone is at its end with an error.
        Ok(0) | Err(Errno::IO | Errno::AGAIN) => return Ok(false),
        Ok(_) | Err(Errno::INTR) => return Ok(true),
        // Terminals and files opened for appending can't be spliced to.
        Err(Errno::INVAL) => {}
        Err(error) => return Err(error.into()),
    }
    let mut buffer = vec![0; 64 * 1024];
    match rustix::io::read(pipe, &mut buffer) {
        Ok(0) | Err(Errno::IO | Errno::AGAIN) => Ok(false),
        Ok(read) => write_all(target, &buffer[..read]).map(|()| true),
        Err(Errno::INTR) => Ok(true),
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
