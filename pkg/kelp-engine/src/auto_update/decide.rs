//! What is to be done, from what was found: digests, the results of jobs, the states of units, and health.
//!
//! Nothing here looks at anything itself.

use std::time::Duration;

use kelp_image::Digest;
use kelp_image::offer::Offer;
use kelp_monitor::health::HealthConfig;
use kelp_systemd::JobResult;

use super::failed::Failed;

/// The longest that a container is waited for until it is healthy, whatever its checks say.
pub(super) const HEALTH_LIMIT: Duration = Duration::from_mins(10);

/// What is to be done about a container's image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Decision {
    /// The container is made of what there is.
    Current,
    /// There is another image.
    Update,
    /// There is another one, that has failed here before.
    Failed,
}

/// About the image of a container by what its registry has: `offer`, if that is another one. `named` is the image
/// that the name stands for here, and `failed` the one that was taken back last.
///
/// One that has failed and that the name stands for all the same was brought by the user.
pub(super) fn by_registry(
    offer: Option<&Offer>,
    named: Option<&Digest>,
    failed: Option<&Failed>,
) -> Decision {
    let Some(offer) = offer else {
        return Decision::Current;
    };
    match failed {
        Some(failed) if failed.is(offer) && named != Some(&offer.id) => Decision::Failed,
        _ => Decision::Update,
    }
}

/// About the image of a container by what its name stands for here.
pub(super) fn by_name(container: &Digest, named: &Digest) -> Decision {
    if container == named {
        Decision::Current
    } else {
        Decision::Update
    }
}

/// What a restart of a unit has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Restarted {
    /// Its job did what it was for.
    Done,
    /// The unit does not run, and the new image may be why.
    Failed,
    /// Somebody else has a hand in the unit: it is left to them.
    Taken,
}

/// What the result of a restart's job means.
pub(super) fn restarted(result: &JobResult) -> Restarted {
    match result {
        JobResult::Done => Restarted::Done,
        JobResult::Canceled => Restarted::Taken,
        _ => Restarted::Failed,
    }
}

/// How a unit is: `ActiveState` and `SubState`, in systemd's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnitState {
    pub(crate) active: String,
    pub(crate) sub: String,
}

impl UnitState {
    /// Whether its program runs until it has done its work: a service of `Type=oneshot`, which starts as long.
    fn is_at_work(&self) -> bool {
        self.active == "activating" && self.sub == "start"
    }

    /// Whether a unit that was so before is as it should be, when it is as `self` after a restart that was done.
    pub(super) fn is_well(&self, before: &Self) -> bool {
        matches!(self.active.as_str(), "active" | "reloading" | "refreshing")
            || self.has_done(before)
    }

    /// Whether it did its work meanwhile, and has ended.
    pub(super) fn has_done(&self, before: &Self) -> bool {
        self.active == "inactive" && before.is_at_work()
    }
}

/// How long a container's health may be open after its start: until its checks must have come to something, and no
/// longer than [`HEALTH_LIMIT`]. `None` for one without checks that are made by themselves.
pub(super) fn time_to_be_healthy(health: Option<&HealthConfig>) -> Option<Duration> {
    let health = health?;
    let interval = health.check.interval?;
    let of = |interval: Duration, timeout: Duration, retries: u32| {
        interval.saturating_add(timeout).saturating_mul(retries)
    };
    let mut time =
        health
            .start_period
            .saturating_add(of(interval, health.check.timeout, health.retries));
    if let Some(startup) = &health.startup {
        // One that may fail as often as it likes.
        let retries = match startup.retries {
            0 => u32::MAX,
            retries => retries.max(startup.successes),
        };
        let interval = startup.check.interval.unwrap_or_default();
        time = time.saturating_add(of(interval, startup.check.timeout, retries));
    }
    Some(time.min(HEALTH_LIMIT))
}

#[cfg(test)]
mod tests {
    use super::*;
    use kelp_monitor::health::{Check, LogDestination, OnFailure, Startup};

    fn digest(text: &str) -> Digest {
        Digest::of(text.as_bytes())
    }

    fn offer(text: &str) -> Offer {
        Offer {
            id: digest(text),
            manifest: digest(&format!("manifest of {text}")),
        }
    }

    fn failed(text: &str) -> Failed {
        let Offer { id, manifest } = offer(text);
        Failed::new(
            "quay.io/app/web:1",
            id,
            manifest,
            "web.service",
            "it failed",
        )
    }

