//! The other side of the monitor's socket: starting, attaching, asking.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use kelp_runtime::console::Size;
use kelp_runtime::foreign::Stage;
use kelp_runtime::sockets::Sockets;
use kelp_state::Health;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with,
};
use rustix::process::{PidfdFlags, pidfd_open};

use crate::error::Error;
use crate::log::Stream;
use crate::protocol::{Reply, Request, Streams, receive, send};
use crate::role::SOCKET_NAME;

/// A connection to a container's monitor.
#[derive(Debug)]
pub struct Connection {
    socket: OwnedFd,
}

/// Ends of pipes for the streams to attach.
#[derive(Debug, Default)]
pub struct Pipes {
    /// The monitor reads the container's input from it.
    pub stdin: Option<OwnedFd>,
    /// The monitor writes the container's output to it.
    pub stdout: Option<OwnedFd>,
    /// The monitor writes the container's complaints to it.
    pub stderr: Option<OwnedFd>,
    /// That of the terminal that a container is started with.
    pub size: Option<Size>,
    /// How many descriptors of this process after standard error the program is started with.
    pub preserved_fds: u16,
    /// Which of them are sockets that somebody has opened for it.
    pub sockets: Option<Sockets>,
    /// Whether whoever starts it was asked for this container, and not for one that needs it.
    pub is_main: bool,
}

/// What a monitor says when the program has ended.
#[derive(Debug)]
pub enum Last {
    /// What the program wrote at last and the pipe had no room for, to be read after the pipe.
    Rest(Stream, OwnedFd),
    /// The code.
    Exited(i32),
}

impl Pipes {
    fn streams(&self) -> Streams {
        Streams {
            stdin: self.stdin.is_some(),
            stdout: self.stdout.is_some(),
            stderr: self.stderr.is_some(),
            size: self.size,
        }
    }

    fn fds(&self) -> Vec<BorrowedFd<'_>> {
        [&self.stdin, &self.stdout, &self.stderr]
            .into_iter()
            .flatten()
            .map(AsFd::as_fd)
            .collect()
    }
}

/// How long it may take until a monitor has let in those who came first.
const QUEUE: Duration = Duration::from_secs(5);

/// How long a monitor may take to answer.
const ANSWER: Timespec = Timespec {
    tv_sec: 2,
    tv_nsec: 0,
};

/// The same of one that has nothing else to do: until it is taken to be stopped.
const PATIENCE: Timespec = Timespec {
    tv_sec: 10,
    tv_nsec: 0,
};

impl Connection {
    /// Over one end of the pair whose other end a new monitor was given.
    pub fn new(socket: OwnedFd) -> Self {
        Self { socket }
    }

