//! A container's life: from its first start to its last end, with what its restart policy asks for
//! in between.

use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use kelp_runtime::cgroup::Cgroup;
use kelp_state::file::Durability;
use kelp_state::liveness::Alive;
use kelp_state::{ExitRecord, HealthRecord, Paths, Record, RunRecord, record};

use crate::error::Error;
use crate::finish::{self, exit_record, finish, note};
use crate::launch::Launch;
use crate::launch_file::LaunchFile;
use crate::log::LogWriter;
use crate::notify::Notify;
use crate::notify::proxy::Proxy;
use crate::place::{Choice, Place};
use crate::protocol::{FailureKind, Reply, Streams, send};
use crate::restart::{self, Backoff, Over, Pause};
use crate::role::{Handed, failure_kind};
use crate::start::{Ready, Running, prepare};
use crate::watch::{Asked, Subject, Watch};
use crate::{joined, overlays};

/// As podman tells that `--timeout` has passed.
const TIMED_OUT: i32 = 255;

/// What stays the same over every run of the program.
pub(crate) struct Life<'a> {
    pub(crate) paths: &'a Paths,
    pub(crate) record: &'a Record,
    /// What is to be done, which others may change meanwhile.
    pub(crate) file: LaunchFile,
    pub(crate) log: LogWriter,
    pub(crate) listener: &'a OwnedFd,
    /// Where the request to end arrives.
    pub(crate) signals: &'a OwnedFd,
    /// What the program gets that the monitor was started with.
    pub(crate) handed: Handed,
    /// Through which the program speaks to the service manager.
    pub(crate) proxy: Option<Proxy>,
    /// How the service manager is to be told, once, that the container is healthy.
    pub(crate) unready: Option<Notify>,
    /// Where the cgroup is made, until that is settled.
    pub(crate) choice: Option<Choice>,
    pub(crate) place: Option<Place>,
    /// How often the program was started again.
    pub(crate) restarts: u32,
    /// Whether the kernel has killed a process of it for memory.
    pub(crate) oom_killed: bool,
}

/// Who starts the container, and the streams that came along.
pub(crate) struct Starter {
    pub(crate) socket: OwnedFd,
    pub(crate) streams: Streams,
    pub(crate) fds: Vec<OwnedFd>,
}

/// The next run, but for its program.
struct Prepared {
    ready: Ready,
    /// By what it was made.
    launch: Rc<Launch>,
}

/// What comes after a pause.
enum Next {
    /// Another run; a failure to make it is that run's.
    Run(Box<Result<Prepared, Error>>),
    /// None, for this reason.
    None(Over),
}

/// How one run ended.
struct End {
    /// When its program did.
    at: Instant,
    exit: ExitRecord,
    cgroup: Option<Cgroup>,
    clients: Vec<OwnedFd>,
    /// Whether somebody wants it to have been the last, of this monitor at least.
    last: bool,
    /// Whether another one is due whatever the restart policy says.
    again: bool,
    /// Whether it was ended because it was unhealthy.
    unhealthy: bool,
}

