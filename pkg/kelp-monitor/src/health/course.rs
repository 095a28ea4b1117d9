//! What follows from the results of checks: no process, no clock, no file.

use std::time::{Duration, Instant};

use kelp_state::health::HealthCheck;
use kelp_state::{Health, HealthRecord};

use super::probe::Which;
use super::{Check, HealthConfig, LogDestination, OnFailure};

/// The checks of one run of a container.
#[derive(Debug)]
pub(super) struct Course {
    config: HealthConfig,
    begun: Instant,
    /// What was found.
    pub(super) record: HealthRecord,
    /// Startup checks in a row that were passed, and that failed, until there were enough of the first.
    startup: Option<(u32, u32)>,
    /// Whether no other one was made yet.
    is_first: bool,
}

/// What a result means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Whether the state is another one now.
    pub(crate) changed: bool,
    /// Whether it, or how often it failed, is.
    pub(crate) is_new: bool,
    /// What is to be done.
    pub(crate) act: OnFailure,
}

impl Course {
    /// For a program that was started at this time.
    pub(super) fn new(config: HealthConfig, begun: Instant) -> Self {
        Self {
            startup: config.startup.as_ref().map(|_| (0, 0)),
            config,
            begun,
            record: HealthRecord::default(),
            is_first: true,
        }
    }

    /// The check that comes next.
    pub(super) fn check(&self) -> (Which, &Check) {
        let startup = self.config.startup.as_ref();
        match startup.filter(|_| self.startup.is_some()) {
            Some(startup) => (Which::Startup, &startup.check),
            None => (Which::Usual, &self.config.check),
        }
    }

    /// How it is checked.
    pub(super) fn config(&self) -> &HealthConfig {
        &self.config
    }

    /// The time from now, when a check has ended, to the next one; `None` if there is none by itself.
    pub(super) fn interval(&self, now: Instant) -> Option<Duration> {
        let interval = self.check().1.interval?;
        let soon = self.config.start_interval;
        Some(match soon {
            // The startup checks were passed.
            _ if self.is_first && self.startup.is_none() => Duration::ZERO,
            Some(soon) if self.startup.is_none() && self.is_starting(now) => soon,
            _ => interval,
        })
    }

    /// The time between two checks, where one that is passed changes nothing but what is remembered.
    pub(super) fn rest(&self) -> Option<Duration> {
        let is_settled = self.record.status == Health::Healthy
            && self.record.failing_streak == 0
            && self.startup.is_none()
            // Whose reader wants to see each.
            && self.config.log_to == LogDestination::Local;
        self.config.check.interval.filter(|_| is_settled)
    }

    /// Whether failures do not count.
    fn is_starting(&self, now: Instant) -> bool {
        let age = now.saturating_duration_since(self.begun);
        self.record.status == Health::Starting && age < self.config.start_period
    }

    /// Takes a result of the check that came next.
    pub(super) fn judge(&mut self, check: HealthCheck, now: Instant) -> Verdict {
        let before = (self.record.status, self.record.failing_streak);
        let verdict = self.take(check, now);
        let is_new = before != (self.record.status, self.record.failing_streak);
        Verdict { is_new, ..verdict }
    }

    fn take(&mut self, check: HealthCheck, now: Instant) -> Verdict {
        let before = self.record.status;
        let passed = check.exit_code == 0;
        self.record.log.push(check);
        let count = self.config.log_count as usize;
        if count > 0 {
            let extra = self.record.log.len().saturating_sub(count);
            self.record.log.drain(..extra);
        }
        if let Some(counts) = self.startup {
            return self.judge_startup(counts, passed);
        }
        self.is_first = false;
        if passed {
            self.record.failing_streak = 0;
            self.record.status = Health::Healthy;
        } else if !self.is_starting(now) {
            self.record.failing_streak = self.record.failing_streak.saturating_add(1);
            if self.record.failing_streak >= self.config.retries {
                self.record.status = Health::Unhealthy;
            }
        }
        let changed = self.record.status != before;
        let failed = changed && self.record.status == Health::Unhealthy;
        Verdict {
            changed,
            is_new: changed,
            act: if failed {
                self.config.on_failure
            } else {
                OnFailure::None
            },
        }
    }

