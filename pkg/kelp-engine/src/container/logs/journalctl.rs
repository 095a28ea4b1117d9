//! `journalctl`, by which the journal is read: its library is C, and nothing else reads its files.

use std::borrow::Cow;
use std::io::{self, Read as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, ChildStderr, ChildStdout, Command, Stdio};
use std::time::SystemTime;

use kelp_monitor::attach::Connection;
use kelp_monitor::log::{END, OF};
use kelp_state::ContainerId;
use kelp_userns::own;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::process::getuid;

use super::export::{Entry, Parser};
use crate::{Error, Kind};

/// Where it begins to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Begin {
    /// With the oldest entry.
    Oldest,
    /// With the oldest of this time or later.
    Time(SystemTime),
    /// With this one.
    Entry(String),
    /// After this one.
    After(String),
    /// With the newest, and back from there.
    Newest,
}

/// What came of waiting.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// An entry.
    Entry(Entry),
    /// There is no further one now, and something else has happened: the descriptor is readable.
    Other,
    /// There is none, and the time has come.
    Late,
    /// There will be none.
    End,
}

/// One that runs. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Journalctl {
    arguments: Vec<String>,
    child: Child,
    output: ChildStdout,
    errors: ChildStderr,
    /// What it has said on standard error.
    said: Vec<u8>,
    /// How often it may be started again.
    tries: u32,
    parser: Parser,
}

/// How often it is started until it finds the journal's files in order.
const TRIES: u32 = 50;

/// What it says of a file to which journald was adding room just then; it goes on without that file.
const PASSED_OVER: &str = "is truncated, ignoring file";

/// Which entries.
#[derive(Clone, Copy, Debug)]
pub(super) enum Of<'a> {
    /// A container's output, and the ends of its runs.
    Container(&'a ContainerId),
    /// The end of this run.
    Run(&'a ContainerId, &'a str),
}

impl Journalctl {
    /// Starts it; with `follow` it goes on until it is dropped.
    pub(super) fn start(of: Of<'_>, from: &Begin, follow: bool) -> Result<Self, Error> {
        let arguments = arguments(of, from, follow);
        let (child, output, errors) = spawn(&arguments)?;
        Ok(Self {
            arguments,
            child,
            output,
            errors,
            said: Vec::new(),
            tries: TRIES,
            parser: Parser::default(),
        })
    }

    /// The next entry that is there already.
    pub(super) fn take(&mut self) -> Option<Entry> {
        self.parser.next()
    }

    /// Waits for the next entry, for what `monitor` says, or for a time.
    pub(super) fn next(
        &mut self,
        monitor: Option<&Connection>,
        until: Option<SystemTime>,
    ) -> Result<Next, Error> {
        loop {
            if let Some(entry) = self.take() {
                return Ok(Next::Entry(entry));
            }
            let woken = self.wait(monitor.map(AsFd::as_fd), until)?;
            // It speaks of files before it writes of what is in them.
            if self.hears_of_trouble() && self.tries > 0 {
                self.restart()?;
                continue;
            }
            match woken {
                // What is there is read first.
                Woken { output: true, .. } => {
                    if !self.read()? {
                        self.check()?;
                        return Ok(Next::End);
                    }
                }
                Woken { other: true, .. } => return Ok(Next::Other),
                Woken { errors: true, .. } => {}
                Woken { .. } => return Ok(Next::Late),
            }
        }
    }

    /// Whether the next call of [`Self::next`] would wait.
    pub(super) fn is_idle(&self) -> bool {
        !self.parser.has_entry() && !kelp_sys::fd::has_input(self.output.as_fd())
    }

    fn wait(
        &self,
        other: Option<BorrowedFd<'_>>,
        until: Option<SystemTime>,
    ) -> Result<Woken, Error> {
        let mut fds = vec![PollFd::new(&self.output, PollFlags::IN)];
        fds.push(PollFd::new(&self.errors, PollFlags::IN));
        fds.extend(other.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        loop {
            let left = until.map(|time| {
                let left = time.duration_since(SystemTime::now()).unwrap_or_default();
                Timespec {
                    tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
                    tv_nsec: left.subsec_nanos().into(),
                }
            });
            match poll(&mut fds, left.as_ref()) {
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(error) => return Err(Error::io("wait for the journal")(error)),
            }
        }
        let mut ready = fds.iter().map(|fd| !fd.revents().is_empty());
        Ok(Woken {
            output: ready.next().unwrap_or(false),
            errors: ready.next().unwrap_or(false),
            other: ready.next().unwrap_or(false),
        })
    }

    /// Reads what is there; whether there may be more.
    fn read(&mut self) -> Result<bool, Error> {
        match self.parser.read(&mut self.output) {
            Ok(count) => Ok(count > 0),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(true),
                _ => Err(Error::io("read what journalctl writes")(error)),
            },
        }
    }

