//! `pod stop`, `kill`, `pause` and `unpause`: what is done to a pod is done to each of its containers.

use std::time::Duration;

use kelp_state::{ContainerId, Status};

use crate::container::Config;
use crate::container::signal::{StopRequest, Stopped};
use crate::pod::{Membership, PodConfig};
use crate::{Engine, Error, Kind};

/// A container of a pod, and why something could not be done to it.
pub type Failed = (ContainerId, Error);

impl Engine {
    /// Stops the containers of a pod, the infra container last. `tell` hears how it went with each.
    ///
    /// # Errors
    /// If there is no such pod; what could not be stopped is returned.
    pub fn stop_pod(
        &self,
        id: &ContainerId,
        timeout: Option<Duration>,
        tell: impl Fn(&ContainerId, &Stopped) + Sync,
    ) -> Result<Vec<Failed>, Error> {
        let pod = self.pod(id)?;
        let failed = self.stop_members(&pod, timeout, tell);
        self.note_pod("stop", &pod);
        Ok(failed)
    }

    /// The same without a word in the journal but for those of the containers.
    pub(crate) fn stop_members(
        &self,
        pod: &PodConfig,
        timeout: Option<Duration>,
        tell: impl Fn(&ContainerId, &Stopped) + Sync,
    ) -> Vec<Failed> {
        let request = StopRequest {
            timeout,
            ..StopRequest::default()
        };
        let stop = |id: &ContainerId| match self.stop_container(id, request) {
            // One that goes with its end has ended.
            Err(error) if error.kind() == Kind::NotFound => Ok(()),
            stopped => stopped.map(|stopped| tell(id, &stopped)),
        };
        let mut failed = Vec::new();
        let members = self.members_of_pod(&pod.id);
        let (infra, others): (Vec<_>, Vec<_>) = members.into_iter().partition(is_infra);
        for group in [others, infra] {
            let ids: Vec<_> = group.into_iter().map(|config| config.id).collect();
            self.each_dependent_first(&ids, stop, |id, stopped| {
                failed.extend(stopped.err().map(|error| (id.clone(), error)));
            });
        }
        failed
    }

    /// Sends a signal to all that runs in a pod.
    ///
    /// # Errors
    /// If there is no such pod; what could not be signalled is returned.
    pub fn kill_pod(&self, id: &ContainerId, signal: i32) -> Result<Vec<Failed>, Error> {
        let pod = self.pod(id)?;
        let failed = self.on_members(&pod, Status::can_kill, |id| self.kill_container(id, signal));
        self.note_pod("kill", &pod);
        Ok(failed)
    }

    /// Freezes all that runs in a pod, or lets all go on that is paused.
    ///
    /// # Errors
    /// If there is no such pod; what could not be paused is returned.
    pub fn pause_pod(&self, id: &ContainerId, pause: bool) -> Result<Vec<Failed>, Error> {
        let pod = self.pod(id)?;
        let from = if pause {
            Status::Running
        } else {
            Status::Paused
        };
        let failed = self.on_members(
            &pod,
            |status| status == from,
            |id| self.pause_container(id, pause),
        );
        self.note_pod(if pause { "pause" } else { "unpause" }, &pod);
        Ok(failed)
    }

    /// Does something to the containers that are in a status for it, the infra container last.
    fn on_members(
        &self,
        pod: &PodConfig,
        is_meant: impl Fn(Status) -> bool,
        act: impl Fn(&ContainerId) -> Result<(), Error>,
    ) -> Vec<Failed> {
        let mut failed = Vec::new();
        for config in self.members_of_pod(&pod.id).into_iter().rev() {
            if !self.status(&config.id).is_ok_and(&is_meant) {
                continue;
            }
            match act(&config.id) {
                // It has ended meanwhile, as with the one that has its process namespace.
                Err(error) if matches!(error.kind(), Kind::NotFound) => {}
                Err(_) if !self.status(&config.id).is_ok_and(&is_meant) => {}
                // Its monitor is about to write that: the last member that ends takes the infra container along.
                Err(_) if self.init_of(&config.id).is_err() => {}
                Err(error) => failed.push((config.id, error)),
                Ok(()) => {}
            }
        }
        failed
    }
}

pub(crate) fn is_infra(config: &Config) -> bool {
    config
        .options
        .pod
        .as_ref()
        .is_some_and(Membership::is_infra)
}
