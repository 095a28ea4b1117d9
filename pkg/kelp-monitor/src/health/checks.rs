//! The health checks of a container that runs, as the monitor's poll loop sees them: when one is due, what is
//! waited for, and what came of it.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant, SystemTime};

use kelp_state::health::HealthCheck;
use kelp_state::{Health, HealthRecord};

use super::course::{Course, Verdict};
use super::probe::{self, Probe, Request, Subject, Told, UnderWay};
use super::{HealthConfig, OnFailure};

/// The checks of one run of a container.
#[derive(Debug)]
pub(crate) struct Checks {
    course: Course,
    /// Who makes them, from the first one on.
    probe: Option<Probe>,
    /// What is under way.
    under_way: Option<UnderWay>,
    /// The number of the next request.
    number: u32,
    /// A result that was told and is for [`Checks::hear`].
    last: Option<Told>,
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
            number: 0,
            last: None,
            paused: false,
            has_ended: false,
            askers: Vec::new(),
        }
    }

    /// What was found so far.
    pub(crate) fn record(&mut self) -> &HealthRecord {
        self.look();
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

    fn is_due(&self) -> bool {
        self.due().is_some_and(|due| due <= Instant::now())
    }

    /// Whether checks are made by the probe alone, until one fails.
    fn is_series(&self) -> bool {
        let check = self.under_way.as_ref();
        check.is_some_and(|check| check.request.rest.is_some())
    }

    /// What becomes readable when [`Checks::hear`] is to be called.
    pub(crate) fn awaited(&self) -> Option<BorrowedFd<'_>> {
        self.probe.as_ref().map(Probe::awaited)
    }

    /// Begins a check if one is due, and ends one that takes too long.
    pub(crate) fn turn(&mut self, subject: Subject<'_>) -> Option<Outcome> {
        if !self.is_due() {
            return None;
        }
        self.look();
        if !self.is_due() {
            return None;
        }
        if let Some(check) = self.under_way.as_mut()
            && check.is_late()
        {
            // The monitor is: nothing ran for a while, the probe neither.
            check.wait_again();
            return None;
        }
        if self.last.is_some() {
            // It has told, and does not get to say so: its end says that.
            if let Some(probe) = &self.probe {
                probe.kill();
            }
            return None;
        }
        if let Some(check) = self.under_way.take() {
            self.probe = None;
            return Some(self.judge(check.failed("the health check could not be ended")));
        }
        // That no check could be begun is one that failed.
        let error = self.start(subject).err()?;
        let why = format!("begin a health check: {error}");
        Some(self.judge(probe::failed(SystemTime::now(), &why)))
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
        self.askers.push(client);
        if self.under_way.is_none() || self.is_series() {
            let started = self.start(subject);
            return started.inspect_err(|_| self.forget(client));
        }
        Ok(())
    }

    /// Has a check made now, unless somebody waits for it together with all that follow until one fails.
    fn start(&mut self, subject: Subject<'_>) -> io::Result<()> {
        let probe = match self.probe.take() {
            Some(probe) => probe,
            None => Probe::make(subject, self.course.config())?,
        };
        let (which, check) = self.course.check();
        let request = Request {
            number: self.number,
            which,
            rest: self.course.rest().filter(|_| self.askers.is_empty()),
        };
        self.number = self.number.wrapping_add(1);
        // One that is under way ends before.
        let before = match &self.under_way {
            Some(_) => check.timeout,
            None => Duration::ZERO,
        };
        let asked = probe.ask(request, check.timeout.saturating_add(before));
        // Of one that is no more the end is heard yet.
        self.probe = Some(probe);
        self.under_way = Some(asked?);
        Ok(())
    }

    /// Takes the results of a series that change nothing; one that is for [`Checks::hear`] waits for it.
    fn look(&mut self) {
        while self.last.is_none()
            && let Some(told) = self.probe.as_ref().and_then(Probe::result)
        {
            if told.is_last {
                self.last = Some(told);
                return;
            }
            if let Some(check) = self.under_way.as_mut().filter(|check| told.is_of(check)) {
                check.goes_on(&told);
            }
            self.course.judge(told.result(), Instant::now());
        }
    }

    /// Hears from the probe.
    ///
    /// `is_ending` says whether the container's first process is on its way out: that takes a check along, which
    /// tells nothing of the container then.
    pub(crate) fn hear(&mut self, is_ending: impl Fn() -> bool) -> Vec<Outcome> {
        let mut outcomes = Vec::new();
        let lives = match self.probe.as_ref().map(Probe::tells) {
            None | Some(Ok(false)) => return outcomes,
            Some(tells) => tells.is_ok(),
        };
        loop {
            self.look();
            let Some(told) = self.last.take() else {
                break;
            };
            let check = self.under_way.take_if(|check| told.is_of(check));
            let result = told.result();
            if result.exit_code != 0 && is_ending() {
                self.tells_nothing();
                return outcomes;
            }
            match check {
                Some(_) => outcomes.push(self.judge(result)),
                // The last of a series, before what a client has asked for.
                None => outcomes.push(self.count(result, Vec::new())),
            }
        }
        if !lives {
            // Somebody has killed it. The next check has another one.
            self.probe = None;
            let check = self.under_way.take();
            if check.is_some() && is_ending() {
                self.tells_nothing();
                return outcomes;
            }
            match check {
                Some(check) if check.has_begun() => {
                    outcomes.push(self.judge(check.failed("the health check was killed")));
                }
                // Between two of a series.
                Some(_) => self.schedule(),
                None => {}
            }
        }
        outcomes
    }

    /// The container ends: no more checks are made.
    fn tells_nothing(&mut self) {
        self.next = None;
        self.has_ended = true;
    }

    /// The container is to end: it is checked no more. Who asked gets no result.
    #[must_use = "who asked has to be told"]
    pub(crate) fn end(&mut self) -> Vec<u64> {
        self.look();
        self.has_ended = true;
        self.let_go();
        self.next = None;
        std::mem::take(&mut self.askers)
    }

    /// Ends the probe, and the check that is under way.
    fn let_go(&mut self) {
        self.probe = None;
        self.last = None;
        self.under_way = None;
    }

    /// Takes the result of what was under way, for whoever asked, and sees to the next check.
    fn judge(&mut self, result: HealthCheck) -> Outcome {
        let askers = std::mem::take(&mut self.askers);
        let outcome = self.count(result, askers);
        self.schedule();
        outcome
    }

    fn count(&mut self, result: HealthCheck, askers: Vec<u64>) -> Outcome {
        let passed = result.exit_code == 0;
        Outcome {
            verdict: self.course.judge(result, Instant::now()),
            passed,
            askers,
        }
    }

    fn schedule(&mut self) {
        let now = Instant::now();
        let interval = self.course.interval(now).filter(|_| !self.has_ended);
        self.next = interval.and_then(|span| now.checked_add(span));
    }

    /// The container was frozen, or goes on: the check that was under way meanwhile tells nothing, and whoever
    /// asked for it gets no result.
    #[must_use = "who asked has to be told"]
    pub(crate) fn pause(&mut self, paused: bool) -> Vec<u64> {
        self.look();
        self.paused = paused;
        self.let_go();
        self.schedule();
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