    /// Whether it has passed over a file, and nothing was read yet.
    fn hears_of_trouble(&mut self) -> bool {
        // Until there is no more for now.
        let _ = self.errors.read_to_end(&mut self.said);
        !self.parser.has_begun() && self.text().contains(PASSED_OVER)
    }

    fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.said)
    }

    /// Starts it once more.
    fn restart(&mut self) -> Result<(), Error> {
        self.stop();
        (self.child, self.output, self.errors) = spawn(&self.arguments)?;
        self.said.clear();
        self.tries -= 1;
        Ok(())
    }

    /// Says why it has ended, if that was not in order.
    fn check(&mut self) -> Result<(), Error> {
        let status = self
            .child
            .wait()
            .map_err(Error::io("wait for journalctl"))?;
        if status.success() {
            return Ok(());
        }
        let _ = self.errors.read_to_end(&mut self.said);
        let said = self.text();
        let why = said.lines().next().unwrap_or_default();
        let why = why.trim_end_matches('.');
        let hint = if why.contains("insufficient permissions") {
            ": without Storage=persistent in journald.conf(5) its readers are the group systemd-journal"
        } else {
            ""
        };
        Err(Error::new(
            Kind::Failed,
            format!("journalctl has failed ({status}): {why}{hint}"),
        ))
    }

    fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Journalctl {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Woken {
    output: bool,
    errors: bool,
    other: bool,
}

/// Starts it, with what it writes and what it says to be read without waiting.
fn spawn(arguments: &[String]) -> Result<(Child, ChildStdout, ChildStderr), Error> {
    let what = "start journalctl";
    let mut command = Command::new("journalctl");
    command.args(arguments).stdin(Stdio::null());
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Error::new(
            Kind::Failed,
            "journalctl is not there, by which output in the journal is read: install it, it comes with \
             systemd",
        ),
        _ => Error::io(what)(error),
    })?;
    let pipes = child.stdout.take().zip(child.stderr.take());
    let (output, errors) = pipes.ok_or_else(|| Error::io(what)(Errno::BADF))?;
    ioctl_fionbio(&output, true).map_err(Error::io(what))?;
    ioctl_fionbio(&errors, true).map_err(Error::io(what))?;
    Ok((child, output, errors))
}

fn arguments(of: Of<'_>, from: &Begin, follow: bool) -> Vec<String> {
    let mut arguments: Vec<_> = ["--quiet", "--no-pager", "--all", "--output=export"]
        .map(str::to_owned)
        .into();
    let mut fields = vec!["PRIORITY", "CONTAINER_PARTIAL_MESSAGE", OF, END];
    if *from != Begin::Newest {
        fields.push("MESSAGE");
    }
    arguments.push(format!("--output-fields={}", fields.join(",")));
    match from {
        Begin::Oldest => {}
        Begin::Time(time) => {
            let since = time.duration_since(SystemTime::UNIX_EPOCH);
            let seconds = since.unwrap_or_default().as_secs();
            arguments.push(format!("--since=@{seconds}"));
        }
        Begin::Entry(cursor) => arguments.push(format!("--cursor={cursor}")),
        Begin::After(cursor) => arguments.push(format!("--after-cursor={cursor}")),
        Begin::Newest => arguments.push("--reverse".to_owned()),
    }
    if follow {
        arguments.extend(["--follow", "--no-tail"].map(str::to_owned));
    }
    let senders = senders();
    match of {
        Of::Container(id) => {
            arguments.push(format!("CONTAINER_ID_FULL={id}"));
            arguments.extend(senders.clone());
            arguments.push("+".to_owned());
            arguments.push(format!("{OF}={id}"));
        }
        Of::Run(id, mark) => {
            arguments.push(format!("{OF}={id}"));
            arguments.push(format!("{END}={mark}"));
        }
    }
    arguments.extend(senders);
    arguments
}

/// Whose entries are believed: anybody can write to the journal, and the kernel tells it who does. For root
/// of a user namespace the journal may be in it or outside.
fn senders() -> Vec<String> {
    let mut users = vec![own::ids().0, getuid().as_raw()];
    users.dedup();
    users.iter().map(|user| format!("_UID={user}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_for_is_a_containers_own() {
        let id: ContainerId = "a".repeat(64).parse().unwrap();
        let of = Of::Container(&id);
        let words = arguments(of, &Begin::Entry("c".to_owned()), true);
        let user = format!("_UID={}", getuid().as_raw());
        let asked: Vec<_> = words.iter().rev().take(5).rev().collect();
        assert_eq!(
            asked,
            [
                &format!("CONTAINER_ID_FULL={id}"),
                &user,
                "+",
                &format!("{OF}={id}"),
                &user
            ]
        );
        assert!(words.contains(&"--cursor=c".to_owned()));
        assert!(words.contains(&"--no-tail".to_owned()));
    }
}
