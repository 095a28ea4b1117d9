//! The probe: a child of the monitor's that waits to be asked for checks, enters the container, runs the check's
//! program, waits for it, and tells how it went.
//!
//! Whoever is inside can stop or freeze the program at any point, and then this process waits, and not the
//! monitor. It is made once for all checks of a run, so that what a check needs is planned once. It ends with the
//! monitor, and the program with it.
//!
//! Results wait in a socket that the monitor does not poll. A byte in another one says that it should look: after
//! the check that was asked for, or of a series after the one that failed. So a container that stays healthy costs
//! the monitor nothing.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kelp_runtime::cgroup::Cgroup;
use kelp_runtime::delegation;
use kelp_runtime::exec::{Target, exec};
use kelp_runtime::foreign::{self, Around};
use kelp_runtime::launch::{Guarded, Stdio, pair};
use kelp_runtime::message::{receive, send};
use kelp_runtime::plan::{Extras, ProcessPlan};
use kelp_state::health::HealthCheck;
use kelp_state::{Paths, RunRecord};
use kelp_sys::clone::{Child, CloneFlags, clone3};
use kelp_sys::fd::{close_but, has_input};
use kelp_sys::process::wait_pidfd;
use oci_spec::runtime::Process;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::RecvFlags;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Signal, kill_process_group, pidfd_send_signal, set_parent_process_death_signal,
};
use rustix::time::{ClockId, clock_gettime};

use super::{Check, HealthConfig};
use crate::error::Error;
use crate::foreign::Kept;
use crate::launch::Launch;
use crate::log::rfc3339;
use crate::restart::timespec;
use crate::role::failure_kind;

/// How much longer than its program a probe may take: to enter the container, and to tell.
const GRACE: Duration = Duration::from_secs(5);

/// What a longer time than the clock has room for is taken for.
const LONGEST: Duration = Duration::from_hours(24 * 365);

/// Bytes that a pipe has room for (pipe(7)).
const PIPE: usize = 64 << 10;

/// The exit code of a program that took too long, as docker and podman have it.
const TOO_LONG: i32 = -1;

/// What is checked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Subject<'a> {
    pub(crate) paths: &'a Paths,
    pub(crate) launch: &'a Launch,
    pub(crate) run: &'a RunRecord,
    /// The container's first process.
    pub(crate) init: BorrowedFd<'a>,
    /// Where another runtime has made it.
    pub(crate) kept: Option<&'a Kept>,
}

/// A check that is asked for: the usual one, or the one that comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Which {
    Usual,
    Startup,
}

/// What a probe is asked for: a check now, or a series of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    /// By which its results are known.
    pub(super) number: u32,
    pub(super) which: Which,
    /// The time from the end of a check that was passed to the next one of the series, which ends with the first
    /// one that fails, or with another request.
    pub(super) rest: Option<Duration>,
}

/// A probe, as the monitor sees it. Dropping it ends it, and the check that is under way.
#[derive(Debug)]
pub(super) struct Probe {
    child: Guarded,
    /// Requests, and the bytes that say that there are results.
    socket: OwnedFd,
    results: OwnedFd,
    /// Bytes of output that are kept of a check.
    limit: usize,
}

/// The probe's own ends of its sockets.
#[derive(Clone, Copy)]
struct Monitor<'a> {
    socket: BorrowedFd<'a>,
    results: BorrowedFd<'a>,
}

/// Checks that are under way.
#[derive(Debug)]
pub(super) struct UnderWay {
    /// What was asked for.
    pub(super) request: Request,
    begun: SystemTime,
    /// Until when the probe must have told of the next one.
    pub(super) end: Instant,
    /// How long the probe may take for one, at most.
    time: Duration,
}

/// How a check went.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Told {
    /// The request's.
    number: u32,
    /// Whether the request has no more, and the monitor is told.
    pub(super) is_last: bool,
    code: i32,
    begun: SystemTime,
    took: Duration,
    /// By the clock that nobody sets.
    ended: Duration,
    output: Vec<u8>,
}

/// Bytes before the output: number and code; in nanoseconds when it began, since the epoch, how long it took, and
/// when it ended; all in the machine's order; and one that says whether it is the last.
const HEAD: usize = 33;

