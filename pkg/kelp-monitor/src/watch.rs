//! The poll loop: output, input, clients, and the end.
//!
//! It waits in poll(2) and nowhere else: whatever a client does not read, the socket, the signals
//! and the time are attended to.

mod checks;
mod exiting;

use std::fs::File;
use std::io::{self, Seek, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use kelp_runtime::cgroup::OomKills;
use kelp_state::{HealthRecord, Paths, Record, RunRecord};
use kelp_sys::process::{Exit, wait_pidfd};
use kelp_sys::signal::{pidfd_send, read_signal};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::io::ioctl_fionbio;
use rustix::net::RecvFlags;
use rustix::process::{Signal, pidfd_send_signal};

use crate::door::Door;
use crate::finish::{current_name, note};
use crate::health::Checks;
use crate::launch::Launch;
use crate::log::{LogWriter, Stream};
use crate::notify::Notify;
use crate::notify::proxy::Proxy;
use crate::protocol::{FailureKind, Reply, Request, Streams, receive, send};
use crate::restart::timespec;
use crate::start::Running;
use crate::stream::{CHUNK, Reader, Turn};
use exiting::is_exiting;

/// For how long a client may hold up a program that it has not started.
const PATIENCE: Duration = Duration::from_secs(10);

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
    of: Subject<'a>,
    run: RunRecord,
    oom_kills: OomKills,
    door: Door<'a>,
    clients: Vec<Client>,
    /// Who started the container.
    starter: Option<u64>,
    next_number: u64,
    buffer: Vec<u8>,
    /// Whether it was full a moment ago.
    burst: bool,
    /// When it is killed.
    deadline: Option<Instant>,
    timed_out: bool,
    /// Whether somebody wants it to stay ended.
    stopped: bool,
    /// Whether the monitor is to end, as at the end of its unit or of a session.
    ends: bool,
    /// Whether it is to be started again whatever its restart policy says.
    again: bool,
    /// Why it was ended, where that was not asked for.
    ended_because: &'static str,
    checks: Option<Checks>,
    /// How the service manager is to be told, once, that the container is healthy.
    unready: Option<Notify>,
    asked: Asked<'a>,
    /// When the program was seen to be on its way out.
    exits_since: Option<Instant>,
    /// How the program has ended, once the log alone is waited for.
    exit: Option<Exit>,
}

/// Which container it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) paths: &'a Paths,
    pub(crate) record: &'a Record,
    pub(crate) launch: &'a Launch,
    /// Through which its program speaks to the service manager.
    pub(crate) proxy: Option<&'a Proxy>,
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
    /// When the program ended.
    pub(crate) ended: Instant,
    /// Whether it was killed because its time was over.
    pub(crate) timed_out: bool,
    /// Whether somebody wants it to stay ended.
    pub(crate) stopped: bool,
    /// Whether the monitor is to end: the container is not started again by this one.
    pub(crate) ends: bool,
    /// Whether it is to be started again whatever its restart policy says.
    pub(crate) again: bool,
    /// Why it was ended, where that was not asked for.
    pub(crate) ended_because: &'static str,
    /// Whether the kernel killed a process of it for memory, in this run or before it.
    pub(crate) oom_killed: bool,
    /// What its health checks have found.
    pub(crate) health: Option<HealthRecord>,
    /// How the service manager is still to be told that it is healthy.
    pub(crate) unready: Option<Notify>,
}

/// What a descriptor of the poll set stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Child,
    Listener,
    Signals,
    Memory,
    Check,
    Proxy,
    Client(u64),
    /// An output, or a client's pipe that it waits for.
    Output(usize),
    /// A client's input, or the container's pipe that it waits for.
    Input,
    /// The log, which takes more.
    Log,
}

impl<'a> Watch<'a> {
    pub(crate) fn new(
        running: Running,
        log: &'a mut LogWriter,
        of: Subject<'a>,
        run: RunRecord,
        listener: &'a OwnedFd,
        asked: Asked<'a>,
    ) -> Self {
        Self {
            oom_kills: OomKills::of(running.cgroup.get()),
            running,
            log,
            of,
            run,
            door: Door::new(listener),
            clients: Vec::new(),
            starter: None,
            next_number: 0,
            buffer: Vec::new(),
            burst: false,
            deadline: None,
            timed_out: false,
            stopped: false,
            ends: false,
            again: false,
            ended_because: "",
            checks: None,
            unready: None,
            asked,
            exits_since: None,
            exit: None,
        }
    }

    /// Kills the program if it runs for longer than this from now on.
    pub(crate) fn end_after(&mut self, time: Option<Duration>) {
        self.deadline = time.and_then(|time| Instant::now().checked_add(time));
    }

