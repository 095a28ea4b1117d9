//! A pull in a unit of systemd's: the manager hears how far it is, and waits longer as long as it goes on.
//!
//! A unit of Type=notify is ended when it has not started in time (TimeoutStartSec=, 90 seconds), which a pull can
//! take. Each message asks for more time (`EXTEND_TIMEOUT_USEC`, sd_notify(3)); a pull that gets nowhere sends none,
//! so that one that hangs still ends.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use kelp_image::digest::Digest;
use kelp_image::progress::{Event, Progress};
use kelp_image::space::amount;
use kelp_monitor::notify;

/// The time between two messages.
const PAUSE: Duration = Duration::from_secs(5);

/// What each asks for: what comes last, as the extraction of a large layer, tells nothing for a while.
const MORE: Duration = Duration::from_mins(1);

/// Tells the manager, and then whoever else is to be told.
pub(super) struct Told<'a> {
    image: &'a str,
    next: &'a dyn Progress,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Of each blob how many bytes are here, and how many there are.
    blobs: BTreeMap<Digest, (u64, u64)>,
    told: Option<Instant>,
}

impl<'a> Told<'a> {
    pub(super) fn new(image: &'a str, next: &'a dyn Progress) -> Self {
        Self {
            image,
            next,
            state: Mutex::default(),
        }
    }
}

impl Progress for Told<'_> {
    fn event(&self, event: Event<'_>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(message) = state.message(self.image, &event, Instant::now()) {
            // Nobody is there who wants to know.
            let _ = notify::say(&message);
        }
        drop(state);
        self.next.event(event);
    }
}

impl State {
    /// What is to be told now.
    fn message(&mut self, image: &str, event: &Event<'_>, now: Instant) -> Option<String> {
        match *event {
            Event::BlobStarted { digest, size, from } => {
                self.blobs.insert(digest.clone(), (from, size));
            }
            Event::BlobShared { digest, size, here } => {
                self.blobs.insert(digest.clone(), (here, size));
            }
            Event::BlobAdvanced { digest, position } => {
                if let Some((here, _)) = self.blobs.get_mut(digest) {
                    *here = position;
                }
            }
            Event::BlobDone { digest } => {
                if let Some((here, size)) = self.blobs.get_mut(digest) {
                    *here = *size;
                }
            }
            _ => {}
        }
        if self.told.is_some_and(|told| now < told + PAUSE) {
            return None;
        }
        self.told = Some(now);
        let sum = |(here, size): (u64, u64), &(more, of): &(u64, u64)| (here + more, size + of);
        let (here, size) = self.blobs.values().fold((0, 0), sum);
        let far = match size {
            0 => String::new(),
            size => format!(": {} of {}", amount(here), amount(size)),
        };
        let more = MORE.as_micros();
        Some(format!(
            "EXTEND_TIMEOUT_USEC={more}\nSTATUS=pulling {image}{far}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manager_hears_of_progress_now_and_then() {
        let mut state = State::default();
        let begin = Instant::now();
        let digest = Digest::of(b"a layer");
        let other = Digest::of(b"another one");
        let mut after = |seconds, event: Event<'_>| {
            state.message("web", &event, begin + Duration::from_secs(seconds))
        };
        let told = |status: &str| Some(format!("EXTEND_TIMEOUT_USEC=60000000\nSTATUS={status}"));
        assert_eq!(after(0, Event::Found), told("pulling web"));
        let started = Event::BlobStarted {
            digest: &digest,
            size: 30_000_000,
            from: 0,
        };
        assert_eq!(after(1, started), None);
        let advanced = Event::BlobAdvanced {
            digest: &digest,
            position: 10_000_000,
        };
        assert_eq!(after(5, advanced), told("pulling web: 10.0 MB of 30.0 MB"));
        let shared = Event::BlobShared {
            digest: &other,
            size: 5_000_000,
            here: 1_000_000,
        };
        assert_eq!(after(6, shared), None);
        let done = Event::BlobDone { digest: &digest };
        assert_eq!(after(60, done), told("pulling web: 31.0 MB of 35.0 MB"));
    }
}