    /// To the monitor of the container with this runtime directory.
    ///
    /// # Errors
    /// Also if as many as may wait for the monitor do, and it lets none of them in for a while.
    pub fn open(runtime: &Path) -> io::Result<Self> {
        // Through the directory's descriptor: a socket's path has at most 108 bytes (unix(7)).
        let directory = open(
            runtime,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )?;
        let path = format!(
            "/proc/self/fd/{}/{SOCKET_NAME}",
            kelp_sys::spawn::number(directory.as_fd())
        );
        let socket = socket_with(
            AddressFamily::UNIX,
            SocketType::SEQPACKET,
            SocketFlags::CLOEXEC,
            None,
        )?;
        // That is how long connect(2) waits at a full queue (socket(7), unix(7)).
        set_socket_timeout(&socket, Timeout::Send, Some(QUEUE))?;
        match connect(&socket, &SocketAddrUnix::new(path)?) {
            Err(Errno::AGAIN) => {
                let text = "it does not answer, and too many wait for that already";
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            connected => connected?,
        }
        set_socket_timeout(&socket, Timeout::Send, None)?;
        Ok(Self { socket })
    }

    /// Tells a new monitor to start its container with these streams attached. The ends given are
    /// closed here, so that the container's end of file gets through.
    pub fn send_start(&self, pipes: Pipes) -> Result<(), Error> {
        let request = Request::Start(pipes.streams());
        let sent = send(self.socket.as_fd(), &request, &pipes.fds());
        drop(pipes);
        sent.map_err(|_| Error::MonitorGone)
    }

    /// Waits until the program runs; the init's process id, and why the service manager could not be told so.
    pub fn started(&self) -> Result<(u32, Option<String>), Error> {
        match self.reply()? {
            Reply::Started { pid, untold } => Ok((pid, untold)),
            Reply::Failed { kind, text } => Err(Error::Failed { kind, text }),
            Reply::Done
            | Reply::Rest(_)
            | Reply::Stage { .. }
            | Reply::Checked { .. }
            | Reply::Exited { .. } => Err(Error::MonitorGone),
        }
    }

    /// Attaches streams.
    pub fn attach(&self, pipes: Pipes) -> Result<(), Error> {
        let request = Request::Attach(pipes.streams());
        send(self.socket.as_fd(), &request, &pipes.fds()).map_err(|_| Error::MonitorGone)?;
        drop(pipes);
        match self.answer()? {
            Reply::Failed { kind, text } => Err(Error::Failed { kind, text }),
            Reply::Done => Ok(()),
            // It has ended, and had heard nothing of this.
            _ => Err(Error::MonitorGone),
        }
    }

    /// Tells the size of the terminal.
    pub fn resize(&self, size: Size) {
        let _ = send(self.socket.as_fd(), &Request::Resize(size), &[]);
    }

    /// Tells that the container is paused, or goes on. What was not answered may be heard later all the same.
    pub fn paused(&self, paused: bool) -> Result<(), Error> {
        send(self.socket.as_fd(), &Request::Paused(paused), &[]).map_err(|_| Error::MonitorGone)?;
        self.answer().map(drop)
    }

    /// Takes back what was told and not answered.
    pub fn not_paused(&self) {
        let _ = send(self.socket.as_fd(), &Request::Paused(false), &[]);
    }

    /// Tells that the limits of what runs have changed, and waits until that is heard, for a while. A
    /// monitor that does not understand it hangs up.
    pub fn updated(&self) {
        self.tell(Request::Updated);
    }

    /// Has what the last health checks have found written down, in the same way.
    pub fn write_health(&self) {
        self.tell(Request::WriteHealth);
    }

    fn tell(&self, request: Request) {
        let sent = send(self.socket.as_fd(), &request, &[]);
        let mut answered = [PollFd::new(&self.socket, PollFlags::IN)];
        if sent.is_ok() {
            let _ = poll(&mut answered, Some(&ANSWER));
        }
    }

    /// Has a health check made, and waits for its result: whether it was passed, and the state after it.
    pub fn check(&self) -> Result<(bool, Health), Error> {
        // A check may take as long as it likes. What is answered at once tells whether anybody is there.
        send(self.socket.as_fd(), &Request::WriteHealth, &[]).map_err(|_| Error::MonitorGone)?;
        self.answer()?;
        send(self.socket.as_fd(), &Request::Check, &[]).map_err(|_| Error::MonitorGone)?;
        match self.reply()? {
            Reply::Checked { passed, health } => Ok((passed, health)),
            Reply::Failed { kind, text } => Err(Error::Failed { kind, text }),
            _ => Err(Error::MonitorGone),
        }
    }

    /// Where the runtime that has made the container is called: its stage, and the user namespace.
    pub fn stage(&self) -> Result<(Stage, OwnedFd), Error> {
        send(self.socket.as_fd(), &Request::Stage, &[]).map_err(|_| Error::MonitorGone)?;
        let reply = receive::<Reply>(self.socket.as_fd(), RecvFlags::empty());
        match reply.ok().flatten() {
            Some((Reply::Stage { place }, fds)) => {
                let [stage, user] = fds.try_into().map_err(|_| Error::MonitorGone)?;
                Ok((Stage::new(stage, place), user))
            }
            Some((Reply::Failed { kind, text }, _)) => Err(Error::Failed { kind, text }),
            _ => Err(Error::MonitorGone),
        }
    }

    /// A pidfd of the monitor; `None` if it is gone.
    pub fn monitor(&self) -> io::Result<Option<OwnedFd>> {
        let peer = rustix::net::sockopt::socket_peercred(&self.socket)?;
        let pidfd = match pidfd_open(peer.pid, PidfdFlags::empty()) {
            Err(Errno::SRCH) => return Ok(None),
            result => result?,
        };
        // Looked at after the pidfd was opened: whoever has the number, and the other end of the
        // connection open, is the monitor.
        let mut ends = [PollFd::new(&self.socket, PollFlags::empty())];
        poll(&mut ends, Some(&Timespec::default()))?;
        Ok((!ends[0].revents().contains(PollFlags::HUP)).then_some(pidfd))
    }

    /// Asks for the same as [`Connection::stop`], without waiting for the answer of a monitor that
    /// may be busy.
    pub fn ask_to_stop(&self) {
        let _ = send(self.socket.as_fd(), &Request::Stop, &[]);
    }

    /// Tells that the container is about to be stopped, and to stay so; whether that was heard. It is
    /// not where the program ends at the same moment: then the monitor hangs up. One that does not answer
    /// will have heard it when it does.
    pub fn stop(&self) -> bool {
        let sent = send(self.socket.as_fd(), &Request::Stop, &[]);
        let mut answered = [PollFd::new(&self.socket, PollFlags::IN)];
        if sent.is_ok() && matches!(poll(&mut answered, Some(&ANSWER)), Ok(0)) {
            return true;
        }
        sent.is_ok() && matches!(self.reply(), Ok(Reply::Done))
    }

    /// The code, once the container has ended; `None` if the monitor went away without a word.
    pub fn exited(&self) -> Result<Option<i32>, Error> {
        loop {
            match self.last()? {
                Some(Last::Rest(..)) => {}
                Some(Last::Exited(code)) => return Ok(Some(code)),
                None => return Ok(None),
            }
        }
    }

    /// What comes at the end, one after the other; `None` if the monitor went away without a word.
    ///
    /// # Errors
    /// Also if the monitor has let go of this client while the program goes on.
    pub fn last(&self) -> Result<Option<Last>, Error> {
        loop {
            match receive::<Reply>(self.socket.as_fd(), RecvFlags::empty())
                .map_err(Error::io("hear from the monitor"))?
            {
                Some((Reply::Exited { code }, _)) => return Ok(Some(Last::Exited(code))),
                Some((Reply::Rest(stream), fds)) => {
                    if let Some(fd) = fds.into_iter().next() {
                        return Ok(Some(Last::Rest(stream, fd)));
                    }
                }
                Some((Reply::Failed { kind, text }, _)) => {
                    return Err(Error::Failed { kind, text });
                }
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }

    /// The reply of a monitor that has nothing to wait for.
    ///
    /// # Errors
    /// [`Error::MonitorSilent`] where none comes.
    fn answer(&self) -> Result<Reply, Error> {
        let mut answered = [PollFd::new(&self.socket, PollFlags::IN)];
        match rustix::io::retry_on_intr(|| poll(&mut answered, Some(&PATIENCE))) {
            Ok(0) => Err(Error::MonitorSilent),
            _ => self.reply(),
        }
    }

    fn reply(&self) -> Result<Reply, Error> {
        receive::<Reply>(self.socket.as_fd(), RecvFlags::empty())
            .ok()
            .flatten()
            .map(|(reply, _)| reply)
            .ok_or(Error::MonitorGone)
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
