//! The poll loop: output, input, clients, and the end.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use kelp_state::{Record, RunRecord};
use kelp_sys::process::{Exit, wait_pidfd};
use kelp_sys::signal::{pidfd_send, read_signal};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::ioctl_fionbio;
use rustix::net::{RecvFlags, SocketFlags, accept_with};
use rustix::process::{Signal, pidfd_send_signal};

use crate::log::LogWriter;
use crate::protocol::{Reply, Request, Streams, receive, send};
use crate::restart::timespec;
use crate::start::{Running, set_size};
use crate::stream::Turn;

/// A connection to the monitor's socket.
#[derive(Debug)]
struct Client {
    number: u64,
    socket: OwnedFd,
}

/// A container being watched.
#[derive(Debug)]
pub(crate) struct Watch<'a> {
    running: Running,
    log: &'a mut LogWriter,
    record: &'a Record,
    run: RunRecord,
    listener: &'a OwnedFd,
    clients: Vec<Client>,
    next_number: u64,
    buffer: Vec<u8>,
    /// When it is killed.
    deadline: Option<Instant>,
    timed_out: bool,
    stopped: bool,
    asked: Asked<'a>,
}

/// How the container ends when the monitor is asked to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// Where the request arrives.
    pub(crate) signals: &'a OwnedFd,
    /// What the program gets first.
    pub(crate) signal: i32,
    /// Until it is killed.
    pub(crate) timeout: Duration,
}

/// What is left after the end, and what was seen.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) running: Running,
    pub(crate) clients: Vec<OwnedFd>,
    /// Whether it was killed because its time was over.
    pub(crate) timed_out: bool,
    /// Whether it is not to be started again.
    pub(crate) stopped: bool,
}