    /// Adds whoever started the container, with the streams that came along.
    pub(crate) fn adopt(&mut self, socket: OwnedFd, streams: Streams, fds: Vec<OwnedFd>) {
        let _ = ioctl_fionbio(&socket, true);
        let number = self.add_client(socket);
        self.starter = Some(number);
        self.attach(number, streams, fds);
    }

    /// Watches until the program has ended and its output has been moved.
    pub(crate) fn run(&mut self) -> io::Result<Exit> {
        loop {
            for source in self.wait()? {
                match source {
                    Source::Child => {
                        let exit = wait_pidfd(self.running.child.pidfd.as_fd())?;
                        // Both may have come at once: systemd signals all of a unit, the program as well.
                        self.look_at_the_memory();
                        self.begin_stop()?;
                        self.drain()?;
                        self.end_checks();
                        self.exit = Some(exit);
                        self.exits_since.get_or_insert_with(Instant::now);
                        // It has ended in time, however long its log takes.
                        self.deadline = None;
                    }
                    Source::Listener => {
                        if let Some(socket) = self.door.accept() {
                            self.add_client(socket);
                        }
                    }
                    Source::Signals => self.begin_stop()?,
                    Source::Memory => self.look_at_the_memory(),
                    Source::Check => self.hear_of_health(),
                    Source::Proxy => self.of.proxy.into_iter().for_each(Proxy::turn),
                    Source::Client(number) => self.hear(number),
                    Source::Output(index) => self.output(index)?,
                    Source::Input => self.running.input.turn()?,
                    Source::Log => self.log.go_on(),
                }
            }
            if let Some(exit) = self.exit
                && !self.log.is_waiting()
            {
                return Ok(exit);
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
            ended: self.exits_since.unwrap_or_else(Instant::now),
            timed_out: self.timed_out,
            stopped: self.stopped,
            ends: self.ends,
            again: self.again,
            ended_because: self.ended_because,
            oom_killed: self.run.oom_killed,
            health: self.checks.map(|mut checks| checks.record().clone()),
            unready: self.unready,
        }
    }

    /// Tells of processes that the kernel has killed for memory.
    fn look_at_the_memory(&mut self) {
        if !self.oom_kills.has_more() {
            return;
        }
        self.run.oom_killed = true;
        let Subject {
            paths,
            record,
            launch,
            ..
        } = self.of;
        let _ = record.write_run(&self.run);
        let name = current_name(paths, record, launch);
        note(paths, record, launch, &name, "oom", None);
    }

    /// Sees to what was due by now.
    fn look_at_the_clock(&mut self) {
        let now = Instant::now();
        if self.deadline.is_some_and(|deadline| deadline <= now) {
            self.time_out();
        }
        self.look_at_the_health();
        if self.log.due().is_some_and(|due| due <= now) {
            self.log.go_on();
        }
        let late: Vec<u64> = self
            .hold_ups()
            .filter_map(|(client, end)| (end <= now).then_some(client))
            .collect();
        for number in late {
            let seconds = PATIENCE.as_secs();
            self.refuse(
                number,
                &format!("the container's output was not read for {seconds} seconds"),
            );
        }
    }

    fn time_out(&mut self) {
        self.deadline = None;
        self.timed_out = !self.stopped && !self.ends && !self.again;
        self.end_checks();
        self.kill();
    }

    fn kill(&self) {
        if let Some(cgroup) = self.running.cgroup.get() {
            let _ = cgroup.kill();
        }
        // With the first process go all others, unless they are in the host's namespace.
        let _ = pidfd_send_signal(&self.running.child.pidfd, Signal::KILL);
    }

    /// Clients that hold the program up though they have not started it, and until when they may.
    fn hold_ups(&self) -> impl Iterator<Item = (u64, Instant)> {
        let readers = self
            .running
            .outputs
            .iter()
            .flat_map(|output| &output.readers);
        readers
            .filter(|reader| Some(reader.client) != self.starter)
            .filter_map(|reader| Some((reader.client, reader.stuck? + PATIENCE)))
    }

    fn wait(&mut self) -> io::Result<Vec<Source>> {
        let running = &self.running;
        let mut sources = vec![Source::Signals];
        let mut fds = vec![PollFd::new(self.asked.signals, PollFlags::IN)];
        if self.exit.is_none() {
            sources.push(Source::Child);
            fds.push(PollFd::new(&running.child.pidfd, PollFlags::IN));
        }
        if let Some(events) = self.oom_kills.awaited() {
            sources.push(Source::Memory);
            fds.push(PollFd::from_borrowed_fd(events, PollFlags::PRI));
        }
        if let Some(probe) = self.checks.as_ref().and_then(Checks::awaited) {
            sources.push(Source::Check);
            fds.push(PollFd::from_borrowed_fd(probe, PollFlags::IN));
        }
        if let Some(proxy) = self.of.proxy {
            sources.push(Source::Proxy);
            fds.push(PollFd::from_borrowed_fd(proxy.awaited(), PollFlags::IN));
        }
        if let Some(listener) = self.door.awaited() {
            sources.push(Source::Listener);
            fds.push(PollFd::from_borrowed_fd(listener, PollFlags::IN));
        }
        for client in &self.clients {
            sources.push(Source::Client(client.number));
            fds.push(PollFd::new(&client.socket, PollFlags::IN));
        }
        if let Some(log) = self.log.awaited() {
            sources.push(Source::Log);
            fds.push(PollFd::from_borrowed_fd(log, PollFlags::OUT));
        }
        let full = self.log.is_waiting();
        for (index, output) in running.outputs.iter().enumerate() {
            if !output.is_blocked() && !full {
                sources.push(Source::Output(index));
                fds.push(PollFd::new(&output.source, PollFlags::IN));
            }
            for reader in output
                .readers
                .iter()
                .filter(|reader| reader.stuck.is_some())
            {
                sources.push(Source::Output(index));
                fds.push(PollFd::new(&reader.pipe, PollFlags::OUT));
            }
        }
        if let Some((fd, flags)) = running.input.awaited().filter(|_| self.exit.is_none()) {
            sources.push(Source::Input);
            fds.push(PollFd::from_borrowed_fd(fd, flags));
        }
        let due = self.hold_ups().map(|(_, end)| end);
        let check = self.checks.as_ref().and_then(Checks::due);
        let due = due.chain(self.deadline).chain(self.door.opens_at());
        let due = due.chain(self.log.due()).chain(check).min();
        let left = due.map(|due| timespec(due.saturating_duration_since(Instant::now())));
        match poll(&mut fds, left.as_ref()) {
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
        // Also where there is always something ready, as with a program that never pauses.
        if due.is_some_and(|due| due <= Instant::now()) {
            self.look_at_the_clock();
        }
        Ok(ready)
    }

    /// The monitor is asked to end, by systemd with its unit or with the machine, or by a person: the container
    /// ends first, and by the book. That it is to stay ended nobody has said: after a boot its policy counts.
    fn begin_stop(&mut self) -> io::Result<()> {
        while read_signal(self.asked.signals.as_fd())?.is_some() {
            self.ends = true;
            self.ask_to_end();
        }
        Ok(())
    }

    /// Asks the program to end, and kills it when its time is over.
    fn ask_to_end(&mut self) {
        self.end_checks();
        let _ = pidfd_send(self.running.child.pidfd.as_fd(), self.asked.signal);
        // Said again, it does not last longer.
        let end = Instant::now().checked_add(self.asked.timeout);
        self.deadline = [self.deadline, end].into_iter().flatten().min();
    }

    fn output(&mut self, index: usize) -> io::Result<()> {
        let Some(output) = self.running.outputs.get_mut(index) else {
            return Ok(());
        };
        match output.turn(self.log, &mut self.buffer)? {
            Turn::Moved(CHUNK..) => self.burst = true,
            Turn::Moved(_) if std::mem::take(&mut self.burst) => self.rest(),
            Turn::Moved(_) | Turn::Idle => {}
            Turn::Ended => {
                output.ended = true;
                self.look_whether_it_exits();
            }
        }
        Ok(())
    }

    /// Notes when the program's end begins, for the pause before a restart. It gives its files up first; until it
    /// can be waited for, the kernel takes its namespaces apart, and to unmount its root syncs the file system below.
    fn look_whether_it_exits(&mut self) {
        if self.of.launch.restart.is_some()
            && self.exits_since.is_none()
            && is_exiting(self.run.pid)
        {
            self.exits_since = Some(Instant::now());
        }
    }

    /// Gives the memory of a burst back.
    fn rest(&mut self) {
        self.buffer = Vec::new();
        self.log.rest();
        kelp_sys::process::trim_heap();
    }

    /// Moves what the program wrote before it ended: to the log, and to the clients. A client that is
    /// slow gets what it could not take yet as a file, so that nobody has to wait for it.
    fn drain(&mut self) -> io::Result<()> {
        for output in &mut self.running.outputs {
            for (number, rest) in output.drain(self.log, &mut self.buffer)? {
                let client = self.clients.iter().find(|client| client.number == number);
                if let Some(client) = client.filter(|_| !rest.is_empty()) {
                    // Without memory for it the log alone has it.
                    let _ = hand_over(client.socket.as_fd(), output.stream, &rest);
                }
            }
        }
        self.log.finish(self.run.started);
        Ok(())
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
            Ok(None) => self.leave(number),
            // What is no request gets no answer.
            Err(error) if error.kind() == io::ErrorKind::InvalidData => self.leave(number),
            Err(error) => self.refuse(number, &format!("hear a client: {error}")),
        }
    }

    /// Lets a client go, and tells it why.
    fn refuse(&mut self, number: u64, why: &str) {
        if let Some(client) = self.clients.iter().find(|client| client.number == number) {
            let failed = Reply::Failed {
                kind: FailureKind::Setup,
                text: why.to_owned(),
            };
            let _ = send(client.socket.as_fd(), &failed, &[]);
        }
        self.leave(number);
    }

    fn answer(&mut self, number: u64, request: Request, fds: Vec<OwnedFd>) {
        match request {
            Request::Start(_) => return self.leave(number),
            Request::Attach(streams) => self.attach(number, streams, fds),
            Request::Resize(size) => {
                if let Some(terminal) = &self.running.terminal {
                    let _ = kelp_runtime::console::set_size(terminal, size);
                }
                // A resize is not answered: it comes from a signal handler's loop.
                return;
            }
            Request::Stop => {
                self.stopped = true;
                self.end_checks();
            }
            Request::Stage => return self.show_stage(number),
            Request::Check => return self.check_for(number),
            Request::WriteHealth => self.write_health(),
            Request::Paused(paused) => {
                self.run.paused = paused;
                let _ = self.of.record.write_run(&self.run);
                self.pause_checks(paused);
            }
            Request::Updated => {
                self.oom_kills.look_for(self.running.cgroup.get());
                self.check_anew();
            }
        }
        if let Some(client) = self.clients.iter().find(|client| client.number == number) {
            let _ = send(client.socket.as_fd(), &Reply::Done, &[]);
        }
    }

    /// Hands over what it takes to call the runtime that has made the container.
    fn show_stage(&mut self, number: u64) {
        let Some(kept) = &self.running.kept else {
            return self.refuse(number, "no other runtime has made the container");
        };
        let user = match File::open("/proc/self/ns/user") {
            Ok(user) => user,
            Err(error) => {
                return self.refuse(number, &format!("open the user namespace: {error}"));
            }
        };
        let stage = kept.stage();
        let place = stage.place().to_owned();
        if let Some(client) = self.clients.iter().find(|client| client.number == number) {
            let fds = [stage.as_fd(), user.as_fd()];
            let _ = send(client.socket.as_fd(), &Reply::Stage { place }, &fds);
        }
    }

    fn attach(&mut self, number: u64, streams: Streams, fds: Vec<OwnedFd>) {
        let mut fds = fds.into_iter();
        if streams.stdin
            && let Some(fd) = fds.next()
        {
            let _ = ioctl_fionbio(&fd, true);
            self.running.input.attach(number, fd);
        }
        for (wanted, stream) in [
            (streams.stdout, Stream::Stdout),
            (streams.stderr, Stream::Stderr),
        ] {
            let Some(fd) = wanted.then(|| fds.next()).flatten() else {
                continue;
            };
            let _ = ioctl_fionbio(&fd, true);
            for output in &mut self.running.outputs {
                if output.stream == stream
                    && let Ok(fd) = fd.try_clone()
                {
                    output.readers.push(Reader::new(number, fd));
                }
            }
        }
    }

    fn leave(&mut self, number: u64) {
        self.clients.retain(|client| client.number != number);
        if let Some(checks) = &mut self.checks {
            checks.forget(number);
        }
        for output in &mut self.running.outputs {
            output.drop_client(number);
        }
        self.running.input.drop_client(number);
        self.door.open();
    }
}

/// Sends a client what it could not take, as a file in memory.
fn hand_over(socket: BorrowedFd<'_>, stream: Stream, rest: &[u8]) -> io::Result<()> {
    let flags = MemfdFlags::CLOEXEC;
    // Linux 6.3 has the flag, and a sysctl that demands it.
    let fd = memfd_create("kelp-rest", flags | MemfdFlags::NOEXEC_SEAL)
        .or_else(|_| memfd_create("kelp-rest", flags))?;
    let mut file = File::from(fd);
    file.write_all(rest)?;
    file.rewind()?;
    send(socket, &Reply::Rest(stream), &[file.as_fd()])
}
