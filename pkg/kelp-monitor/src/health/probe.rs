//! One check: a child of the monitor's that enters the container, runs the check's program, waits for it, and
//! tells how it went over a pipe.
//!
//! Whoever is inside can stop or freeze the program at any point, and then this process waits, and not the
//! monitor. It ends with the monitor, and the program with it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime};

use kelp_runtime::cgroup::Cgroup;
use kelp_runtime::delegation;
use kelp_runtime::exec::{Target, exec};
use kelp_runtime::foreign::{self, Around, Request};
use kelp_runtime::launch::{Guarded, Stdio};
use kelp_runtime::plan::{Extras, ProcessPlan};
use kelp_state::health::HealthCheck;
use kelp_state::{Paths, RunRecord};
use kelp_sys::clone::{Child, CloneFlags, clone3};
use kelp_sys::fd::{close_but, has_input};
use kelp_sys::process::wait_pidfd;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{Mode, OFlags, open};
use rustix::io::{Errno, ioctl_fionbio};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{
    Signal, kill_process_group, pidfd_send_signal, set_parent_process_death_signal,
};
use serde::{Deserialize, Serialize};

use super::Check;
use crate::error::Error;
use crate::foreign::Kept;
use crate::launch::Launch;
use crate::log::rfc3339;
use crate::restart::timespec;
use crate::role::failure_kind;

/// How much longer than its program a probe may take: to enter the container, and to tell.
const GRACE: Duration = Duration::from_secs(5);

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

/// A check that is under way. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Probe {
    child: Guarded,
    result: File,
    said: Vec<u8>,
    begun: SystemTime,
    /// Until when it must have told.
    pub(super) end: Instant,
}

/// What a probe tells.
#[derive(Serialize, Deserialize)]
struct Told {
    code: i32,
    output: String,
}

impl Probe {
    /// Begins a check of which so many bytes of output are kept.
    pub(super) fn begin(subject: Subject<'_>, check: &Check, limit: usize) -> io::Result<Self> {
        let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
        ioctl_fionbio(&read, true)?;
        let begun = SystemTime::now();
        let child = clone3(CloneFlags::empty(), None, || {
            // The monitor's would last as long as the check otherwise: locks, and ends of pipes.
            let stage = subject.kept.map(|kept| kept.stage().as_fd());
            let mut kept = vec![write.as_fd(), subject.init];
            kept.extend(stage);
            let told = set_parent_process_death_signal(Some(Signal::KILL))
                .map_err(io::Error::from)
                .and_then(|()| close_but(3, &kept))
                .map_err(Error::io("get ready for a health check"))
                .and_then(|()| run(subject, check, limit))
                .unwrap_or_else(|error| Told {
                    code: code_of(&error),
                    output: kelp_runtime::error::one_line(&error),
                });
            let bytes = serde_json::to_vec(&told).unwrap_or_default();
            i32::from(write_all(write.as_fd(), &bytes).is_err())
        })?;
        Ok(Self {
            child: Guarded::new(child),
            result: File::from(read),
            said: Vec::new(),
            begun,
            end: Instant::now() + check.timeout.saturating_add(GRACE),
        })
    }