    fn judge_startup(&mut self, (successes, failures): (u32, u32), passed: bool) -> Verdict {
        let wanted = self.config.startup.as_ref();
        let (enough, retries) = wanted.map_or((1, 0), |wanted| (wanted.successes, wanted.retries));
        let (successes, failures) = if passed {
            (successes.saturating_add(1), 0)
        } else {
            (0, failures.saturating_add(1))
        };
        self.record.failing_streak = failures;
        self.startup = (successes < enough.max(1)).then_some((successes, failures));
        let gives_up = retries > 0 && failures >= retries;
        Verdict {
            changed: false,
            is_new: false,
            act: if gives_up {
                OnFailure::Restart
            } else {
                OnFailure::None
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Startup;
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn config() -> HealthConfig {
        HealthConfig {
            check: Check {
                test: vec!["CMD".to_owned(), "true".to_owned()],
                interval: Some(30 * SECOND),
                timeout: SECOND,
            },
            retries: 2,
            start_period: Duration::ZERO,
            start_interval: None,
            startup: None,
            on_failure: OnFailure::Kill,
            log_count: 3,
            log_size: 500,
            log_to: LogDestination::Local,
        }
    }

    fn result(exit_code: i32) -> HealthCheck {
        HealthCheck {
            start: String::new(),
            end: String::new(),
            exit_code,
            output: exit_code.to_string(),
        }
    }

    /// The states after results that come at these seconds.
    fn states(config: HealthConfig, results: &[(u64, i32)]) -> Vec<(Health, u32, OnFailure)> {
        let begun = Instant::now();
        let mut course = Course::new(config, begun);
        let mut before = Health::Starting;
        let each = |&(second, code): &(u64, i32)| {
            let now = begun + Duration::from_secs(second);
            let verdict = course.judge(result(code), now);
            assert_eq!(verdict.changed, course.record.status != before);
            before = course.record.status;
            (before, course.record.failing_streak, verdict.act)
        };
        results.iter().map(each).collect()
    }

    #[test]
    fn it_takes_several_failures_in_a_row() {
        use Health::{Healthy, Starting, Unhealthy};
        let (none, kill) = (OnFailure::None, OnFailure::Kill);
        let found = states(
            config(),
            &[
                (0, 1),
                (1, 0),
                (2, 1),
                (3, 0),
                (4, 1),
                (5, -1),
                (6, 1),
                (7, 0),
            ],
        );
        let expected = [
            (Starting, 1, none),
            (Healthy, 0, none),
            (Healthy, 1, none),
            (Healthy, 0, none),
            (Healthy, 1, none),
            (Unhealthy, 2, kill),
            // It is done once.
            (Unhealthy, 3, none),
            (Healthy, 0, none),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn failures_in_the_beginning_do_not_count_until_one_was_passed() {
        use Health::{Healthy, Starting, Unhealthy};
        let slow = HealthConfig {
            start_period: 10 * SECOND,
            on_failure: OnFailure::None,
            ..config()
        };
        let none = OnFailure::None;
        let found = states(slow.clone(), &[(1, 1), (9, 1), (10, 1), (11, 1)]);
        let expected = [
            (Starting, 0, none),
            (Starting, 0, none),
            (Starting, 1, none),
            (Unhealthy, 2, none),
        ];
        assert_eq!(found, expected);
        let found = states(slow, &[(1, 1), (2, 0), (3, 1), (4, 1)]);
        let expected = [
            (Starting, 0, none),
            (Healthy, 0, none),
            (Healthy, 1, none),
            (Unhealthy, 2, none),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn the_beginning_has_an_interval_of_its_own() {
        let begun = Instant::now();
        let quick = HealthConfig {
            start_period: 10 * SECOND,
            start_interval: Some(SECOND),
            ..config()
        };
        let mut course = Course::new(quick, begun);
        course.judge(result(1), begun);
        assert_eq!(course.interval(begun), Some(SECOND));
        assert_eq!(course.interval(begun + 10 * SECOND), Some(30 * SECOND));
        course.judge(result(0), begun);
        assert_eq!(course.interval(begun), Some(30 * SECOND));
        let mut manual = config();
        manual.check.interval = None;
        assert_eq!(Course::new(manual, begun).interval(begun), None);
    }

    #[test]
    fn startup_checks_come_first_and_too_many_failures_start_it_again() {
        use Health::{Healthy, Starting};
        let startup = Startup {
            check: Check {
                test: vec!["CMD".to_owned(), "ready".to_owned()],
                interval: Some(SECOND),
                timeout: SECOND,
            },
            successes: 2,
            retries: 3,
        };
        let slow = HealthConfig {
            startup: Some(startup),
            ..config()
        };
        let (none, restart) = (OnFailure::None, OnFailure::Restart);
        let results = [(0, 1), (1, 0), (2, 1), (3, 1), (4, 1)];
        let expected = [
            (Starting, 1, none),
            (Starting, 0, none),
            (Starting, 1, none),
            (Starting, 2, none),
            (Starting, 3, restart),
        ];
        assert_eq!(states(slow.clone(), &results), expected);
        let begun = Instant::now();
        let mut course = Course::new(slow, begun);
        for _ in 0..2 {
            assert_eq!(course.check().1.test[1], "ready");
            assert_eq!(course.interval(begun), Some(SECOND));
            course.judge(result(0), begun);
        }
        assert_eq!(course.check().1.test[1], "true");
        assert_eq!(course.interval(begun), Some(Duration::ZERO));
        assert_eq!(course.record.status, Starting);
        course.judge(result(0), begun);
        assert_eq!(course.record.status, Healthy);
    }

    #[test]
    fn a_check_that_is_passed_changes_nothing_once_all_is_well() {
        let begun = Instant::now();
        let mut course = Course::new(config(), begun);
        assert_eq!(course.rest(), None);
        for (code, rest) in [
            (0, Some(30 * SECOND)),
            (1, None),
            (0, Some(30 * SECOND)),
            (1, None),
            (1, None),
        ] {
            course.judge(result(code), begun);
            assert_eq!(course.rest(), rest);
        }
        let mut followed = Course::new(
            HealthConfig {
                log_to: LogDestination::Events,
                ..config()
            },
            begun,
        );
        followed.judge(result(0), begun);
        assert_eq!(followed.rest(), None);
    }

    #[test]
    fn the_last_checks_are_remembered() {
        for (count, kept) in [(3, &["3", "4", "5"][..]), (0, &["1", "2", "3", "4", "5"])] {
            let mut course = Course::new(
                HealthConfig {
                    log_count: count,
                    ..config()
                },
                Instant::now(),
            );
            for code in 1..=5 {
                course.judge(result(code), Instant::now());
            }
            let outputs: Vec<_> = course.record.log.iter().map(|it| &it.output).collect();
            assert_eq!(outputs, kept);
        }
    }
}
