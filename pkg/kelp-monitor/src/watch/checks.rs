//! Health checks in the poll loop: what a result changes, and whom it is told.

use std::fs;
use std::os::fd::AsFd;

use kelp_state::Health;
use kelp_state::file::{self, Durability};
use kelp_sys::fd::has_input;

use super::Watch;
use super::exiting::is_exiting;
use crate::finish::{current_name, note_health};
use crate::health::{Checks, HealthConfig, LogDestination, OnFailure, Outcome, Subject};
use crate::launch::Launch;
use crate::notify::Notify;
use crate::protocol::{Reply, send};

impl Watch<'_> {
    /// Makes health checks from now on, or none.
    pub(crate) fn check(&mut self, config: Option<&HealthConfig>) {
        let before = self.checks.take();
        self.refuse_all(
            before.map(|mut checks| checks.end()),
            "the checks were changed",
        );
        self.checks = config.cloned().map(Checks::begin);
        if self.run.paused {
            self.pause_checks(true);
        }
        self.write_health();
    }

    /// Makes no more: the container is to end, and what fails meanwhile says nothing of it.
    pub(super) fn end_checks(&mut self) {
        let askers = self.checks.as_mut().map(Checks::end);
        self.refuse_all(askers, "the container is about to end");
    }

    fn refuse_all(&mut self, askers: Option<Vec<u64>>, why: &str) {
        for asker in askers.into_iter().flatten() {
            self.refuse(asker, why);
        }
    }

    /// Has the service manager told when the container is healthy, if that is what it waits for.
    pub(crate) fn tell_when_healthy(&mut self, notify: Option<Notify>) {
        self.unready = notify;
    }

    /// The record may say something else of the checks now.
    pub(super) fn check_anew(&mut self) {
        let record = self.of.record;
        let launch = file::read_json::<Launch>(&record.data.join("launch.json"));
        let Ok(Some(launch)) = launch else {
            return;
        };
        let before = self.checks.as_ref().map(Checks::config);
        if before == launch.health.as_ref() {
            return;
        }
        self.check(launch.health.as_ref());
        if launch.health.is_none() {
            record.forget_health();
        }
    }

    /// Begins a check that is due, or ends one that takes too long.
    pub(super) fn look_at_the_health(&mut self) {
        let outcome = self.with_checks(Checks::turn).flatten();
        if let Some(outcome) = outcome {
            self.heed(outcome);
        }
    }

    /// The probe has something to tell.
    pub(super) fn hear_of_health(&mut self) {
        let (pid, init) = (self.run.pid, self.running.child.pidfd.as_fd());
        let is_ending = || has_input(init) || is_exiting(pid);
        let checks = self.checks.as_mut();
        let outcomes = checks.map(|checks| checks.hear(is_ending));
        for outcome in outcomes.into_iter().flatten() {
            self.heed(outcome);
        }
    }

    /// A client wants a check.
    pub(super) fn check_for(&mut self, number: u64) {
        match self.with_checks(|checks, subject| checks.ask(number, subject)) {
            Some(Ok(())) => {}
            Some(Err(error)) => self.refuse(number, &error.to_string()),
            None => self.refuse(number, "the container has no defined healthcheck"),
        }
    }

    /// The container is paused, or goes on.
    pub(super) fn pause_checks(&mut self, paused: bool) {
        let askers = self.checks.as_mut().map(|checks| checks.pause(paused));
        self.refuse_all(
            askers,
            "the container was paused before its check had ended",
        );
    }

    fn with_checks<T>(&mut self, act: impl FnOnce(&mut Checks, Subject<'_>) -> T) -> Option<T> {
        let subject = Subject {
            paths: self.of.paths,
            launch: self.of.launch,
            run: &self.run,
            init: self.running.child.pidfd.as_fd(),
            kept: self.running.kept.as_ref(),
        };
        self.checks.as_mut().map(|checks| act(checks, subject))
    }

    /// Does what follows from a result.
    fn heed(&mut self, outcome: Outcome) {
        let Some(checks) = &self.checks else {
            return;
        };
        let health = checks.status();
        // That all is as it was is written when somebody wants to see it: most of the work of a check would be that.
        let is_told = outcome.verdict.is_new || !outcome.askers.is_empty();
        let log_to = checks.config().log_to.clone();
        if is_told || matches!(log_to, LogDestination::Directory(_)) {
            self.write_health();
        }
        if outcome.verdict.changed || log_to == LogDestination::Events {
            let super::Subject {
                paths,
                record,
                launch,
                ..
            } = self.of;
            let name = current_name(paths, record, launch);
            let found = self.checks.as_mut().map(Checks::record);
            if let Some(found) = found {
                let is_logged = log_to == LogDestination::Events;
                note_health(paths, record, launch, &name, found, is_logged);
            }
            if health == Health::Healthy
                && let Some(notify) = self.unready.take()
            {
                notify.healthy(&name);
            }
        }
        for asker in outcome.askers {
            if let Some(client) = self.clients.iter().find(|client| client.number == asker) {
                let passed = outcome.passed;
                let _ = send(
                    client.socket.as_fd(),
                    &Reply::Checked { passed, health },
                    &[],
                );
            }
        }
        self.act(outcome.verdict.act);
    }

    fn act(&mut self, act: OnFailure) {
        // Whoever stops it has the last word.
        if act == OnFailure::None || self.stopped || self.ends || self.again {
            return;
        }
        self.ended_because = act.reason();
        match act {
            OnFailure::None => {}
            OnFailure::Kill => {
                self.end_checks();
                self.kill();
            }
            OnFailure::Restart => {
                self.again = true;
                self.ask_to_end();
            }
            OnFailure::Stop => {
                self.stopped = true;
                self.ask_to_end();
            }
        }
    }

    /// Writes what was found.
    pub(super) fn write_health(&mut self) {
        let Some(checks) = &mut self.checks else {
            return;
        };
        let record = self.of.record;
        let log_to = checks.config().log_to.clone();
        let found = checks.record();
        let _ = record.write_health(found);
        if let LogDestination::Directory(directory) = log_to
            // As long as it is there, and no longer.
            && fs::metadata(&directory).is_ok()
        {
            let path = directory.join(format!("{}-healthcheck.log", record.id));
            let _ = file::write_json(&path, found, Durability::None);
        }
    }
}