impl Told {
    fn to_bytes(&self) -> Vec<u8> {
        let nanoseconds = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let begun = self.begun.duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut bytes = Vec::with_capacity(HEAD + self.output.len());
        bytes.extend(self.number.to_ne_bytes());
        bytes.extend(self.code.to_ne_bytes());
        bytes.extend(nanoseconds(begun).to_ne_bytes());
        bytes.extend(nanoseconds(self.took).to_ne_bytes());
        bytes.extend(nanoseconds(self.ended).to_ne_bytes());
        bytes.push(u8::from(self.is_last));
        bytes.extend(&self.output);
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (number, rest) = bytes.split_first_chunk()?;
        let (code, rest) = rest.split_first_chunk()?;
        let (begun, rest) = rest.split_first_chunk()?;
        let (took, rest) = rest.split_first_chunk()?;
        let (ended, rest) = rest.split_first_chunk()?;
        let (is_last, output) = rest.split_first()?;
        Some(Self {
            number: u32::from_ne_bytes(*number),
            is_last: *is_last != 0,
            code: i32::from_ne_bytes(*code),
            begun: UNIX_EPOCH + Duration::from_nanos(u64::from_ne_bytes(*begun)),
            took: Duration::from_nanos(u64::from_ne_bytes(*took)),
            ended: Duration::from_nanos(u64::from_ne_bytes(*ended)),
            output: output.to_vec(),
        })
    }

    /// Whether it is of this request.
    pub(super) fn is_of(&self, check: &UnderWay) -> bool {
        self.number == check.request.number
    }

    /// For the record.
    pub(super) fn result(&self) -> HealthCheck {
        result(
            (self.begun, self.begun + self.took),
            self.code,
            &self.output,
        )
    }
}

fn result((begun, ended): (SystemTime, SystemTime), code: i32, output: &[u8]) -> HealthCheck {
    HealthCheck {
        start: rfc3339(begun),
        end: rfc3339(ended),
        exit_code: code,
        output: String::from_utf8_lossy(output).into_owned(),
    }
}

impl Request {
    fn to_bytes(self) -> Vec<u8> {
        // No time of rest means no series.
        let rest = self.rest.map_or(0, |rest| {
            u64::try_from(rest.as_nanos()).unwrap_or(u64::MAX).max(1)
        });
        let mut bytes = self.number.to_ne_bytes().to_vec();
        bytes.extend(rest.to_ne_bytes());
        bytes.push(u8::from(self.which == Which::Startup));
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (number, rest) = bytes.split_first_chunk()?;
        let (rest, which) = rest.split_first_chunk()?;
        let rest = u64::from_ne_bytes(*rest);
        Some(Self {
            number: u32::from_ne_bytes(*number),
            rest: (rest > 0).then(|| Duration::from_nanos(rest)),
            which: match which {
                [0] => Which::Usual,
                [1] => Which::Startup,
                _ => return None,
            },
        })
    }
}

impl Probe {
    /// Makes one.
    pub(super) fn make(subject: Subject<'_>, config: &HealthConfig) -> io::Result<Self> {
        let (ours, theirs) = pair().map_err(io::Error::other)?;
        let (results, told) = pair().map_err(io::Error::other)?;
        let limit = config.output_limit();
        let child = clone3(CloneFlags::empty(), None, || {
            // The monitor's descriptors would last as long as this process otherwise: locks, and ends of pipes.
            let stage = subject.kept.map(|kept| kept.stage().as_fd());
            let mut kept = vec![theirs.as_fd(), told.as_fd(), subject.init];
            kept.extend(stage);
            let monitor = Monitor {
                socket: theirs.as_fd(),
                results: told.as_fd(),
            };
            let ready = set_parent_process_death_signal(Some(Signal::KILL))
                .and_then(|()| ioctl_fionbio(monitor.results, true))
                .map_err(io::Error::from)
                .and_then(|()| close_but(3, &kept));
            match ready {
                Ok(()) => serve(subject, config, monitor),
                Err(_) => 1,
            }
        })?;
        ioctl_fionbio(&ours, true)?;
        Ok(Self {
            child: Guarded::new(child),
            socket: ours,
            results,
            limit,
        })
    }

    /// Asks for a check, or for a series: `timeout` is how long a program may take.
    pub(super) fn ask(&self, request: Request, timeout: Duration) -> io::Result<UnderWay> {
        send(self.socket.as_fd(), &request.to_bytes(), &[])?;
        let time = timeout.saturating_add(GRACE);
        Ok(UnderWay {
            request,
            begun: SystemTime::now(),
            end: end_of(time),
            time,
        })
    }

