//! The end of a service container: the last of its pods that ends has it stopped.
//!
//! A service container stands for the pods of one unit of systemd's: its monitor is the unit's main process, and what
//! it exits with is what the unit comes to. As with a pod's last member there is nobody who could see the end of the
//! last pod but the pods themselves: the monitor of each infra container looks around once its own lock is free.

use std::fs;
use std::os::fd::AsFd;

use kelp_state::{ContainerId, Paths, Record, file, pod};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::{Deserialize, Serialize};

/// Has its program exit with 0, as `kelp internal pause` does.
const WELL: i32 = 15;

/// Has its program exit with 1.
const FAILED: i32 = 10;

/// Has it end, whatever it does.
const KILL: i32 = 9;

/// How often a signal is sent, and how long the end is waited for after each.
const ATTEMPTS: u32 = 100;
const PAUSE: Timespec = Timespec {
    tv_sec: 0,
    tv_nsec: 100_000_000,
};

/// A service container, as far as its pods have to know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// Its id.
    pub container: ContainerId,
    /// What it exits with.
    pub fails: Fails,
}

/// When a service container exits with 1 instead of 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fails {
    /// Never.
    #[default]
    None,
    /// If a container of its pods has failed.
    Any,
    /// If all have.
    All,
}

impl Fails {
    /// Whether it has failed whose containers have exited with these codes.
    pub fn is_so(self, codes: &[i32]) -> bool {
        let mut failed = codes.iter().map(|code| *code != 0);
        match self {
            Self::None => false,
            Self::Any => failed.any(|it| it),
            Self::All => !codes.is_empty() && failed.all(|it| it),
        }
    }
}

/// What is read of a pod's config.
#[derive(Deserialize)]
struct Config {
    id: ContainerId,
    infra: Option<ContainerId>,
    service: Option<Service>,
}

/// Ends the service container, if none of its pods runs any more. Whoever calls this is an infra container that has
/// ended, or has started the service container.
pub fn leave(paths: &Paths, service: &Service) {
    let mut codes = Vec::new();
    for pod in pods(paths, &service.container) {
        for id in pod::members(paths, &pod.id) {
            let is_infra = pod.infra.as_ref() == Some(&id);
            let record = Record::new(paths, id);
            if record.is_alive() {
                return;
            }
            if !is_infra {
                let exit = record.exit().ok().flatten();
                // What was stopped has not failed.
                codes.extend(exit.map(|exit| if exit.stopped { 0 } else { exit.code }));
            }
        }
    }
    let signal = if service.fails.is_so(&codes) {
        FAILED
    } else {
        WELL
    };
    end(&Record::new(paths, service.container.clone()), signal);
}

/// Has the containers of all pods stopped, which end those; false if none runs. Their monitors may be in a unit's
/// cgroup, where the manager kills what is left once the main process has ended.
pub(crate) fn stop(paths: &Paths, container: &ContainerId) -> bool {
    let mut runs = false;
    for pod in pods(paths, container) {
        let members = pod::members(paths, &pod.id);
        for id in members
            .into_iter()
            .filter(|id| pod.infra.as_ref() != Some(id))
        {
            runs |= crate::pod::end(&Record::new(paths, id)).is_some();
        }
    }
    runs
}

fn pods(paths: &Paths, service: &ContainerId) -> Vec<Config> {
    let entries = fs::read_dir(paths.pods()).into_iter().flatten().flatten();
    let read = entries.filter_map(|entry| {
        let path = entry.path().join("config.json");
        file::read_json::<Config>(&path).ok().flatten()
    });
    let is_its = |pod: &Config| {
        pod.service
            .as_ref()
            .is_some_and(|it| it.container == *service)
    };
    read.filter(is_its).collect()
}

/// Signals the program, if it runs.
fn end(record: &Record, signal: i32) {
    let Ok(Some(run)) = record.run() else { return };
    let Some(process) = run.open_init() else {
        return;
    };
    // A program that has just begun does not wait for signals yet, and what finds no handler in the first process of a
    // namespace is lost (pid_namespaces(7)).
    for attempt in 0..ATTEMPTS {
        let last = attempt + 1 == ATTEMPTS;
        let signal = if last { KILL } else { signal };
        let _ = kelp_sys::signal::pidfd_send(process.as_fd(), signal);
        let mut ended = [PollFd::new(&process, PollFlags::IN)];
        if matches!(poll(&mut ended, Some(&PAUSE)), Ok(1)) {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_containers_say_whether_a_service_has_failed() {
        for (codes, any, all) in [
            (&[][..], false, false),
            (&[0, 0], false, false),
            (&[0, 3], true, false),
            (&[137, 3], true, true),
        ] {
            assert!(!Fails::None.is_so(codes));
            assert_eq!(Fails::Any.is_so(codes), any, "{codes:?}");
            assert_eq!(Fails::All.is_so(codes), all, "{codes:?}");
        }
    }
}
