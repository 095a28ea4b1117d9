//! `pod prune`: pods whose containers have ended are removed.

use kelp_state::ContainerId;

use crate::pod::list::PodStatus;
use crate::pod::remove::RemovePod;
use crate::{Engine, Error, Kind};

/// What became of the pods.
#[derive(Debug, Default)]
pub struct PrunedPods {
    /// Those that are gone.
    pub removed: Vec<ContainerId>,
    /// Why others are not.
    pub errors: Vec<Error>,
}

impl Engine {
    /// Removes the pods of which nothing runs and something did, and what killed commands have left of others.
    pub fn prune_pods(&self) -> PrunedPods {
        let mut pruned = PrunedPods::default();
        self.forget_half_made_pods();
        for pod in self.list_pods() {
            if !matches!(pod.status, PodStatus::Exited | PodStatus::Stopped) {
                continue;
            }
            match self.remove_pod(&pod.config.id, &RemovePod::default()) {
                Ok(()) => pruned.removed.push(pod.config.id),
                // Something was started just now, or somebody else has removed it.
                Err(error) if matches!(error.kind(), Kind::Conflict | Kind::NotFound) => {}
                Err(error) => pruned.errors.push(error),
            }
        }
        pruned
    }
}
