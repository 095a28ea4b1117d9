//! Waiting for a process in the foreground: signals go to it, and its terminal is connected to the caller's.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use kelp_runtime::console::{inner_end, set_size};
use kelp_sys::process::{Exit, wait_pidfd};
use kelp_sys::signal::{SignalSet, pidfd_send, read_signal, signalfd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, ioctl_fionbio, read, write};
use rustix::stdio::{stdin, stdout};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

use crate::error::Error;

/// SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGTERM, SIGCONT, SIGWINCH.
const PASSED: &[i32] = &[1, 2, 3, 10, 12, 14, 15, 18, 28];
const SIGWINCH: i32 = 28;

/// How much is moved at once.
const BUFFER: usize = 4096;
/// How much is shown once the program has ended: more than a terminal keeps.
const LEFT: usize = 64 << 10;

/// The signals that are passed on, which have no effect on this process from here on: one that comes before
/// the program runs reaches it too.
#[derive(Debug)]
pub struct Signals(OwnedFd);

impl Signals {
    /// Holds them back.
    pub fn hold() -> Result<Self, Error> {
        let signals = signalfd(&SignalSet::of(PASSED)).map_err(Error::io("hold signals back"))?;
        Ok(Self(signals))
    }
}

/// Waits for the end of a child. `terminal` is the outer end of its terminal, where the caller keeps that.
pub(crate) fn wait(
    child: BorrowedFd<'_>,
    signals: &Signals,
    terminal: Option<OwnedFd>,
) -> Result<Exit, Error> {
    let what = "wait for the process";
    let Signals(signals) = signals;
    let mut relay = terminal
        .map(Relay::new)
        .transpose()
        .map_err(Error::io(what))?;
    loop {
        let mut fds = vec![
            PollFd::from_borrowed_fd(child, PollFlags::IN),
            PollFd::new(signals, PollFlags::IN),
        ];
        if let Some(relay) = &relay {
            fds.push(relay.output());
            fds.extend(relay.input());
        }
        match poll(&mut fds, None) {
            Err(Errno::INTR) => continue,
            ready => drop(ready.map_err(Error::io(what))?),
        }
        let ready: Vec<_> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
        while let Some(signal) = read_signal(signals.as_fd()).map_err(Error::io(what))? {
            match &relay {
                Some(relay) if signal == SIGWINCH => relay.resize(),
                _ => drop(pidfd_send(child, signal)),
            }
        }
        if let Some(relay) = &mut relay {
            relay
                .turn(ready[2], ready.get(3).copied().unwrap_or(false))
                .map_err(Error::io(what))?;
        }
        if ready[0] {
            if let Some(relay) = &relay {
                relay.drain();
            }
            return wait_pidfd(child).map_err(Error::io(what));
        }
    }
}

/// A terminal that is connected to the caller's own streams, which are in raw mode meanwhile.
struct Relay {
    outer: OwnedFd,
    old: Option<Termios>,
    /// What was typed and is not taken yet.
    typed: Vec<u8>,
    /// Whether more can be typed.
    has_input: bool,
    /// Keeps the terminal from hanging up while the program has no end of it open.
    _inner: Option<OwnedFd>,
}

impl Relay {
    fn new(outer: OwnedFd) -> io::Result<Self> {
        ioctl_fionbio(&outer, true)?;
        let old = tcgetattr(stdin()).ok();
        if let Some(old) = &old {
            let mut raw = old.clone();
            raw.make_raw();
            tcsetattr(stdin(), OptionalActions::Now, &raw)?;
        }
        let inner = inner_end(outer.as_fd());
        let relay = Self {
            outer,
            old,
            typed: Vec::new(),
            has_input: true,
            _inner: inner,
        };
        relay.resize();
        Ok(relay)
    }

    fn resize(&self) {
        let own = [stdin(), stdout()];
        if let Some(size) = own.iter().find_map(|stream| tcgetwinsize(stream).ok()) {
            let _ = set_size(&self.outer, size.into());
        }
    }

    /// Output, and room for what was typed.
    fn output(&self) -> PollFd<'_> {
        let mut flags = PollFlags::IN;
        flags.set(PollFlags::OUT, !self.typed.is_empty());
        PollFd::new(&self.outer, flags)
    }

    /// What is typed, once all before it is taken. At its end it is asked for no more.
    fn input(&self) -> Option<PollFd<'_>> {
        let is_asked = self.has_input && self.typed.is_empty();
        is_asked.then(|| PollFd::from_borrowed_fd(stdin(), PollFlags::IN))
    }

    /// Moves what is there.
    fn turn(&mut self, output: bool, input: bool) -> io::Result<()> {
        if output {
            self.show();
            self.pass_on();
        }
        if input && self.typed.is_empty() {
            let mut bytes = [0; BUFFER];
            match read(stdin(), &mut bytes) {
                Ok(0) | Err(Errno::IO) => {
                    self.has_input = false;
                    // The terminal's way to say the end (termios(3), VEOF).
                    self.typed.push(4);
                }
                Ok(length) => self.typed.extend_from_slice(&bytes[..length]),
                Err(Errno::INTR | Errno::AGAIN) => {}
                Err(error) => return Err(error.into()),
            }
            self.pass_on();
        }
        Ok(())
    }

    /// Writes what was typed, as far as there is room.
    fn pass_on(&mut self) {
        match write(&self.outer, &self.typed) {
            Ok(length) => drop(self.typed.drain(..length)),
            Err(Errno::AGAIN | Errno::INTR) => {}
            // Nobody has the other end any more.
            Err(_) => self.typed.clear(),
        }
    }

    /// Writes what the program has written; whether there was anything.
    fn show(&self) -> bool {
        let mut bytes = [0; BUFFER];
        match read(&self.outer, &mut bytes) {
            Ok(length) if length > 0 => {
                let mut left = &bytes[..length];
                while let [_, ..] = left {
                    match write(stdout(), left) {
                        Ok(length) => left = &left[length..],
                        Err(Errno::INTR) => {}
                        // Nobody wants it.
                        Err(_) => break,
                    }
                }
                true
            }
            _ => false,
        }
    }

    /// Shows what the program has left; somebody whom it has left behind may go on for ever.
    fn drain(&self) {
        for _ in 0..LEFT / BUFFER {
            if !self.show() {
                return;
            }
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(old) = &self.old {
            let _ = tcsetattr(stdin(), OptionalActions::Flush, old);
        }
    }
}
