//! `pod start` and `pod restart`: the infra container, then the init containers one after the other, then the rest.

use std::time::Duration;

use kelp_monitor::attach::Pipes;
use kelp_monitor::pod::Entered;
use kelp_state::{ContainerId, pod, record};

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
        let entered = self.enter_pod(&pod)?;
        let failed = self.start_members(&pod)?;
        drop(entered);
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
        let entered = self.enter_pod(&pod)?;
        let mut failed = self.stop_members(&pod, timeout, tell);
        if failed.is_empty() {
            failed = self.start_members(&pod)?;
        }
        drop(entered);
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
            if let Some(error) = self.cut_off(pod, config) {
                failed.push((config.id.clone(), error));
            } else if let Err(error) = self.start_member(config) {
                failed.push((config.id.clone(), error));
            }
        }
        Ok(failed)
    }

    /// Keeps a pod until all of it is started, and looks then whether it has to end; one that has no members runs on.
    fn enter_pod(&self, pod: &PodConfig) -> Result<Entered<'_>, Error> {
        let place = pod.place();
        // One that is being made is its maker's.
        let is_member = |id: &ContainerId| {
            pod.infra.as_ref() != Some(id) && record::is_finished(&self.paths.container(id))
        };
        if pod::members(&self.paths, &pod.id).iter().any(is_member) {
            let mut entered = Entered::begin(&self.paths, place);
            entered.enter()?;
            return Ok(entered);
        }
        let lock = pod::enter(&self.paths, &pod.id)?;
        Ok(Entered::beside(&self.paths, place, lock))
    }

    /// Why a member that runs is not in the pod any more: its namespaces are those that the infra container had before
    /// it ended last, as by a kill, and that one has others now.
    fn cut_off(&self, pod: &PodConfig, member: &Config) -> Option<Error> {
        let shares = &member.options.pod.as_ref()?.shares;
        let infra = pod.infra.as_ref().filter(|_| !shares.is_empty())?;
        // One that goes with the infra container may be about to.
        self.settled_status(&member.id).ok()?;
        let started = |id: &ContainerId| {
            let run = self.running(id.as_str()).ok()?;
            Some(run.started)
        };
        (started(&member.id)? < started(infra)?).then(|| {
            Error::conflict(format!(
                "container {} has run since before the infra container was started, and has other namespaces than \
                 the pod: have all start anew (kelp pod restart {})",
                member.name, pod.name
            ))
        })
    }

    /// Starts a container that does not run.
    fn start_member(&self, config: &Config) -> Result<(), Error> {
        self.start_unless_started(&config.id, || Pipes {
            // A service manager hears of the pod, and by its infra container.
            is_main: is_infra(config),
            ..Pipes::default()
        })
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
            match self.remove_container(id, &RemoveOptions::default()) {
                // Another start of the pod was quicker.
                Err(error) if error.kind() == Kind::NotFound => {}
                removed => removed?,
            }
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
