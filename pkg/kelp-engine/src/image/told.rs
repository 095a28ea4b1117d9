//! A pull in a unit of systemd's: the manager hears how far it is, and waits longer as long as it goes on.
//!
//! A unit of Type=notify is ended when it has not started in time (TimeoutStartSec=, 90 seconds), which a pull can
//! take. Each step forward asks for more time (`EXTEND_TIMEOUT_USEC`, sd_notify(3)); what is said while nothing comes
//! (that another registry is asked, that something went wrong) does not, so that a pull that hangs still ends.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use kelp_image::digest::Digest;
use kelp_image::progress::{Event, Progress};
use kelp_image::space::amount;
use kelp_monitor::notify;

/// The time between two messages.
const PAUSE: Duration = Duration::from_secs(5);

/// What each asks for: what comes last, as the wait until a large layer is on the disk, tells nothing for a while.
const MORE: Duration = Duration::from_mins(1);

/// Tells the manager, and then whoever else is to be told.
pub(crate) struct Told<'a> {
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
    pub(crate) fn new(image: &'a str, next: &'a dyn Progress) -> Self {
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
            // The pull waits for nobody who does not want to know.
            notify::say_at_once(&message);
        }
        drop(state);
        self.next.event(event);
    }
}

impl State {
    /// What is to be told now.
    fn message(&mut self, image: &str, event: &Event<'_>, now: Instant) -> Option<String> {
        let gets_on = self.gets_on(event);
        let told = self.told;
        if told.is_some_and(|told| !gets_on || now < told + PAUSE) {
            return None;
        }
        self.told = Some(now);
        let sum = |(here, size): (u64, u64), &(more, of): &(u64, u64)| (here + more, size + of);
        let (here, size) = self.blobs.values().fold((0, 0), sum);
        let far = match size {
            0 => String::new(),
            size => format!(": {} of {}", amount(here), amount(size)),
        };
        let status = format!("STATUS=pulling {image}{far}");
        Some(if gets_on {
            format!("EXTEND_TIMEOUT_USEC={}\n{status}", MORE.as_micros())
        } else {
            status
        })
    }

    /// Takes a step down; whether there is more now than before it.
    fn gets_on(&mut self, event: &Event<'_>) -> bool {
        match *event {
            Event::BlobStarted { digest, size, from } => {
                self.blobs.insert(digest.clone(), (from, size));
                false
            }
            Event::BlobShared { digest, size, here } => {
                self.blobs.insert(digest.clone(), (here, size));
                true
            }
            Event::BlobAdvanced { digest, position } => {
                if let Some((here, _)) = self.blobs.get_mut(digest) {
                    *here = position;
                }
                true
            }
            Event::BlobDone { digest } => {
                if let Some((here, size)) = self.blobs.get_mut(digest) {
                    *here = *size;
                }
                true
            }
            Event::Found
            | Event::BlobFed { .. }
            | Event::BlobSkipped { .. }
            | Event::Config { .. }
            | Event::Writing => true,
            // A registry may be asked, and fail, again and again.
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use kelp_image::reference::Reference;

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
        // That something is tried is told, and that something went wrong, and no time is asked for.
        let web = Reference::parse("localhost/web").unwrap();
        let waits = Some("STATUS=pulling web".to_owned());
        assert_eq!(after(0, Event::Trying(&web)), waits);
        assert_eq!(after(6, Event::Warning("no answer")), None);
        assert_eq!(after(7, Event::Found), told("pulling web"));
        let started = Event::BlobStarted {
            digest: &digest,
            size: 30_000_000,
            from: 0,
        };
        assert_eq!(after(8, started), None);
        let advanced = Event::BlobAdvanced {
            digest: &digest,
            position: 10_000_000,
        };
        assert_eq!(after(12, advanced), told("pulling web: 10.0 MB of 30.0 MB"));
        let shared = Event::BlobShared {
            digest: &other,
            size: 5_000_000,
            here: 1_000_000,
        };
        assert_eq!(after(13, shared), None);
        assert_eq!(after(20, started), None);
        let fed = Event::BlobFed {
            digest: &digest,
            position: 1,
        };
        assert_eq!(after(21, fed), told("pulling web: 1.0 MB of 35.0 MB"));
        let done = Event::BlobDone { digest: &digest };
        assert_eq!(after(60, done), told("pulling web: 31.0 MB of 35.0 MB"));
    }
}
