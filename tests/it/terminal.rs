//! A kelp command on a terminal.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::kelp::{Kelp, LIMIT, beside, wait, wait_status};

/// The command and our side of its terminal.
pub(crate) struct Terminal {
    child: Child,
    master: File,
    /// How the terminal was before.
    mode: Termios,
    seen: String,
}

impl Terminal {
    /// Starts the command as the leader of a session with a new terminal of 80 columns, 24 rows.
    pub(crate) fn start(kelp: Kelp) -> Self {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let size = Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&master, size).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let slave = open(name, flags, Mode::empty()).unwrap();
        let copy = |slave: &OwnedFd| slave.try_clone().unwrap();
        let inner = kelp.into_command();
        // Rust can't make it a controlling terminal without unsafe code; setsid(1) can.
        let mut command = beside(&inner, "setsid");
        command
            .args(["--ctty", "--wait"])
            .arg(inner.get_program())
            .args(inner.get_args())
            .env("TERM", "xterm")
            .stdin(copy(&slave))
            .stdout(copy(&slave))
            .stderr(slave);
        if let Some(directory) = inner.get_current_dir() {
            command.current_dir(directory);
        }
        Self {
            mode: tcgetattr(&master).unwrap(),
            child: command.spawn().unwrap(),
            master: File::from(master),
            seen: String::new(),
        }
    }

    /// Types.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.master.write_all(bytes).unwrap();
    }

    /// Changes the window's size.
    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        let size = Winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&self.master, size).unwrap();
    }

    /// Waits until this shows after all that has been waited for.
    pub(crate) fn expect(&mut self, text: &str) {
        self.expect_of(text, |_| {});
    }

    /// The same of something that is tried again and again until then.
    pub(crate) fn expect_of(&mut self, text: &str, attempt: impl Fn(&Self)) {
        let end = Instant::now() + LIMIT;
        while !self.seen.contains(text) {
            attempt(self);
            assert!(
                Instant::now() < end && self.read(Duration::from_millis(100)),
                "no {text:?} in {:?}",
                self.seen
            );
        }
        let after = self.seen.find(text).unwrap() + text.len();
        self.seen.drain(..after);
    }

    /// Waits for the end; the exit code and the rest of the output.
    pub(crate) fn finish(mut self) -> (i32, String) {
        // The last slave's close is an error for the master (pty(7)).
        let end = Instant::now() + LIMIT;
        while self.read(Duration::from_secs(1)) && Instant::now() < end {}
        let code = wait(&mut self.child, "on a terminal");
        self.is_as_it_was();
        (code, self.seen)
    }

    /// Closes the terminal, as a window is closed, and waits for the end.
    pub(crate) fn close(self) -> ExitStatus {
        let Self {
            mut child, master, ..
        } = self;
        drop(master);
        wait_status(&mut child, "whose terminal was closed")
    }

    /// The command's process.
    pub(crate) fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Waits for the end of a command that a signal may end.
    pub(crate) fn end(mut self) -> ExitStatus {
        let end = Instant::now() + LIMIT;
        while self.read(Duration::from_secs(1)) && Instant::now() < end {}
        let status = wait_status(&mut self.child, "on a terminal");
        if status.signal() != Some(9) {
            self.is_as_it_was();
        }
        status
    }

    /// Asserts that the terminal has the mode it had before the command.
    fn is_as_it_was(&self) {
        let now = tcgetattr(&self.master).unwrap();
        assert_eq!(
            (now.input_modes, now.output_modes, now.local_modes),
            (
                self.mode.input_modes,
                self.mode.output_modes,
                self.mode.local_modes
            )
        );
    }

    /// Reads what there is; `false` at the end.
    fn read(&mut self, limit: Duration) -> bool {
        let limit = Timespec {
            tv_sec: limit.as_secs() as i64,
            tv_nsec: limit.subsec_nanos().into(),
        };
        let mut fds = [PollFd::new(&self.master, PollFlags::IN)];
        if poll(&mut fds, Some(&limit)).unwrap() == 0 {
            return true;
        }
        let mut bytes = [0; 4096];
        match self.master.read(&mut bytes) {
            Ok(0) | Err(_) => false,
            Ok(length) => {
                self.seen
                    .push_str(&String::from_utf8_lossy(&bytes[..length]));
                true
            }
        }
    }
}