    #[test]
    fn an_image_is_updated_unless_it_has_failed_before() {
        let (one, two) = (offer("one"), offer("two"));
        let (old, bad) = (digest("old"), failed("one"));
        for (offer, named, failed, expected) in [
            (None, Some(&old), None, Decision::Current),
            (None, Some(&old), Some(&bad), Decision::Current),
            (Some(&one), Some(&old), None, Decision::Update),
            (Some(&one), None, None, Decision::Update),
            // It was pulled, and the unit not started again.
            (Some(&one), Some(&one.id), None, Decision::Update),
            (Some(&one), Some(&old), Some(&bad), Decision::Failed),
            (Some(&one), None, Some(&bad), Decision::Failed),
            // By hand, after it has failed.
            (Some(&one), Some(&one.id), Some(&bad), Decision::Update),
            // The registry has another one by now.
            (Some(&two), Some(&old), Some(&bad), Decision::Update),
        ] {
            assert_eq!(
                by_registry(offer, named, failed),
                expected,
                "{offer:?} {named:?} {failed:?}"
            );
        }
        assert_eq!(by_name(&old, &old), Decision::Current);
        assert_eq!(by_name(&old, &one.id), Decision::Update);
    }

    #[test]
    fn what_failed_is_known_by_its_manifest_or_its_config() {
        let bad = failed("one");
        let anew = Offer {
            manifest: digest("compressed anew"),
            ..offer("one")
        };
        assert!(bad.is(&offer("one")) && bad.is(&anew) && !bad.is(&offer("two")));
    }

    #[test]
    fn only_a_job_that_is_done_is_a_restart() {
        for (result, expected) in [
            (JobResult::Done, Restarted::Done),
            (JobResult::Failed, Restarted::Failed),
            (JobResult::Timeout, Restarted::Failed),
            (JobResult::Dependency, Restarted::Failed),
            (JobResult::Skipped, Restarted::Failed),
            (JobResult::Other("frozen".to_owned()), Restarted::Failed),
            (JobResult::Canceled, Restarted::Taken),
        ] {
            assert_eq!(restarted(&result), expected, "{result}");
        }
    }

    #[test]
    fn a_unit_is_well_when_it_is_active_or_has_done_its_work() {
        let state = |active: &str, sub: &str| UnitState {
            active: active.to_owned(),
            sub: sub.to_owned(),
        };
        let service = state("active", "running");
        let oneshot = state("activating", "start");
        let begun_again = state("activating", "auto-restart");
        for (after, before, well) in [
            (&service, &service, true),
            (&state("active", "exited"), &service, true),
            (&state("reloading", "reload"), &service, true),
            (&begun_again, &service, false),
            (&state("failed", "failed"), &service, false),
            (&state("inactive", "dead"), &service, false),
            (&state("deactivating", "stop"), &service, false),
            (&state("inactive", "dead"), &oneshot, true),
            (&state("failed", "failed"), &oneshot, false),
            (&state("inactive", "dead"), &begun_again, false),
        ] {
            assert_eq!(after.is_well(before), well, "{after:?} {before:?}");
        }
    }

    #[test]
    fn health_is_waited_for_as_long_as_its_checks_may_take() {
        let check = |interval, timeout| Check {
            test: vec!["CMD".to_owned(), "true".to_owned()],
            interval,
            timeout,
        };
        let seconds = Duration::from_secs;
        let mut health = HealthConfig {
            check: check(Some(seconds(5)), seconds(2)),
            retries: 3,
            start_period: seconds(10),
            start_interval: None,
            startup: None,
            on_failure: OnFailure::None,
            log_count: 0,
            log_size: 0,
            log_to: LogDestination::Local,
        };
        assert_eq!(time_to_be_healthy(None), None);
        assert_eq!(time_to_be_healthy(Some(&health)), Some(seconds(31)));
        let startup = |successes, retries| {
            Some(Startup {
                check: check(Some(seconds(1)), seconds(1)),
                successes,
                retries,
            })
        };
        health.startup = startup(1, 4);
        assert_eq!(time_to_be_healthy(Some(&health)), Some(seconds(39)));
        health.startup = startup(5, 4);
        assert_eq!(time_to_be_healthy(Some(&health)), Some(seconds(41)));
        health.startup = startup(1, 0);
        assert_eq!(time_to_be_healthy(Some(&health)), Some(HEALTH_LIMIT));
        health.startup = None;
        health.start_period = Duration::MAX;
        assert_eq!(time_to_be_healthy(Some(&health)), Some(HEALTH_LIMIT));
        health.check.interval = None;
        assert_eq!(time_to_be_healthy(Some(&health)), None);
    }
}
