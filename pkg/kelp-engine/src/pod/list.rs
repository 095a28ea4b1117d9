//! The list of pods: what each is, who is in it, and what follows from that for its status.

use std::fmt;

use kelp_state::{ContainerId, Record, Status, pod};

use crate::container::list::Listed;
use crate::pod::PodConfig;
use crate::{Engine, Error};

/// A pod and its containers.
#[derive(Clone, Debug)]
pub struct ListedPod {
    /// What it is.
    pub config: PodConfig,
    /// Its containers, the oldest first, and so the infra container before the others.
    pub containers: Vec<Listed>,
    /// What it does.
    pub status: PodStatus,
}

/// What a pod does, in podman's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PodStatus {
    /// No container was started yet, or there is none.
    Created,
    /// All containers run.
    Running,
    /// Some containers run.
    Degraded,
    /// None runs, and some were started.
    Stopped,
    /// All have ended.
    Exited,
    /// All are paused.
    Paused,
    /// A container's record is damaged, and none runs.
    Error,
}

impl PodStatus {
    /// As it is printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "Created",
            Self::Running => "Running",
            Self::Degraded => "Degraded",
            Self::Stopped => "Stopped",
            Self::Exited => "Exited",
            Self::Paused => "Paused",
            Self::Error => "Error",
        }
    }

    /// From what the containers do; `None` for one of which that is not known.
    fn of(statuses: impl IntoIterator<Item = Option<Status>>) -> Self {
        let (mut all, mut running, mut paused, mut ended, mut unknown) = (0, 0, 0, 0, 0);
        for status in statuses {
            all += 1;
            match status {
                Some(Status::Running | Status::Stopping) => running += 1,
                Some(Status::Paused) => paused += 1,
                Some(Status::Exited) => ended += 1,
                Some(Status::Created) => {}
                None => unknown += 1,
            }
        }
        match all {
            0 => Self::Created,
            _ if running == all => Self::Running,
            _ if running > 0 => Self::Degraded,
            _ if paused == all => Self::Paused,
            _ if ended == all => Self::Exited,
            _ if ended > 0 => Self::Stopped,
            _ if unknown > 0 => Self::Error,
            _ => Self::Created,
        }
    }
}

impl fmt::Display for PodStatus {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

impl Engine {
    /// Every pod, the oldest first, but for those that are being made or removed and those whose record is damaged.
    pub fn list_pods(&self) -> Vec<ListedPod> {
        let pods = self.pods().into_iter();
        pods.map(|config| self.listed_pod(config)).collect()
    }

    /// One pod as a list shows it.
    pub fn inspect_pod(&self, id: &ContainerId) -> Result<ListedPod, Error> {
        Ok(self.listed_pod(self.pod(id)?))
    }

    fn listed_pod(&self, config: PodConfig) -> ListedPod {
        let mut containers = Vec::new();
        let mut damaged = 0;
        for id in pod::members(&self.paths, &config.id) {
            let record = Record::new(&self.paths, id);
            match self.listed(&record) {
                Ok(listed) => containers.extend(listed),
                Err(_) => damaged += 1,
            }
        }
        containers.sort_by(|one, other| {
            let (one, other) = (&one.summary, &other.summary);
            (one.created, &one.id).cmp(&(other.created, &other.id))
        });
        let known = containers.iter().map(|listed| Some(listed.status));
        let status = PodStatus::of(known.chain(std::iter::repeat_n(None, damaged)));
        ListedPod {
            config,
            containers,
            status,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_follows_from_those_of_the_containers() {
        use Status::{Created, Exited, Paused, Running};
        for (statuses, expected) in [
            (&[][..], PodStatus::Created),
            (&[Some(Created), Some(Created)], PodStatus::Created),
            (&[Some(Running), Some(Running)], PodStatus::Running),
            (&[Some(Running), Some(Created)], PodStatus::Degraded),
            (&[Some(Running), Some(Paused)], PodStatus::Degraded),
            (&[Some(Running), Some(Exited)], PodStatus::Degraded),
            (&[Some(Paused), Some(Paused)], PodStatus::Paused),
            (&[Some(Paused), Some(Exited)], PodStatus::Stopped),
            (&[Some(Exited), Some(Created)], PodStatus::Stopped),
            (&[Some(Exited), Some(Exited)], PodStatus::Exited),
            (&[Some(Created), None], PodStatus::Error),
            (&[Some(Running), None], PodStatus::Degraded),
        ] {
            assert_eq!(
                PodStatus::of(statuses.iter().copied()),
                expected,
                "{statuses:?}"
            );
        }
    }
}
