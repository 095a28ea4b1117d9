//! `pod rm`: a pod is taken away, and its containers before it.

use std::time::Duration;

use kelp_state::file;
use kelp_state::{ContainerId, Status, name, pod, trash};

use crate::container::remove::RemoveOptions;
use crate::pod::PodConfig;
use crate::{Engine, Error, Kind};

/// How a pod is removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RemovePod {
    /// Containers that run are stopped first, and a broken record is no obstacle.
    pub force: bool,
    /// How long a container that was asked to stop has until it is killed; its own time by default.
    pub timeout: Option<Duration>,
}

impl RemovePod {
    /// Whatever it does.
    pub const FORCE: Self = Self {
        force: true,
        timeout: None,
    };
}

impl Engine {
    /// Removes a pod and its containers. One of whose only the infra container runs is at rest.
    pub fn remove_pod(&self, id: &ContainerId, options: &RemovePod) -> Result<(), Error> {
        let config = match PodConfig::read(&self.paths, id) {
            Err(_) if options.force => None,
            read => Some(read?.ok_or_else(|| kelp_state::Error::NoSuchPod(id.to_string()))?),
        };
        let is_infra = |member: &ContainerId| match &config {
            Some(config) => config.infra.as_ref() == Some(member),
            None => self.infra_of(member).as_ref() == Some(id),
        };
        loop {
            self.remove_members(id, options, is_infra)?;
            // Whoever makes or starts one just now is waited for.
            let _closed = pod::close(&self.paths, id)?;
            let (infra, others): (Vec<_>, Vec<_>) = pod::members(&self.paths, id)
                .into_iter()
                .partition(is_infra);
            if !others.is_empty() {
                continue;
            }
            for infra in &infra {
                // Whatever it does, it does for nobody now.
                let at_rest = RemoveOptions {
                    force: true,
                    ..of_member(options)
                };
                match self.remove_container(infra, &at_rest) {
                    Err(error) if error.kind() == Kind::NotFound => {}
                    removed => removed?,
                }
            }
            self.remove_pod_volumes(id)?;
            return self.remove_pod_record(id, config.as_ref());
        }
    }

    /// Removes all but the infra container.
    fn remove_members(
        &self,
        id: &ContainerId,
        options: &RemovePod,
        is_infra: impl Fn(&ContainerId) -> bool,
    ) -> Result<(), Error> {
        let mut others = pod::members(&self.paths, id);
        self.check_unneeded_outside(id, &others)?;
        others.retain(|member| !is_infra(member));
        if !options.force {
            for other in &others {
                let status = match self.settled_status(other) {
                    Err(error) if error.kind() == Kind::NotFound => continue,
                    status => status?,
                };
                if !matches!(status, Status::Created | Status::Exited) {
                    return Err(Error::conflict(format!(
                        "pod {} has containers that are not ended, such as {} ({status}): stop it first \
                         (kelp pod stop), or use --force",
                        id.short(),
                        other.short(),
                    )));
                }
            }
        }
        let remove = |member: &ContainerId| match self.remove_container(member, &of_member(options))
        {
            // It has ended, and was a --rm one; or it is being made.
            Err(error) if error.kind() == Kind::NotFound => Ok(()),
            removed => removed,
        };
        let mut first = Ok(());
        self.each_dependent_first(&others, remove, |_, removed| {
            if first.is_ok() {
                first = removed;
            }
        });
        first.map_err(|error| {
            error.before(&format!(
                "not all containers could be removed from pod {}",
                id.short()
            ))
        })
    }

    /// Refuses to remove containers that others than each other need, before any of them is gone.
    fn check_unneeded_outside(
        &self,
        pod: &ContainerId,
        members: &[ContainerId],
    ) -> Result<(), Error> {
        for member in members {
            for other in self.dependents(member) {
                // One that goes with its end may have ended unseen.
                let _ = self.status(&other);
                // One that is being made now may be a member, and is met when it is whole.
                let Ok(other) = self.config(&other) else {
                    continue;
                };
                let of = other.options.pod.as_ref();
                if of.is_none_or(|membership| membership.pod != pod.as_str()) {
                    let other = other.name;
                    return Err(Error::conflict(format!(
                        "pod {} has container {}, which container {other} needs, and that one is not in the pod: \
                         remove it first (kelp rm -f {other})",
                        pod.short(),
                        self.name_of(member),
                    )));
                }
            }
        }
        Ok(())
    }

    fn remove_pod_record(&self, id: &ContainerId, config: Option<&PodConfig>) -> Result<(), Error> {
        let place = trash::put_pod(&self.paths, id)?;
        file::sync_removal(&self.paths.pods()).map_err(Error::io("remove a pod's record"))?;
        trash::empty(&place)?;
        match config {
            Some(config) => {
                name::release_of_pod(&self.paths, &config.name, id);
                self.note_pod("remove", config);
            }
            // Its name is known to nobody, and has no owner now.
            None => name::forget_stale(&self.paths),
        }
        Ok(())
    }
}

/// How a container of the pod is removed.
fn of_member(options: &RemovePod) -> RemoveOptions {
    RemoveOptions {
        force: options.force,
        timeout: options.timeout,
        volumes: true,
        needed: false,
        with_pod: true,
    }
}
