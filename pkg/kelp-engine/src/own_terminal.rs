//! The terminal that the calling process has itself: its modes, and questions that are asked there.

use std::fmt::Write as _;
use std::io::{self, BufRead, Write};
use std::os::fd::{AsFd, BorrowedFd};

use kelp_sys::signal::{SignalSet, die_of, read_signal, set_mask, signalfd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::termios::{
    LocalModes, OptionalActions, OutputModes, Termios, isatty, tcgetattr, tcsetattr,
};

use crate::terminal::DEADLY;
use crate::{Engine, Error};

/// The own terminal in another mode, until dropped.
#[derive(Debug)]
pub(crate) struct Mode {
    fd: BorrowedFd<'static>,
    old: Termios,
}

impl Mode {
    /// Every byte is passed on as it was typed, and shown as it came.
    pub(crate) fn raw() -> io::Result<Self> {
        Self::change(
            rustix::stdio::stdin(),
            OptionalActions::Now,
            Termios::make_raw,
        )
    }

    /// What is shown is shown as it came: it has been through another terminal, which has made the
    /// ends of lines what a terminal wants.
    pub(crate) fn plain_output() -> io::Result<Self> {
        Self::change(rustix::stdio::stdout(), OptionalActions::Now, |mode| {
            mode.output_modes -= OutputModes::OPOST;
        })
    }

    /// What is typed is not shown, and what was typed before is forgotten.
    fn hidden() -> io::Result<Self> {
        Self::change(rustix::stdio::stdin(), OptionalActions::Flush, |mode| {
            mode.local_modes -= LocalModes::ECHO;
        })
    }

    fn change(
        fd: BorrowedFd<'static>,
        when: OptionalActions,
        change: impl FnOnce(&mut Termios),
    ) -> io::Result<Self> {
        let old = tcgetattr(fd)?;
        let mut new = old.clone();
        change(&mut new);
        tcsetattr(fd, when, &new)?;
        Ok(Self { fd, old })
    }
}

impl Drop for Mode {
    fn drop(&mut self) {
        let _ = tcsetattr(self.fd, OptionalActions::Now, &self.old);
    }
}

impl Engine {
    /// Asks at the terminal for something that is not shown while it is typed.
    pub fn ask_secret(&self, prompt: &str) -> Result<String, Error> {
        let what = "ask at the terminal";
        if !isatty(rustix::stdio::stdin()) {
            return Err(Error::invalid(
                "there is no terminal to ask for the password: use --password-stdin",
            ));
        }
        // Blocked before the mode is changed: none of them ends this process with the terminal mute.
        let signals = signalfd(&SignalSet::of(DEADLY)).map_err(Error::io(what))?;
        let hidden = Mode::hidden().map_err(Error::io(what))?;
        let _ = write!(io::stderr(), "{prompt}");
        let ended = wait_for_line(signals.as_fd());
        let mut line = String::new();
        let read = match ended {
            Ok(None) => io::stdin().lock().read_line(&mut line),
            _ => Ok(0),
        };
        drop(hidden);
        let _ = writeln!(io::stderr());
        if let Some(signal) = ended.map_err(Error::io(what))? {
            die_of(signal);
        }
        set_mask(&SignalSet::empty());
        read.map_err(Error::io(what))?;
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }
}

/// Waits until a line was typed; the signal, if one came first.
fn wait_for_line(signals: BorrowedFd<'_>) -> io::Result<Option<i32>> {
    let stdin = rustix::stdio::stdin();
    loop {
        let mut fds = [
            PollFd::new(&stdin, PollFlags::IN),
            PollFd::new(&signals, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        }
        if let Some(signal) = read_signal(signals)? {
            return Ok(Some(signal));
        }
        // An end and an error are for the read to tell.
        if !fds[0].revents().is_empty() {
            return Ok(None);
        }
    }
}

/// Asks which of several is meant, if there is a terminal to ask at; its place.
pub(crate) fn ask_choice(question: &str, choices: &[String]) -> Option<usize> {
    let (stdin, stderr) = (rustix::stdio::stdin(), rustix::stdio::stderr());
    if !isatty(stdin) || !isatty(stderr) {
        return None;
    }
    let mut text = format!("{question}\n");
    for (number, choice) in choices.iter().enumerate() {
        let _ = writeln!(text, "  {}. {choice}", number + 1);
    }
    loop {
        let _ = write!(io::stderr(), "{text}Number, or nothing to give up: ");
        let mut line = String::new();
        let read = io::stdin().lock().read_line(&mut line).unwrap_or(0);
        match line.trim().parse::<usize>() {
            Ok(number) if (1..=choices.len()).contains(&number) => return Some(number - 1),
            _ if read == 0 || line.trim().is_empty() => return Some(choices.len()),
            _ => text = format!("{:?} is none of them.\n", line.trim()),
        }
    }
}