impl Life<'_> {
    /// Starts the program and watches it until it has ended for good; a failure is one of the first
    /// start. What is returned is the monitor's own exit code, which where it is the main process of a unit is
    /// the service's result: the program's, or 0 where somebody wanted it to end.
    pub(crate) fn live(mut self, starter: Starter, alive: Alive) -> Result<i32, Error> {
        let mut first = Some(starter);
        let mut backoff = Backoff::default();
        let mut next = self.prepare(first.as_ref());
        loop {
            let begun = Instant::now();
            let is_first = first.is_some();
            let end = match next.and_then(|prepared| self.run(prepared, &mut first)) {
                Err(error) if is_first => {
                    let exit = self.failure(&error);
                    let trash = finish(
                        self.paths,
                        self.record,
                        &self.file.launch,
                        &exit,
                        None,
                        false,
                    );
                    finish::empty(&trash);
                    return Err(error);
                }
                Err(error) => End {
                    at: Instant::now(),
                    exit: self.failure(&error),
                    cgroup: None,
                    clients: Vec::new(),
                    last: false,
                    again: false,
                    unhealthy: false,
                },
                Ok(end) => end,
            };
            let code = end.exit.code;
            // A policy may have been changed while the program ran.
            self.refresh();
            let policy = self.file.launch.restart.filter(|_| !end.last);
            let again = policy.is_some_and(|policy| policy.applies(code, self.restarts));
            let again = again || (end.again && !end.last);
            let trash = finish(
                self.paths,
                self.record,
                &self.file.launch,
                &end.exit,
                end.cgroup.as_ref(),
                again,
            );
            if !again {
                drop(alive);
                tell(&end.clients, code);
                finish::empty(&trash);
                return Ok(match (end.last, end.unhealthy) {
                    (true, false) => 0,
                    // To a service manager that is a failure, however the program took it.
                    (_, true) if code == 0 => 1,
                    _ => code,
                });
            }
            tell(&end.clients, code);
            finish::empty(&trash);
            // From one program to the next: what it takes to record the end, and to make all else of the next run, is
            // part of the pause.
            let pause = backoff.next(end.at.saturating_duration_since(begun));
            next = match self.next_run(end.at + pause, restart::lead(pause), |life| {
                // A policy may have been changed in the pause, too.
                let policy = life.file.launch.restart;
                end.again || policy.is_some_and(|policy| policy.applies(code, life.restarts))
            })? {
                Next::Run(prepared) => *prepared,
                Next::None(_) if self.file.launch.remove => {
                    let launch = &self.file.launch;
                    finish::empty(&finish::give_up(self.paths, self.record, launch));
                    return Ok(0);
                }
                Next::None(over) => {
                    let exit = ExitRecord {
                        stopped: over == Over::Stopped,
                        interrupted: over == Over::Ends,
                        ..end.exit
                    };
                    self.record.write_exit(&exit, Durability::Synced)?;
                    return Ok(0);
                }
            };
            self.restarts += 1;
        }
    }

    /// Waits until the next run is due, and has it made by then.
    fn next_run(
        &mut self,
        due: Instant,
        lead: Duration,
        is_wanted: impl Fn(&Self) -> bool,
    ) -> Result<Next, Error> {
        let what = "wait to start the container again";
        let mut pause = Pause::new(self.listener, self.signals);
        let early = due.checked_sub(lead).unwrap_or(due);
        let over = pause.wait(early).map_err(Error::io(what))?;
        if over != Over::Time {
            return Ok(Next::None(over));
        }
        self.refresh();
        if !is_wanted(self) {
            return Ok(Next::None(over));
        }
        // On disk once it runs: a power cut before that is one in the pause.
        self.record.begin(Durability::None)?;
        let prepared = self.prepare(None);
        let over = pause.wait(due).map_err(Error::io(what))?;
        self.refresh();
        if over == Over::Time && is_wanted(self) {
            return Ok(Next::Run(Box::new(prepared)));
        }
        drop(prepared);
        let left = overlays::put_away(self.paths, self.record);
        finish::empty(left.ok().flatten().as_slice());
        Ok(Next::None(over))
    }

    /// Makes all of a run but its program.
    fn prepare(&mut self, starter: Option<&Starter>) -> Result<Prepared, Error> {
        let (record, launch) = (self.record, Rc::clone(&self.file.launch));
        // What a monitor that was killed has left would be seen by this run.
        let left = overlays::put_away(self.paths, record);
        let left = left.map_err(Error::io("empty the container's overlays"))?;
        finish::empty(left.as_slice());
        if let Some(choice) = self.choice.take() {
            self.place = choice.finish(record, &launch, self.paths.session())?;
        }
        let joined = joined::resolve(self.paths, &launch.spec)?;
        let changed = launch.with_secrets(joined);
        let spec = changed.as_ref().unwrap_or(&launch.spec);
        let ready = prepare(self, &launch, spec, starter)?;
        Ok(Prepared { ready, launch })
    }

    /// One run of the program.
    fn run(&mut self, prepared: Prepared, first: &mut Option<Starter>) -> Result<End, Error> {
        let (record, launch) = (self.record, Rc::clone(&self.file.launch));
        let launch = &*launch;
        let started = SystemTime::now();
        let running = prepared.ready.run(launch, first.as_ref())?;
        if launch.health.is_some() {
            // What the last run came to is not what this one is, as soon as anybody can see that it runs.
            record.write_health(&HealthRecord::default())?;
        }
        let run = self.write_run(&running, started)?;
        self.catch_up(&running, &prepared.launch)?;
        drop(prepared.launch);
        let pid = run.pid;
        // Here and not by the starter: it must come before the end.
        for action in ["init", "start"] {
            note(self.paths, record, launch, &launch.name, action, None);
        }
        // That nobody can be told is no reason to end what runs.
        let is_told = first.is_some() && self.handed.is_main;
        let notify = launch.notify.filter(|_| is_told);
        let untold = notify.and_then(|notify| notify.begun(&launch.name).err());
        self.unready = self.unready.or(notify);
        // Perhaps it was changed a moment ago.
        let health = self.file.launch.health.clone();
        let asked = Asked {
            signals: self.signals,
            signal: launch.stop_signal,
            timeout: Duration::from_secs(launch.stop_timeout),
        };
        let of = Subject {
            paths: self.paths,
            record,
            launch,
            proxy: self.proxy.as_ref(),
        };
        let mut watch = Watch::new(running, &mut self.log, of, run, self.listener, asked);
        watch.end_after(launch.timeout.map(Duration::from_secs));
        watch.tell_when_healthy(self.unready);
        watch.check(health.as_ref());
        if let Some(starter) = first.take() {
            let socket = starter.socket.try_clone();
            let socket = socket.map_err(Error::io("copy a descriptor"))?;
            let untold = untold
                .map(Error::io(
                    "tell the service manager that the container runs",
                ))
                .map(|error| kelp_runtime::error::one_line(&error));
            watch.adopt(starter.socket, starter.streams, starter.fds);
            let _ = send(socket.as_fd(), &Reply::Started { pid, untold }, &[]);
        }
        if self.restarts > 0 && !launch.remove {
            let _ = record.sync_begin();
        }
        // The plan and its texts are not needed again.
        kelp_sys::process::trim_heap();
        let exit = watch.run().map_err(Error::io("watch the container"))?;
        let seen = watch.into_seen();
        let Running {
            child,
            cgroup,
            network,
            kept,
            ..
        } = seen.running;
        drop(child.release());
        self.oom_killed = seen.oom_killed;
        self.unready = seen.unready;
        let (code, why) = if seen.timed_out {
            (TIMED_OUT, "it ran for longer than --timeout allows")
        } else {
            (exit.code(), seen.ended_because)
        };
        if let Some(health) = seen.health.filter(|_| !launch.remove) {
            let _ = record.keep_health(&health);
        }
        // Nobody has its root mounted, and its ports are free, before anybody is told of the end.
        drop(kept);
        let _ = network.tear_down();
        Ok(End {
            at: seen.ended,
            exit: ExitRecord {
                restarts: self.restarts,
                stopped: seen.stopped,
                interrupted: seen.ends && !seen.stopped,
                ..exit_record(code, seen.oom_killed, Some(started), why)
            },
            cgroup: cgroup.release(),
            clients: seen.clients,
            last: seen.stopped || seen.ends,
            unhealthy: !seen.ended_because.is_empty(),
            again: seen.again,
        })
    }

    /// The record of a run that never began.
    fn failure(&self, error: &Error) -> ExitRecord {
        let code = match failure_kind(error) {
            FailureKind::Setup | FailureKind::Started => 125,
            FailureKind::NotExecutable => 126,
            FailureKind::NotFound => 127,
        };
        ExitRecord {
            restarts: self.restarts,
            ..exit_record(
                code,
                self.oom_killed,
                None,
                &kelp_runtime::error::one_line(error),
            )
        }
    }

    /// Reads what has been changed since it was read last. What can't be read stays as it was: a program
    /// that runs is not ended for that.
    fn refresh(&mut self) -> bool {
        self.file.refresh().unwrap_or(false)
    }

    /// Sets limits that were changed since the container was made `by` what was asked for: whoever changed them
    /// found nothing that runs.
    fn catch_up(&mut self, running: &Running, by: &Launch) -> Result<(), Error> {
        self.refresh();
        if by.resources != self.file.launch.resources
            && let Some(cgroup) = running.cgroup.get()
        {
            cgroup.change(&self.file.launch.resources)?;
        }
        Ok(())
    }

    fn write_run(&self, running: &Running, started: SystemTime) -> Result<RunRecord, Error> {
        let pid = running.child.pid.as_raw_nonzero().get().unsigned_abs();
        let cgroup = running.cgroup.get();
        let run = RunRecord {
            pid,
            start_time: record::start_time(pid).unwrap_or(0),
            monitor: std::process::id(),
            boot_id: record::boot_id(),
            started,
            cgroup: cgroup.map(Cgroup::relative_path).unwrap_or_default(),
            paused: false,
            restarts: self.restarts,
            oom_killed: self.oom_killed,
        };
        self.record.write_run(&run)?;
        Ok(run)
    }
}

fn tell(clients: &[OwnedFd], code: i32) {
    for client in clients {
        let _ = send(client.as_fd(), &Reply::Exited { code }, &[]);
    }
}
