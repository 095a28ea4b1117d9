//! The health checks of a container that runs, as the monitor's poll loop sees them: when one is due, what is
//! waited for, and what came of it.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use kelp_state::health::HealthCheck;
use kelp_state::{Health, HealthRecord};

use super::course::{Course, Verdict};
use super::probe::{Probe, Subject, UnderWay};
use super::{HealthConfig, OnFailure};

/// The checks of one run of a container.
#[derive(Debug)]
pub(crate) struct Checks {
    course: Course,
    /// Who makes them, from the first one on.
    probe: Option<Probe>,
    /// The one that is under way.
    under_way: Option<UnderWay>,
    /// Whether its result does not count: the container was frozen meanwhile.
    void: bool,
    /// When the next one is due, unless the container is paused.
    next: Option<Instant>,
    paused: bool,
    /// Whether no more are made.
    has_ended: bool,
    /// Clients that asked for a check and wait for its result.
    askers: Vec<u64>,
}

/// What a check came to.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) verdict: Verdict,
    /// Whether it was passed.
    pub(crate) passed: bool,
    /// Who asked.
    pub(crate) askers: Vec<u64>,
}

impl Checks {
    /// Of a program that runs from now on: the first check is made at once.
    pub(crate) fn begin(config: HealthConfig) -> Self {
        let now = Instant::now();
        let course = Course::new(config, now);
        Self {
            next: course.check().1.interval.map(|_| now),
            course,
            probe: None,
            under_way: None,
            void: false,
            paused: false,
            has_ended: false,
            askers: Vec::new(),
        }
    }

    /// What was found so far.
    pub(crate) fn record(&self) -> &HealthRecord {
        &self.course.record
    }

    pub(crate) fn config(&self) -> &HealthConfig {
        self.course.config()
    }

    pub(crate) fn status(&self) -> Health {
        self.course.record.status
    }

    /// When [`Checks::turn`] is to be called.
    pub(crate) fn due(&self) -> Option<Instant> {
        match &self.under_way {
            Some(check) => Some(check.end),
            None => self.next.filter(|_| !self.paused),
        }
    }

    /// What becomes readable when [`Checks::hear`] is to be called.
    pub(crate) fn awaited(&self) -> Option<BorrowedFd<'_>> {
        self.probe.as_ref().map(Probe::awaited)
    }

    /// Begins a check if one is due, and ends one that takes too long.
    pub(crate) fn turn(&mut self, subject: Subject<'_>) -> Option<Outcome> {
        if self.due().is_none_or(|due| due > Instant::now()) {
            return None;
        }
        match self.under_way.take() {
            Some(check) => {
                self.probe = None;
                self.judge(check.failed("the health check could not be ended"))
            }
            // That no check could be begun is one that failed.
            None => self.start(subject).err().map(|error| {
                let why = format!("begin a health check: {error}");
                self.count(UnderWay::never().failed(&why))
            }),
        }
    }

    /// A client wants a check now, or the result of the one that is under way.
    pub(crate) fn ask(&mut self, client: u64, subject: Subject<'_>) -> io::Result<()> {
        if self.has_ended {
            return Err(io::Error::other("the container is about to end"));
        }
        if self.paused {
            return Err(io::Error::other(
                "the container is paused: unpause it first",
            ));
        }
        if self.under_way.is_none() {
            self.start(subject)?;
        }
        self.askers.push(client);
        Ok(())
    }

    fn start(&mut self, subject: Subject<'_>) -> io::Result<()> {
        self.void = false;
        let probe = match self.probe.take() {
            Some(probe) => probe,
            None => Probe::make(subject, self.course.config())?,
        };
        let (which, check) = self.course.check();
        self.under_way = Some(probe.ask(which, check)?);
        self.probe = Some(probe);
        Ok(())
    }

    /// Hears from the probe.
    ///
    /// `is_ending` says whether the container's first process is on its way out: that takes a check along, which
    /// tells nothing of the container then.
    pub(crate) fn hear(&mut self, is_ending: impl Fn() -> bool) -> Option<Outcome> {
        let never = UnderWay::never();
        let check = self.under_way.as_ref().unwrap_or(&never);
        let result = match self.probe.as_ref()?.hear(check) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
            // Somebody has killed it. The next check has another one.
            Err(_) => {
                self.probe = None;
                check.failed("the health check was killed")
            }
            Ok(result) => result,
        };
        self.under_way.take()?;
        if result.exit_code != 0 && is_ending() {
            self.void = true;
            self.next = None;
            self.has_ended = true;
            return None;
        }
        self.judge(result)
    }

    /// The container is to end: it is checked no more. Who asked gets no result.
    #[must_use = "who asked has to be told"]
    pub(crate) fn end(&mut self) -> Vec<u64> {
        self.has_ended = true;
        self.probe = None;
        self.under_way = None;
        self.next = None;
        std::mem::take(&mut self.askers)
    }

    fn judge(&mut self, result: HealthCheck) -> Option<Outcome> {
        if std::mem::take(&mut self.void) {
            self.schedule();
            if !self.askers.is_empty() {
                // They asked after it had begun to tell nothing.
                self.next = Some(Instant::now());
            }
            return None;
        }
        Some(self.count(result))
    }

    fn count(&mut self, result: HealthCheck) -> Outcome {
        let passed = result.exit_code == 0;
        let verdict = self.course.judge(result, Instant::now());
        self.schedule();
        Outcome {
            verdict,
            passed,
            askers: std::mem::take(&mut self.askers),
        }
    }

    fn schedule(&mut self) {
        let now = Instant::now();
        self.next = self
            .course
            .interval(now)
            .and_then(|span| now.checked_add(span));
    }

    /// The container was frozen, or goes on: the check that was under way meanwhile tells nothing, and whoever
    /// asked for it gets no result.
    #[must_use = "who asked has to be told"]
    pub(crate) fn pause(&mut self, paused: bool) -> Vec<u64> {
        self.paused = paused;
        self.void = self.under_way.is_some();
        if !paused && self.under_way.is_none() {
            self.schedule();
        }
        std::mem::take(&mut self.askers)
    }

    /// A client has gone.
    pub(crate) fn forget(&mut self, client: u64) {
        self.askers.retain(|asker| *asker != client);
    }
}

impl OnFailure {
    /// For the error that a run which ended by it is recorded with.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Kill => "it was unhealthy and was killed",
            Self::Restart => "it was unhealthy and is started again",
            Self::Stop => "it was unhealthy and was stopped",
        }
    }
}
