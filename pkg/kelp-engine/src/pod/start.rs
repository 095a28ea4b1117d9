//! `pod start` and `pod restart`: the infra container, then the init containers one after the other, then the rest.

use std::time::Duration;

use kelp_monitor::attach::Pipes;
use kelp_state::{ContainerId, Status, pod};

use crate::container::Config;
use crate::container::remove::RemoveOptions;
use crate::container::signal::Stopped;
use crate::pod::signal::{Failed, is_infra};
use crate::pod::{InitKind, PodConfig, Role};
use crate::{Engine, Error, Kind};

impl Engine {
    /// Starts what does not run of a pod.
    ///
    /// # Errors
    /// If there is no such pod, or its infra container or an init container fails; of the rest, what could not be
    /// started is returned.
    pub fn start_pod(&self, id: &ContainerId) -> Result<Vec<Failed>, Error> {
        let pod = self.pod(id)?;
        // Until all are started the end of those that were is not the end of the pod.
        let lock = pod::enter(&self.paths, id)?;
        let failed = self.start_members(&pod);
        drop(lock);
        self.leave_pod(&pod);
        let failed = failed?;
        self.note_pod("start", &pod);
        Ok(failed)
    }

    /// Stops a pod and starts all of it. `tell` hears how the stop of each container went.
    ///
    /// # Errors
    /// As [`Engine::start_pod`].
    pub fn restart_pod(
        &self,
        id: &ContainerId,
        timeout: Option<Duration>,
        tell: impl Fn(&ContainerId, &Stopped) + Sync,
    ) -> Result<Vec<Failed>, Error> {
        let pod = self.pod(id)?;
        let lock = pod::enter(&self.paths, id)?;
        let mut failed = Ok(self.stop_members(&pod, timeout, tell));
        if failed.as_ref().is_ok_and(Vec::is_empty) {
            failed = self.start_members(&pod);
        }
        drop(lock);
        self.leave_pod(&pod);
        let failed = failed?;
        self.note_pod("restart", &pod);
        Ok(failed)
    }

    fn start_members(&self, pod: &PodConfig) -> Result<Vec<Failed>, Error> {
        let members = self.members_of_pod(&pod.id);
        let (infra, others): (Vec<_>, Vec<_>) = members.into_iter().partition(is_infra);
        for infra in &infra {
            self.start_member(infra)?;
        }
        let (init, mut others): (Vec<_>, Vec<_>) =
            others.into_iter().partition(|it| init_kind(it).is_some());
        for init in &init {
            self.run_init(init)?;
        }
        // Those that may wait for long keep no others waiting.
        others.sort_by_cached_key(|config| self.waits_for_others(&config.id));
        let mut failed = Vec::new();
        for config in &others {
            if let Err(error) = self.start_member(config) {
                failed.push((config.id.clone(), error));
            }
        }
        Ok(failed)
    }

    /// Looks whether a pod has to end of which something was started; one that has no members runs on.
    fn leave_pod(&self, pod: &PodConfig) {
        let members = self.members_of_pod(&pod.id).into_iter();
        if let Some(member) = members.rev().find(|config| !is_infra(config)) {
            self.leave_pod_of(&member);
        }
    }

    /// Starts a container that does not run.
    fn start_member(&self, config: &Config) -> Result<(), Error> {
        let runs = |status| matches!(status, Status::Running | Status::Paused);
        if runs(self.settled_status(&config.id)?) {
            return Ok(());
        }
        let pipes = Pipes {
            // A service manager hears of the pod, and by its infra container.
            is_main: is_infra(config),
            ..Pipes::default()
        };
        match self.start_container(&config.id, pipes) {
            // Somebody else was quicker.
            Err(error)
                if error.kind() == Kind::Conflict && runs(self.settled_status(&config.id)?) =>
            {
                Ok(())
            }
            started => started.map(drop),
        }
    }

    /// Runs an init container to its end.
    fn run_init(&self, config: &Config) -> Result<(), Error> {
        let id = &config.id;
        self.start_member(config)?;
        let code = self.wait_container(id)?;
        if code != 0 {
            return Err(Error::new(
                Kind::Failed,
                format!(
                    "init container {} exited with code {code}: what it has to say is in its log (kelp logs \
                     {})",
                    config.name, config.name
                ),
            ));
        }
        if init_kind(config) == Some(InitKind::Once) {
            self.remove_container(id, &RemoveOptions::default())?;
        }
        Ok(())
    }
}

fn init_kind(config: &Config) -> Option<InitKind> {
    match config.options.pod.as_ref()?.role {
        Role::Init(kind) => Some(kind),
        Role::Member | Role::Infra => None,
    }
}
