//! Commands with an end: nothing that a runtime does may hang the suite.

use std::fs::{self, File};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::outcome::{Outcome, fails, same};

/// One command may take this long.
pub(crate) const LIMIT: Duration = Duration::from_secs(10);

/// A command that has ended.
#[derive(Debug)]
pub(crate) struct Done {
    /// Its exit code; 128 and the signal that ended it.
    pub(crate) code: i32,
    /// What it, and what it left running, has printed.
    pub(crate) out: String,
    /// What it has said on standard error.
    pub(crate) err: String,
}

impl Done {
    /// What it has printed, if it was successful.
    pub(crate) fn succeeds(self) -> Outcome<String> {
        if self.code == 0 {
            return Ok(self.out);
        }
        let said = format!("{}{}", self.out, self.err);
        fails(format!("exit code {}: {}", self.code, said.trim_end()))
    }

    /// What it has said, if it has failed.
    pub(crate) fn refused(self) -> Outcome<String> {
        if self.code == 0 {
            return fails(format!("no error: {:?}", self.out));
        }
        Ok(self.err)
    }

    /// Asserts its exit code.
    pub(crate) fn ends_with(&self, code: i32) -> Outcome {
        let what = format!("exit code, where {:?} was said", self.err.trim_end());
        same(&what, self.code, code)
    }
}

/// The code as a shell has it.
pub(crate) fn code(status: ExitStatus) -> i32 {
    let signal = status.signal().map(|signal| 128 + signal);
    status.code().or(signal).unwrap_or(-1)
}

/// Runs a command to its end. Files are its streams: what it leaves running may have them as long
/// as it likes.
pub(crate) fn run(mut command: Command, directory: &Path, name: &str) -> Outcome<Done> {
    let [out, err] = ["out", "err"].map(|stream| directory.join(format!("{name}.{stream}")));
    command
        .stdout(File::create(&out)?)
        .stderr(File::create(&err)?);
    let status = ended(spawn(&mut command)?)?;
    let text = |path| fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ok(Done {
        code: code(status),
        out: text(&out)?,
        err: text(&err)?,
    })
}

/// Starts a command without standard input.
pub(crate) fn spawn(command: &mut Command) -> Outcome<Child> {
    match command.stdin(Stdio::null()).spawn() {
        Ok(child) => Ok(child),
        Err(error) => {
            let program = command.get_program().display();
            fails(format!("{program}: {error}"))
        }
    }
}

/// Waits for the end of a command, and kills it when its time is over.
pub(crate) fn ended(mut child: Child) -> Outcome<ExitStatus> {
    let pid = Pid::from_child(&child);
    let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
    if !readable(pidfd.as_fd(), LIMIT)? {
        child.kill()?;
        child.wait()?;
        return fails(format!("not at its end after {} s", LIMIT.as_secs()));
    }
    Ok(child.wait()?)
}

/// Waits until a descriptor has something to read, or is at its end. False when time is over.
pub(crate) fn readable(fd: BorrowedFd<'_>, limit: Duration) -> Outcome<bool> {
    let limit = Timespec {
        tv_sec: limit.as_secs() as i64,
        tv_nsec: limit.subsec_nanos().into(),
    };
    loop {
        match poll(
            &mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)],
            Some(&limit),
        ) {
            Err(rustix::io::Errno::INTR) => {}
            ready => return Ok(ready? > 0),
        }
    }
}