/// What a descriptor of the poll set stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Child,
    Listener,
    Signals,
    Client(u64),
    Output(usize),
    /// A client's pipe that an output waits for.
    OutputRoom(usize),
    Input,
    /// The container's pipe that the input waits for.
    InputRoom,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(
        running: Running,
        log: &'a mut LogWriter,
        record: &'a Record,
        run: RunRecord,
        listener: &'a OwnedFd,
        asked: Asked<'a>,
    ) -> Self {
        Self {
            running,
            log,
            record,
            run,
            listener,
            clients: Vec::new(),
            next_number: 0,
            buffer: Vec::new(),
            deadline: None,
            timed_out: false,
            stopped: false,
            asked,
        }
    }

    /// Kills the program if it runs for longer than this from now on.
    pub(crate) fn end_after(&mut self, time: Option<Duration>) {
        self.deadline = time.and_then(|time| Instant::now().checked_add(time));
    }

    /// Adds whoever started the container, with the streams that came along.
    pub(crate) fn adopt(&mut self, socket: OwnedFd, streams: Streams, fds: Vec<OwnedFd>) {
        let number = self.add_client(socket);
        self.attach(number, streams, fds);
    }

    /// Watches until the program has ended and its output has been moved.
    pub(crate) fn run(&mut self) -> io::Result<Exit> {
        loop {
            for source in self.wait()? {
                match source {
                    Source::Child => {
                        let exit = wait_pidfd(self.running.child.pidfd.as_fd())?;
                        self.drain()?;
                        return Ok(exit);
                    }
                    Source::Listener => self.accept(),
                    Source::Signals => self.begin_stop()?,
                    Source::Client(number) => self.hear(number),
                    Source::Output(index) | Source::OutputRoom(index) => self.output(index)?,
                    Source::Input | Source::InputRoom => self.running.input.turn()?,
                }
            }
            self.running.outputs.retain(|output| !output.ended);
        }
    }

    /// The container that has ended, for the clean-up.
    pub(crate) fn into_seen(self) -> Seen {
        let sockets = self.clients.into_iter().map(|client| client.socket);
        Seen {
            running: self.running,
            clients: sockets.collect(),
            timed_out: self.timed_out,
            stopped: self.stopped,
        }
    }

    fn time_out(&mut self) {
        self.deadline = None;
        self.timed_out = !self.stopped;
        if let Some(cgroup) = &self.running.cgroup {
            let _ = cgroup.kill();
        }
        // With the first process go all others, unless they are in the host's namespace.
        let _ = pidfd_send_signal(&self.running.child.pidfd, Signal::KILL);
    }

    fn wait(&mut self) -> io::Result<Vec<Source>> {
        let running = &self.running;
        let mut sources = vec![Source::Child, Source::Listener, Source::Signals];
        let mut fds = vec![
            PollFd::new(&running.child.pidfd, PollFlags::IN),
            PollFd::new(self.listener, PollFlags::IN),
            PollFd::new(self.asked.signals, PollFlags::IN),
        ];
        for client in &self.clients {
            sources.push(Source::Client(client.number));
            fds.push(PollFd::new(&client.socket, PollFlags::IN));
        }
        for (index, output) in running.outputs.iter().enumerate() {
            match output.clients.first() {
                Some((_, client)) if output.blocked => {
                    sources.push(Source::OutputRoom(index));
                    fds.push(PollFd::new(client, PollFlags::OUT));
                }
                _ => {
                    sources.push(Source::Output(index));
                    fds.push(PollFd::new(&output.source, PollFlags::IN));
                }
            }
        }
        if let (Some((_, client)), Some(sink)) = (&running.input.client, &running.input.sink) {
            if running.input.blocked {
                sources.push(Source::InputRoom);
                fds.push(PollFd::new(sink, PollFlags::OUT));
            } else {
                sources.push(Source::Input);
                fds.push(PollFd::new(client, PollFlags::IN));
            }
        }
        let left = self
            .deadline
            .map(|deadline| timespec(deadline.saturating_duration_since(Instant::now())));
        match poll(&mut fds, left.as_ref()) {
            Ok(0) => {
                self.time_out();
                return Ok(Vec::new());
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let ready = fds.iter().map(|fd| !fd.revents().is_empty());
        let mut ready: Vec<_> = sources
            .into_iter()
            .zip(ready)
            .filter_map(|(source, ready)| ready.then_some(source))
            .collect();
        // The end comes last: what arrived together with it is moved first.
        ready.sort_by_key(|source| *source == Source::Child);
        Ok(ready)
    }

    /// The monitor is asked to end, by systemd with its unit, or by a person: the container ends
    /// first, and by the book.
    fn begin_stop(&mut self) -> io::Result<()> {
        while read_signal(self.asked.signals.as_fd())?.is_some() {
            let _ = pidfd_send(self.running.child.pidfd.as_fd(), self.asked.signal);
            self.stopped = true;
            // Said again, it does not last longer.
            let end = Instant::now().checked_add(self.asked.timeout);
            self.deadline = [self.deadline, end].into_iter().flatten().min();
        }
        Ok(())
    }

    fn output(&mut self, index: usize) -> io::Result<()> {
        let Some(output) = self.running.outputs.get_mut(index) else {
            return Ok(());
        };
        match output.turn(self.log, &mut self.buffer)? {
            Turn::Idle if !output.blocked => self.rest(),
            Turn::Moved | Turn::Idle => {}
            Turn::Ended => output.ended = true,
        }
        Ok(())
    }

    /// Gives the memory of a burst back before a sleep that may last.
    fn rest(&mut self) {
        self.buffer = Vec::new();
        self.log.rest();
    }

    /// Moves what the program wrote before it ended. Processes that it left in a pid namespace of
    /// the host may hold the pipes open: what is there is moved, what may come is not waited for.
    fn drain(&mut self) -> io::Result<()> {
        for output in &mut self.running.outputs {
            loop {
                match output.turn(self.log, &mut self.buffer)? {
                    Turn::Moved => {}
                    Turn::Idle if output.blocked => {
                        // The client is slow, not gone: it gets everything.
                        let (_, client) = &output.clients[0];
                        poll(&mut [PollFd::new(client, PollFlags::OUT)], None)?;
                    }
                    Turn::Ended | Turn::Idle => break,
                }
            }
            output.clients.clear();
        }
        let _ = self.log.finish();
        Ok(())
    }

    fn accept(&mut self) {
        if let Ok(socket) = accept_with(self.listener, SocketFlags::CLOEXEC) {
            // The directory is closed to others; the peer is looked at all the same.
            let peer = rustix::net::sockopt::socket_peercred(&socket);
            if peer.is_ok_and(|peer| peer.uid == rustix::process::getuid()) {
                self.add_client(socket);
            }
        }
    }

    fn add_client(&mut self, socket: OwnedFd) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        self.clients.push(Client { number, socket });
        number
    }

    fn hear(&mut self, number: u64) {
        let Some(client) = self.clients.iter().find(|client| client.number == number) else {
            return;
        };
        match receive::<Request>(client.socket.as_fd(), RecvFlags::DONTWAIT) {
            Ok(Some((request, fds))) => {
                self.answer(number, request, fds);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Ok(None) | Err(_) => self.leave(number),
        }
    }

    fn answer(&mut self, number: u64, request: Request, fds: Vec<OwnedFd>) {
        match request {
            Request::Start(_) => return self.leave(number),
            Request::Attach(streams) => self.attach(number, streams, fds),
            Request::Resize { rows, columns } => {
                if let Some(terminal) = &self.running.terminal {
                    let _ = set_size(terminal, (rows, columns));
                }
                // A resize is not answered: it comes from a signal handler's loop.
                return;
            }
            Request::Stop => self.stopped = true,
            Request::Paused(paused) => {
                self.run.paused = paused;
                let _ = self.record.write_run(&self.run);
            }
        }
        if let Some(client) = self.clients.iter().find(|client| client.number == number) {
            let _ = send(client.socket.as_fd(), &Reply::Done, &[]);
        }
    }

    fn attach(&mut self, number: u64, streams: Streams, fds: Vec<OwnedFd>) {
        let mut fds = fds.into_iter();
        if streams.stdin
            && let Some(fd) = fds.next()
        {
            let _ = ioctl_fionbio(&fd, true);
            if self.running.input.sink.is_some() {
                self.running.input.client = Some((number, fd));
            }
        }
        for (wanted, stream) in [
            (streams.stdout, crate::log::Stream::Stdout),
            (streams.stderr, crate::log::Stream::Stderr),
        ] {
            let Some(fd) = wanted.then(|| fds.next()).flatten() else {
                continue;
            };
            let _ = ioctl_fionbio(&fd, true);
            for output in &mut self.running.outputs {
                if output.stream == stream
                    && let Ok(fd) = fd.try_clone()
                {
                    output.clients.push((number, fd));
                }
            }
        }
    }

    fn leave(&mut self, number: u64) {
        self.clients.retain(|client| client.number != number);
        for output in &mut self.running.outputs {
            output.drop_client(number);
            output.blocked = false;
        }
        let input = &mut self.running.input;
        if input
            .client
            .as_ref()
            .is_some_and(|(other, _)| *other == number)
        {
            // Who detaches leaves the input open for the next one.
            input.client = None;
            input.blocked = false;
        }
    }
}
