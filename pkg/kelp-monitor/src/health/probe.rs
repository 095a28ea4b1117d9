//! The probe: a child of the monitor's that waits to be asked for a check, enters the container, runs the check's
//! program, waits for it, and tells how it went.
//!
//! Whoever is inside can stop or freeze the program at any point, and then this process waits, and not the
//! monitor. It is made once for all checks of a run, so that what a check needs is planned once. It ends with the
//! monitor, and the program with it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime};

use kelp_runtime::cgroup::Cgroup;
use kelp_runtime::delegation;
use kelp_runtime::exec::{Target, exec};
use kelp_runtime::foreign::{self, Around, Request};
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

/// A probe, as the monitor sees it. Dropping it ends it, and the check that is under way.
#[derive(Debug)]
pub(super) struct Probe {
    /// Kept for its end.
    _child: Guarded,
    socket: OwnedFd,
    /// Bytes of output that are kept of a check.
    limit: usize,
}

/// A check that is under way.
#[derive(Debug)]
pub(super) struct UnderWay {
    begun: SystemTime,
    /// Until when the probe must have told.
    pub(super) end: Instant,
}

/// What a probe tells: a code in the machine's order of bytes, and the output behind it.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    code: i32,
    output: Vec<u8>,
}

impl Told {
    fn text(code: i32, output: impl Into<String>) -> Self {
        Self {
            code,
            output: output.into().into_bytes(),
        }
    }

    fn to_bytes(&self) -> Vec<u8> {
        [&self.code.to_ne_bytes()[..], &self.output].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (code, output) = bytes.split_first_chunk()?;
        Some(Self {
            code: i32::from_ne_bytes(*code),
            output: output.to_vec(),
        })
    }
}

impl Probe {
    /// Makes one.
    pub(super) fn make(subject: Subject<'_>, config: &HealthConfig) -> io::Result<Self> {
        let (ours, theirs) = pair().map_err(io::Error::other)?;
        let limit = config.output_limit();
        let child = clone3(CloneFlags::empty(), None, || {
            // The monitor's descriptors would last as long as this process otherwise: locks, and ends of pipes.
            let stage = subject.kept.map(|kept| kept.stage().as_fd());
            let mut kept = vec![theirs.as_fd(), subject.init];
            kept.extend(stage);
            let ready = set_parent_process_death_signal(Some(Signal::KILL))
                .map_err(io::Error::from)
                .and_then(|()| close_but(3, &kept));
            match ready {
                Ok(()) => serve(subject, config, theirs.as_fd()),
                Err(_) => 1,
            }
        })?;
        ioctl_fionbio(&ours, true)?;
        Ok(Self {
            _child: Guarded::new(child),
            socket: ours,
            limit,
        })
    }

    /// Asks for a check.
    pub(super) fn ask(&self, which: Which, check: &Check) -> io::Result<UnderWay> {
        send(
            self.socket.as_fd(),
            &[u8::from(which == Which::Startup)],
            &[],
        )?;
        Ok(UnderWay {
            begun: SystemTime::now(),
            end: Instant::now()
                .checked_add(check.timeout.saturating_add(GRACE))
                .unwrap_or_else(|| Instant::now() + LONGEST),
        })
    }

    /// Where it tells how a check went.
    pub(super) fn awaited(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Hears how the check went; an error if the probe is no more.
    pub(super) fn hear(&self, check: &UnderWay) -> io::Result<HealthCheck> {
        let mut buffer = vec![0; size_of::<i32>() + self.limit];
        let (length, _) = receive(self.socket.as_fd(), &mut buffer, RecvFlags::DONTWAIT)?;
        let told = Told::from_bytes(&buffer[..length]);
        let told = told.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
        Ok(check.result(&told))
    }
}

impl UnderWay {
    /// One that nobody has begun.
    pub(super) fn never() -> Self {
        Self {
            begun: SystemTime::now(),
            end: Instant::now(),
        }
    }

    /// The result of one that came to nothing.
    pub(super) fn failed(&self, why: &str) -> HealthCheck {
        self.result(&Told::text(TOO_LONG, why))
    }

    fn result(&self, told: &Told) -> HealthCheck {
        HealthCheck {
            start: rfc3339(self.begun),
            end: rfc3339(SystemTime::now()),
            exit_code: told.code,
            output: String::from_utf8_lossy(&told.output).into_owned(),
        }
    }
}

fn code_of(error: &Error) -> i32 {
    use crate::protocol::FailureKind;
    match failure_kind(error) {
        FailureKind::Setup => 125,
        FailureKind::NotExecutable => 126,
        FailureKind::NotFound => 127,
    }
}

/// The probe itself: makes checks as it is asked to, until the monitor has let go of it.
fn serve(subject: Subject<'_>, config: &HealthConfig, monitor: BorrowedFd<'_>) -> i32 {
    let limit = config.output_limit();
    let mut plans = [
        Planned::new(&config.check),
        Planned::new(
            config
                .startup
                .as_ref()
                .map_or(&config.check, |it| &it.check),
        ),
    ];
    loop {
        let mut which = [0];
        let plan = match receive(monitor, &mut which, RecvFlags::empty()) {
            Ok((1, _)) => &mut plans[usize::from(which[0] != 0)],
            _ => return 0,
        };
        let told = plan.run(subject, limit).unwrap_or_else(|error| {
            let mut told = Told::text(code_of(&error), kelp_runtime::error::one_line(&error));
            told.output.truncate(limit);
            told
        });
        if send(monitor, &told.to_bytes(), &[]).is_err() {
            return 0;
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

    fn run(&mut self, subject: Subject<'_>, limit: usize) -> Result<Told, Error> {
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
        Ok(match code {
            Some(code) => Told {
                code,
                output: output.kept,
            },
            None => Told::text(
                TOO_LONG,
                format!("health check exceeded timeout ({}s)", timeout.as_secs_f64()),
            ),
        })
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
            let request = Request {
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
        let mut process = launch.spec.process().clone().unwrap_or_default();
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
    fn a_result_is_a_code_and_bytes() {
        let told = Told {
            code: -1,
            output: b"\0\xff text".to_vec(),
        };
        assert_eq!(Told::from_bytes(&told.to_bytes()), Some(told));
        assert_eq!(Told::from_bytes(b"abc"), None);
        assert_eq!(Told::from_bytes(&[0; 4]), Some(Told::text(0, "")));
    }
}