    /// Kills it; what it has told can be read yet.
    pub(super) fn kill(&self) {
        let _ = pidfd_send_signal(&self.child.pidfd, Signal::KILL);
    }

    /// Where it tells that there is a result.
    pub(super) fn awaited(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether it has told so; an error if the probe is no more.
    pub(super) fn tells(&self) -> io::Result<bool> {
        match receive(self.socket.as_fd(), &mut [0], RecvFlags::DONTWAIT) {
            Ok((1, _)) => Ok(true),
            Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The next result, if there is one.
    pub(super) fn result(&self) -> Option<Told> {
        let mut buffer = vec![0; HEAD + self.limit];
        let received = receive(self.results.as_fd(), &mut buffer, RecvFlags::DONTWAIT);
        received
            .ok()
            .and_then(|(length, _)| Told::from_bytes(&buffer[..length]))
    }
}

/// The time by the clock that nobody sets, which is every process's own (clock_gettime(2), `CLOCK_MONOTONIC`).
fn clock() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::try_from(now).unwrap_or_default()
}

/// When so much time is over.
fn end_of(time: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(time).unwrap_or_else(|| now + LONGEST)
}

impl UnderWay {
    /// The result of one that came to nothing.
    pub(super) fn failed(&self, why: &str) -> HealthCheck {
        failed(self.begun, why)
    }

    /// Whether it is long since the probe must have told: so nobody was there to hear it.
    pub(super) fn is_late(&self) -> bool {
        self.end.elapsed() > GRACE
    }

    /// Gives the probe its time once more.
    pub(super) fn wait_again(&mut self) {
        self.end = end_of(self.time);
    }

    /// Whether a check is being made, or should be: the next one of a series may not be due yet.
    pub(super) fn has_begun(&self) -> bool {
        let begins = self.end.checked_sub(self.time);
        begins.is_none_or(|begins| begins <= Instant::now())
    }

    /// One of the series was passed, and has just ended if it was not a while ago.
    pub(super) fn goes_on(&mut self, passed: &Told) {
        let ago = clock().saturating_sub(passed.ended);
        let rest = self.request.rest.unwrap_or_default();
        let ended = passed.begun + passed.took;
        self.begun = ended.checked_add(rest).unwrap_or(ended);
        self.end = end_of(self.time.saturating_add(rest).saturating_sub(ago));
    }
}

/// The result of a check that came to nothing.
pub(super) fn failed(begun: SystemTime, why: &str) -> HealthCheck {
    result((begun, SystemTime::now()), TOO_LONG, why.as_bytes())
}

fn code_of(error: &Error) -> i32 {
    use crate::protocol::FailureKind;
    match failure_kind(error) {
        FailureKind::Setup | FailureKind::Started => 125,
        FailureKind::NotExecutable => 126,
        FailureKind::NotFound => 127,
    }
}

/// The probe itself: makes checks as it is asked to, until the monitor has let go of it.
fn serve(subject: Subject<'_>, config: &HealthConfig, monitor: Monitor<'_>) -> i32 {
    let limit = config.output_limit();
    let startup = config.startup.as_ref();
    let mut plans = [
        Planned::new(&config.check),
        Planned::new(startup.map_or(&config.check, |it| &it.check)),
    ];
    let mut buffer = [0; 16];
    loop {
        let received = receive(monitor.socket, &mut buffer, RecvFlags::empty());
        let request = received
            .ok()
            .and_then(|(length, _)| Request::from_bytes(&buffer[..length]));
        let Some(request) = request else {
            return 0;
        };
        let plan = &mut plans[usize::from(request.which == Which::Startup)];
        if series(plan, request, subject, limit, monitor).is_err() {
            return 0;
        }
    }
}

/// Makes the checks of a request; an error if the monitor is no more.
fn series(
    plan: &mut Planned<'_>,
    request: Request,
    subject: Subject<'_>,
    limit: usize,
    monitor: Monitor<'_>,
) -> io::Result<()> {
    loop {
        let (begun, started) = (SystemTime::now(), clock());
        let (code, mut output) = plan.run(subject, limit).unwrap_or_else(|error| {
            (
                code_of(&error),
                kelp_runtime::error::one_line(&error).into(),
            )
        });
        output.truncate(limit);
        let rest = request.rest.filter(|_| code == 0);
        let told = Told {
            number: request.number,
            is_last: rest.is_none(),
            code,
            begun,
            took: clock().saturating_sub(started),
            ended: clock(),
            output,
        };
        monitor.tell(&told)?;
        let Some(rest) = rest else {
            return monitor.wake();
        };
        if monitor.speaks_within(rest)? {
            return Ok(());
        }
    }
}

impl Monitor<'_> {
    fn tell(self, told: &Told) -> io::Result<()> {
        let bytes = told.to_bytes();
        loop {
            match send(self.results, &bytes, &[]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // It is long since it has read any.
                    self.wake()?;
                    let mut room = [PollFd::from_borrowed_fd(self.results, PollFlags::OUT)];
                    while matches!(poll(&mut room, None), Err(Errno::INTR)) {}
                }
                result => return result,
            }
        }
    }

