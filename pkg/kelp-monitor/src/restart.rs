//! `--restart`: whether a program that has ended is started again, and how soon.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::RecvFlags;
use serde::{Deserialize, Serialize};

use crate::door::Door;
use crate::protocol::{Reply, Request, receive, send};

/// When a program that has ended by itself is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// Only where it failed.
    pub failed: bool,
    /// At most so often.
    pub limit: Option<u32>,
}

impl Restart {
    pub(crate) fn applies(self, code: i32, restarts: u32) -> bool {
        (code != 0 || !self.failed) && self.limit.is_none_or(|limit| restarts < limit)
    }
}

/// The pauses before a restart: from 100 ms, twice as long each time, up to a minute.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    doublings: u32,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(100);
    const LONGEST: Duration = Duration::from_mins(1);
    /// A program that ran for so long was no failed start.
    const STEADY: Duration = Duration::from_secs(10);

    /// The pause after a run of this length.
    pub(crate) fn next(&mut self, ran: Duration) -> Duration {
        if ran >= Self::STEADY {
            self.doublings = 0;
        }
        let pause = Self::FIRST.saturating_mul(1 << self.doublings.min(16));
        self.doublings += 1;
        pause.min(Self::LONGEST)
    }
}

/// How long before the end of a pause the next run is made, but for its program: longer than that takes, and
/// than ports are missed that nobody serves.
pub(crate) fn lead(pause: Duration) -> Duration {
    (pause / 2).min(Backoff::FIRST)
}

/// Why a pause is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// Its time is.
    Time,
    /// Somebody has said on the socket that the container is to stay stopped.
    Stopped,
    /// The monitor is to end, as a signal says.
    Ends,
}

/// The time between two runs: who comes to the socket meanwhile is heard.
pub(crate) struct Pause<'a> {
    signals: &'a OwnedFd,
    door: Door<'a>,
    clients: Vec<OwnedFd>,
}

impl<'a> Pause<'a> {
    pub(crate) fn new(listener: &'a OwnedFd, signals: &'a OwnedFd) -> Self {
        Self {
            signals,
            door: Door::new(listener),
            clients: Vec::new(),
        }
    }

    /// Waits until a time, or until somebody has said something else.
    pub(crate) fn wait(&mut self, until: Instant) -> io::Result<Over> {
        loop {
            let due = self.door.opens_at().map_or(until, |time| time.min(until));
            let left = timespec(due.saturating_duration_since(Instant::now()));
            let mut fds: Vec<_> = [self.signals]
                .into_iter()
                .chain(&self.clients)
                .map(|socket| PollFd::new(socket, PollFlags::IN))
                .collect();
            let listening = self.door.awaited();
            fds.extend(listening.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
            match poll(&mut fds, Some(&left)) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let ready: Vec<_> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            if ready[0] {
                return Ok(Over::Ends);
            }
            let mut heard = ready[1..].iter();
            let before = self.clients.len();
            let mut stopped = false;
            self.clients.retain(|client| {
                if !heard.next().is_some_and(|ready| *ready) {
                    return true;
                }
                match receive::<Request>(client.as_fd(), RecvFlags::DONTWAIT) {
                    Ok(Some((Request::Stop, _))) => {
                        let _ = send(client.as_fd(), &Reply::Done, &[]);
                        stopped = true;
                        true
                    }
                    // There is nothing to attach to.
                    _ => false,
                }
            });
            if stopped {
                return Ok(Over::Stopped);
            }
            if self.clients.len() < before {
                self.door.open();
            }
            if listening.is_some() && heard.next().is_some_and(|ready| *ready) {
                self.clients.extend(self.door.accept());
                // What it says counts, also where the time is over.
                continue;
            }
            if until <= Instant::now() {
                return Ok(Over::Time);
            }
        }
    }
}

/// For poll(2), which wakes up no earlier.
pub(crate) fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(time.subsec_nanos()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_looks_at_the_code_and_the_count() {
        for (failed, limit, code, restarts, again) in [
            (false, None, 0, 1000, true),
            (true, None, 0, 0, false),
            (true, None, 1, 1000, true),
            (true, Some(2), 1, 1, true),
            (true, Some(2), 1, 2, false),
        ] {
            let policy = Restart { failed, limit };
            assert_eq!(policy.applies(code, restarts), again, "{policy:?}");
        }
    }

    #[test]
    fn pauses_double_up_to_a_minute_and_begin_anew_after_a_steady_run() {
        let mut backoff = Backoff::default();
        let mut next = |ran| backoff.next(Duration::from_secs(ran)).as_millis();
        assert_eq!([next(0), next(0), next(0)], [100, 200, 400]);
        for _ in 0..30 {
            next(0);
        }
        assert_eq!([next(0), next(11), next(0)], [60_000, 100, 200]);
    }
}
