//! `cp`: files into a container and out of it, whether it runs or not.
//!
//! A copy is an archive over a pipe. The container's end is a process in a user namespace with the
//! container's ids, and has the container's root: that of the init, or for one that does not run, a
//! mount in a mount namespace of the process's own. The host's end is the calling process, with the
//! rights of the user. Neither sees a path of the other's side.

mod inside;
mod outside;
mod place;
pub(crate) mod role;

use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use kelp_monitor::Launch;
use kelp_state::{ContainerId, Record, Status, file};
use kelp_sys::clone::Child;
use kelp_sys::process::wait_pidfd;
use rustix::fs::{Mode, OFlags, SeekFrom, seek};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::Signal;

use crate::container::signal::ends_within;
use crate::{Engine, Error, Kind, host, internal};
pub use place::End;
use place::Source;
pub(crate) use place::clean;
use role::{Direction, Incoming, REPLY, ROOT, Reply, Request};

/// How to copy.
#[derive(Clone, Copy, Debug, Default)]
pub struct CopyOptions {
    /// What comes into a container is given to the container's user.
    pub chown: bool,
    /// A directory may replace something else and the other way round.
    pub overwrite: bool,
}

impl Engine {
    /// Copies `from` to `to`, of which at least one is in a container.
    pub fn copy(&self, from: &End, to: &End, options: CopyOptions) -> Result<(), Error> {
        match (from, to) {
            (End::Container(name, path), End::Host(target)) => {
                let (read, mut role) = self.send(name, path, ".")?;
                let source = role.source(path)?;
                let received = outside::Target::find(target, &source, options.overwrite)
                    .and_then(|target| target.receive(read.into()));
                role.end(received)
            }
            (End::Container(name, path), End::Stream) => {
                let top = Path::new(path).file_name().unwrap_or_default();
                let top = match top.to_str() {
                    None | Some("") => ".",
                    Some(top) => top,
                };
                let stdout = rustix::stdio::stdout();
                let request = Direction::Out(top.to_owned());
                self.start(name, path, request, (stdout, 1))?.end(Ok(()))
            }
            (End::Host(path), End::Container(name, target)) => {
                let (fd, source) = outside::open_source(path)?;
                let (read, write) = pipe()?;
                let incoming = incoming(Some(source), options, true);
                let role = self.start(name, target, incoming, (read.as_fd(), 0))?;
                drop(read);
                let sent = outside::send(&fd, File::from(write));
                let what = format!("copy {}", path.display());
                match sent {
                    // The other side has said why it went away.
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => role.end(Ok(())),
                    sent => role.end(sent.map_err(Error::io(what))),
                }
            }
            (End::Stream, End::Container(name, target)) => {
                let stdin = rustix::stdio::stdin();
                self.start(name, target, incoming(None, options, false), (stdin, 0))?
                    .end(Ok(()))
            }
            (End::Container(from, path), End::Container(to, target))
                if self.is_one_at_rest(from, to)? =>
            {
                // Only one process has the root of a container that does not run: one after the other.
                let spool = rustix::fs::open(
                    &self.paths.data,
                    OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC,
                    Mode::RUSR | Mode::WUSR,
                )
                .map_err(Error::io(format!(
                    "make a file in {}",
                    self.paths.data.display()
                )))?;
                let out = Direction::Out(".".to_owned());
                let mut sender = self.start(from, path, out, (spool.as_fd(), 1))?;
                let source = sender.source(path)?;
                sender.end(Ok(()))?;
                seek(&spool, SeekFrom::Start(0)).map_err(Error::io("read a copy"))?;
                let incoming = incoming(Some(source), options, false);
                self.start(to, target, incoming, (spool.as_fd(), 0))?
                    .end(Ok(()))
            }
            (End::Container(from, path), End::Container(to, target)) => {
                let (read, mut sender) = self.send(from, path, ".")?;
                let source = sender.source(path)?;
                let incoming = incoming(Some(source), options, false);
                let receiver = self.start(to, target, incoming, (read.as_fd(), 0))?;
                drop(read);
                receiver.end(sender.end(Ok(())))
            }
            _ => Err(Error::invalid(
                "source or destination must be in a container: CONTAINER:PATH",
            )),
        }
    }

    /// Whether two names are one container's, which does not run.
    fn is_one_at_rest(&self, one: &str, other: &str) -> Result<bool, Error> {
        let id = self.find_container(one)?;
        Ok(id == self.find_container(other)? && self.running_root(&id)?.is_none())
    }

    /// Starts to send from a container.
    fn send(&self, name: &str, path: &str, top: &str) -> Result<(OwnedFd, Role), Error> {
        let (read, write) = pipe()?;
        let direction = Direction::Out(top.to_owned());
        let role = self.start(name, path, direction, (write.as_fd(), 1))?;
        Ok((read, role))
    }