    /// Where it tells how it went.
    pub(super) fn awaited(&self) -> BorrowedFd<'_> {
        self.result.as_fd()
    }

    /// Hears what it tells; the result, once that is whole.
    pub(super) fn hear(&mut self) -> Option<HealthCheck> {
        match self.result.read_to_end(&mut self.said) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            Ok(_) | Err(_) => {}
        }
        let killed = || Told {
            code: TOO_LONG,
            output: "the health check was killed".to_owned(),
        };
        let told = serde_json::from_slice(&self.said).unwrap_or_else(|_| killed());
        Some(self.check(told))
    }

    /// The result of one that does not tell in time.
    pub(super) fn give_up(&self) -> HealthCheck {
        self.check(Told {
            code: TOO_LONG,
            output: "the health check could not be ended".to_owned(),
        })
    }

    /// The result of one that could not be begun.
    pub(super) fn unable(error: &io::Error) -> HealthCheck {
        let now = rfc3339(SystemTime::now());
        HealthCheck {
            start: now.clone(),
            end: now,
            exit_code: 125,
            output: format!("begin a health check: {error}"),
        }
    }

    fn check(&self, told: Told) -> HealthCheck {
        HealthCheck {
            start: rfc3339(self.begun),
            end: rfc3339(SystemTime::now()),
            exit_code: told.code,
            output: told.output,
        }
    }

    /// Ends it and waits for that.
    pub(super) fn end(self) {
        drop(self.child);
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

/// The probe itself.
fn run(subject: Subject<'_>, check: &Check, limit: usize) -> Result<Told, Error> {
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
    let deadline = Instant::now().checked_add(check.timeout);
    let child = enter(subject, check, stdio)?;
    drop(write);
    let mut output = Output {
        pipe: read,
        kept: Vec::new(),
        limit,
    };
    let code =
        watch(&child, &mut output, deadline).map_err(Error::io("wait for a health check"))?;
    let Some(code) = code else {
        let seconds = check.timeout.as_secs_f64();
        return Ok(Told {
            code: TOO_LONG,
            output: format!("health check exceeded timeout ({seconds}s)"),
        });
    };
    Ok(Told {
        code,
        output: String::from_utf8_lossy(&output.kept).into_owned(),
    })
}

/// Starts the program.
fn enter(subject: Subject<'_>, check: &Check, stdio: Stdio<'_>) -> Result<Child, Error> {
    let Subject { launch, run, .. } = subject;
    let mut process = launch.spec.process().clone().unwrap_or_default();
    process.set_terminal(Some(false));
    process.set_args(Some(check.command()));
    // Its file is the host's root's, for who is not dumpable.
    process.set_oom_score_adj(None);
    let extras = Extras {
        init: false,
        seccomp_cache: Some(subject.paths.seccomp()),
        ..launch.extras.clone()
    };
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
            process,
            extras,
        };
        let around = Around {
            stdio: Some(stdio),
            cgroup: own.map(AsFd::as_fd),
            ..Around::default()
        };
        return Ok(foreign::exec(kept.stage(), runtime, request, around)?.child);
    }
    let linux = launch.spec.linux().as_ref();
    let seccomp = linux.and_then(|linux| linux.seccomp().as_ref());
    let plan = ProcessPlan::new(&process, seccomp, extras)?;
    let target = Target {
        init: subject.init,
        pid: run.pid,
        cgroup: own.map(AsFd::as_fd),
        enter_cgroup: None,
        joins_mounts: false,
        lasts: false,
    };
    let starting = exec(&plan, &target, Some(stdio))?;
    if let Some(cgroup) = cgroup.as_ref().filter(|_| !is_own) {
        delegation::enter(subject.init, cgroup.path(), starting.child.pid)
            .map_err(Error::io("move the process into the container's cgroup"))?;
    }
    Ok(starting.execute()?.release())
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
        let left = deadline.map(|end| timespec(end.saturating_duration_since(Instant::now())));
        match poll(&mut fds, left.as_ref()) {
            Ok(0) => {
                // It leads a session and a group of its own, whose number is nobody else's before it is reaped.
                let _ = kill_process_group(child.pid, Signal::KILL);
                let _ = pidfd_send_signal(&child.pidfd, Signal::KILL);
                wait_pidfd(child.pidfd.as_fd())?;
                return Ok(None);
            }
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
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
    /// Reads what is there; whether more may come.
    fn turn(&mut self) -> bool {
        let mut buffer = [0; 4096];
        loop {
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
    }
}

fn write_all(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<()> {
    File::from(fd.try_clone_to_owned()?).write_all(bytes)
}