    /// Has it look at the results.
    fn wake(self) -> io::Result<()> {
        send(self.socket, &[0], &[])
    }

    /// Waits for so long; whether it has another request, or is no more.
    fn speaks_within(self, time: Duration) -> io::Result<bool> {
        let end = end_of(time);
        let mut fds = [PollFd::from_borrowed_fd(self.socket, PollFlags::IN)];
        loop {
            let left = timespec(end.saturating_duration_since(Instant::now()));
            match poll(&mut fds, Some(&left)) {
                Ok(count) => return Ok(count > 0),
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// A check, and what it takes to start its program, once that is known.
struct Planned<'a> {
    check: &'a Check,
    plan: Option<ProcessPlan>,
}

impl<'a> Planned<'a> {
    fn new(check: &'a Check) -> Self {
        Self { check, plan: None }
    }

    /// Runs it; its exit code, and what it wrote.
    fn run(&mut self, subject: Subject<'_>, limit: usize) -> Result<(i32, Vec<u8>), Error> {
        let what = "make the health check's pipe";
        let (read, write) = pipe_with(PipeFlags::CLOEXEC).map_err(Error::io(what))?;
        ioctl_fionbio(&read, true).map_err(Error::io(what))?;
        let null = open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(Error::io("open /dev/null"))?;
        let stdio = Stdio {
            stdin: null.as_fd(),
            stdout: write.as_fd(),
            stderr: write.as_fd(),
        };
        let timeout = self.check.timeout;
        let deadline = Instant::now().checked_add(timeout);
        let child = self.enter(subject, stdio)?;
        drop(write);
        let mut output = Output {
            pipe: read,
            kept: Vec::new(),
            limit,
        };
        let code = watch(&child, &mut output, deadline);
        let code = code.map_err(Error::io("wait for a health check"))?;
        let seconds = timeout.as_secs_f64();
        let late = || format!("health check exceeded timeout ({seconds}s)").into_bytes();
        Ok(code.map_or_else(|| (TOO_LONG, late()), |code| (code, output.kept)))
    }

    /// Starts the program.
    fn enter(&mut self, subject: Subject<'_>, stdio: Stdio<'_>) -> Result<Child, Error> {
        let Subject { launch, run, .. } = subject;
        let (cgroup, is_own) = if run.cgroup.is_empty() {
            (None, false)
        } else {
            let place = delegation::of_init(run.pid, &run.cgroup);
            let cgroup = Cgroup::open(&place).map_err(Error::io("open the container's cgroup"))?;
            let is_own = place == run.cgroup || cgroup.is_writable();
            (Some(cgroup), is_own)
        };
        let own = cgroup.as_ref().filter(|_| is_own);
        if let (Some(runtime), Some(kept)) = (&launch.runtime, subject.kept) {
            let request = foreign::Request {
                id: kept.id(),
                init: subject.init,
                pid: run.pid,
                process: self.process(launch),
                extras: extras(subject),
            };
            let around = Around {
                stdio: Some(stdio),
                cgroup: own.map(AsFd::as_fd),
                ..Around::default()
            };
            return Ok(foreign::exec(kept.stage(), runtime, request, around)?.child);
        }
        if self.plan.is_none() {
            let linux = launch.spec.linux().as_ref();
            let seccomp = linux.and_then(|linux| linux.seccomp().as_ref());
            let plan = ProcessPlan::new(&self.process(launch), seccomp, extras(subject))?;
            self.plan = Some(plan);
        }
        let target = Target {
            init: subject.init,
            pid: run.pid,
            cgroup: own.map(AsFd::as_fd),
            enter_cgroup: None,
            joins_mounts: false,
            lasts: false,
        };
        let plan = self.plan.as_ref().ok_or(Error::MonitorGone)?;
        let starting = exec(plan, &target, Some(stdio))?;
        if let Some(cgroup) = cgroup.as_ref().filter(|_| !is_own) {
            delegation::enter(subject.init, cgroup.path(), starting.child.pid)
                .map_err(Error::io("move the process into the container's cgroup"))?;
        }
        Ok(starting.execute()?.release())
    }

    fn process(&self, launch: &Launch) -> Process {
        let mut process = launch.process();
        process.set_terminal(Some(false));
        process.set_args(Some(self.check.command()));
        // Its file is the host's root's, for who is not dumpable.
        process.set_oom_score_adj(None);
        process
    }
}

fn extras(subject: Subject<'_>) -> Extras {
    Extras {
        init: false,
        seccomp_cache: Some(subject.paths.seccomp()),
        ..subject.launch.extras.clone()
    }
}

/// Waits for the program; its exit code, or `None` if it was killed because its time was over. What it has left
/// in the background goes on, unless its time was over.
fn watch(child: &Child, output: &mut Output, deadline: Option<Instant>) -> io::Result<Option<i32>> {
    let mut open = true;
    loop {
        let mut fds = vec![PollFd::new(&child.pidfd, PollFlags::IN)];
        if open {
            fds.push(PollFd::new(&output.pipe, PollFlags::IN));
        }
        let left = deadline.map(|end| end.saturating_duration_since(Instant::now()));
        match poll(&mut fds, left.map(timespec).as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        // Also where there is always something to read.
        if deadline.is_some_and(|end| end <= Instant::now()) && !has_input(child.pidfd.as_fd()) {
            // It leads a session and a group of its own, whose number is nobody else's before it is reaped.
            let _ = kill_process_group(child.pid, Signal::KILL);
            let _ = pidfd_send_signal(&child.pidfd, Signal::KILL);
            wait_pidfd(child.pidfd.as_fd())?;
            return Ok(None);
        }
        open = open && output.turn();
        if has_input(child.pidfd.as_fd()) {
            let exit = wait_pidfd(child.pidfd.as_fd())?;
            // What it wrote at last.
            output.turn();
            return Ok(Some(exit.code()));
        }
    }
}

/// What a program writes, of which the beginning is kept.
struct Output {
    pipe: OwnedFd,
    kept: Vec<u8>,
    limit: usize,
}

impl Output {
    /// Reads what is there, as much as a pipe has at most; whether more may come.
    fn turn(&mut self) -> bool {
        let mut buffer = [0; 4096];
        for _ in 0..PIPE / buffer.len() {
            match rustix::io::read(&self.pipe, &mut buffer) {
                Ok(0) => return false,
                Ok(length) => {
                    let room = self.limit - self.kept.len();
                    self.kept.extend_from_slice(&buffer[..length.min(room)]);
                    if length < buffer.len() {
                        return true;
                    }
                }
                Err(Errno::INTR) => {}
                Err(error) => return error == Errno::AGAIN,
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_and_requests_are_bytes() {
        let told = Told {
            number: 7,
            is_last: true,
            code: -1,
            begun: UNIX_EPOCH + Duration::from_nanos(1_700_000_000_123_456_789),
            took: Duration::from_millis(5),
            ended: Duration::from_secs(1),
            output: b"\0\xff text".to_vec(),
        };
        let bytes = told.to_bytes();
        assert_eq!(Told::from_bytes(&bytes[..HEAD - 1]), None);
        assert_eq!(Told::from_bytes(&bytes), Some(told));
        for request in [
            Request {
                number: u32::MAX,
                which: Which::Startup,
                rest: None,
            },
            Request {
                number: 0,
                which: Which::Usual,
                rest: Some(Duration::from_secs(30)),
            },
        ] {
            let bytes = request.to_bytes();
            assert_eq!(Request::from_bytes(&bytes), Some(request));
            assert_eq!(Request::from_bytes(&bytes[1..]), None);
        }
    }
}