    /// Starts the container's side.
    fn start(
        &self,
        name: &str,
        path: &str,
        mut direction: Direction,
        stream: (BorrowedFd<'_>, i32),
    ) -> Result<Role, Error> {
        let id = self.find_container(name)?;
        let config = self.config(&id)?;
        let map = host::map_of(&config.options.namespaces)?;
        if let Direction::In(incoming) = &mut direction {
            incoming.single = map.is_single();
            incoming.inside = host::user_inside(&map);
        }
        let userns = self.user_namespace(map)?;
        let root = self.running_root(&id)?;
        let request = Request {
            running: root.is_some(),
            path: self.absolute(&id, path)?,
            direction,
        };
        let request =
            serde_json::to_string(&request).map_err(|error| Error::invalid(error.to_string()))?;
        let (read, write) = pipe()?;
        let mut fds = vec![stream, (write.as_fd(), REPLY)];
        fds.extend(root.as_ref().map(|root| (root.as_fd(), ROOT)));
        // It keeps the container from being started, and must not outlive who waits for it.
        let role = ["copy", id.as_str(), &request];
        let child = internal::spawn_until(&role, &userns, fds, Some(Signal::KILL))?;
        Ok(Role {
            child,
            reply: BufReader::new(File::from(read)),
        })
    }

    /// The root of a container that runs, by its init's number, which is the init's as long as its
    /// pidfd says that it lives.
    fn running_root(&self, id: &ContainerId) -> Result<Option<OwnedFd>, Error> {
        match self.status(id)? {
            Status::Running | Status::Paused => {}
            Status::Created | Status::Exited => return Ok(None),
            Status::Stopping => return Err(super::mount::changes(id)),
        }
        let (run, pidfd) = self.init_of(id)?;
        host::check_reach(id, run.pid)?;
        let path = format!("/proc/{}/root", run.pid);
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty())
            .map_err(Error::io("open the container's root"))?;
        if ends_within(&pidfd, Duration::ZERO)? {
            return Err(Error::conflict(format!(
                "container {} has just ended: try again",
                id.short()
            )));
        }
        Ok(Some(root))
    }

    /// A path in a container; one without a slash at its beginning is in the working directory.
    fn absolute(&self, id: &ContainerId, path: &str) -> Result<String, Error> {
        if path.starts_with('/') {
            return Ok(path.to_owned());
        }
        let record = Record::new(&self.paths, id.clone());
        let launch: Launch = file::read_json(&record.data.join("launch.json"))?
            .ok_or_else(|| Error::new(Kind::NotFound, format!("no such container: {id}")))?;
        let process = launch.spec.process().as_ref();
        let directory = process.map_or(Path::new("/"), |process| process.cwd());
        Ok(format!("{}/{path}", directory.display()))
    }
}

fn pipe() -> Result<(OwnedFd, OwnedFd), Error> {
    pipe_with(PipeFlags::CLOEXEC).map_err(Error::io("make a pipe"))
}

fn incoming(source: Option<Source>, options: CopyOptions, from_host: bool) -> Direction {
    let own = (
        rustix::process::getuid().as_raw(),
        rustix::process::getgid().as_raw(),
    );
    Direction::In(Incoming {
        source,
        chown: options.chown,
        overwrite: options.overwrite,
        single: false,
        inside: (0, 0),
        host: from_host.then_some(own),
    })
}

/// The container's side, at work.
struct Role {
    child: Child,
    reply: BufReader<File>,
}

impl Role {
    /// What is at `path`, once the other side has found it.
    fn source(&mut self, path: &str) -> Result<Source, Error> {
        match self.reply()? {
            Reply::Found(directory) => Ok(Source {
                directory,
                contents: place::ending(Path::new(path)).1,
                name: Path::new(path)
                    .file_name()
                    .unwrap_or_default()
                    .to_string_lossy()
                    .into_owned(),
            }),
            Reply::Done => Err(gone()),
            Reply::Failed { missing, text } => Err(failure(missing, text)),
        }
    }

    /// Waits for the end. What this side has failed with comes first, unless the other side's
    /// failure is what it comes from.
    fn end(mut self, own: Result<(), Error>) -> Result<(), Error> {
        let theirs = loop {
            match self.reply() {
                Ok(Reply::Found(_)) => {}
                Ok(Reply::Done) => break Ok(()),
                Ok(Reply::Failed { missing, text }) => break Err(failure(missing, text)),
                Err(error) => break Err(error),
            }
        };
        wait_pidfd(self.child.pidfd.as_fd()).map_err(Error::io("wait for the copy"))?;
        match (own, theirs) {
            (Err(own), Ok(())) => Err(own),
            // This side went away, and the other side could not write on.
            (Err(own), Err(theirs)) if theirs.line().ends_with("broken pipe") => Err(own),
            (_, theirs) => theirs,
        }
    }

    fn reply(&mut self) -> Result<Reply, Error> {
        let mut line = String::new();
        self.reply
            .read_line(&mut line)
            .map_err(Error::io("hear from the copy"))?;
        serde_json::from_str(&line).map_err(|_| gone())
    }
}

fn gone() -> Error {
    Error::new(Kind::Failed, "the process that copies ended without a word")
}

fn failure(missing: bool, text: String) -> Error {
    let kind = if missing {
        Kind::NotFound
    } else {
        Kind::Failed
    };
    Error::new(kind, text)
}

#[cfg(test)]
mod tests;
