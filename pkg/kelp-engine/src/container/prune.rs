//! `container prune`: what does not run is removed.

use std::time::SystemTime;

use kelp_state::ContainerId;

use crate::container::Config;
use crate::container::remove::RemoveOptions;
use crate::pod::signal::is_infra;
use crate::{Engine, Error, Kind};

/// Which containers are removed; an empty one means all that do not run.
#[derive(Clone, Debug, Default)]
pub struct PruneFilter {
    /// Only those that were made before.
    pub until: Option<SystemTime>,
    /// Only those with all of these.
    pub labels: Vec<LabelFilter>,
}

/// A condition on labels.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelFilter {
    /// The label.
    pub key: String,
    /// Its value, if that matters.
    pub value: Option<String>,
    /// Whether it must be there, or must not.
    pub wanted: bool,
}

/// What became of the containers.
#[derive(Debug, Default)]
pub struct Pruned {
    /// Those that are gone.
    pub removed: Vec<ContainerId>,
    /// Why others are not.
    pub errors: Vec<Error>,
}

impl LabelFilter {
    /// From `KEY` or `KEY=VALUE`.
    pub fn new(text: &str, wanted: bool) -> Self {
        let (key, value) = match text.split_once('=') {
            Some((key, value)) => (key, Some(value.to_owned())),
            None => (text, None),
        };
        Self {
            key: key.to_owned(),
            value,
            wanted,
        }
    }

    fn holds(&self, config: &Config) -> bool {
        let is_there = match (config.labels.get(&self.key), &self.value) {
            (Some(actual), Some(value)) => actual == value,
            (actual, _) => actual.is_some(),
        };
        is_there == self.wanted
    }
}

impl PruneFilter {
    fn takes(&self, config: &Config) -> bool {
        self.until.is_none_or(|until| config.created < until)
            && self.labels.iter().all(|label| label.holds(config))
    }
}

impl Engine {
    /// Removes the containers that do not run, and what is left of others.
    pub fn prune_containers(&self, filter: &PruneFilter) -> Pruned {
        let mut pruned = Pruned::default();
        // Those that need others were made after them.
        for config in self.containers().into_iter().rev() {
            // What a pod is made of goes with the pod.
            let is_infra = is_infra(&config) && self.infra_of(&config.id).is_some();
            if is_infra || !filter.takes(&config) {
                continue;
            }
            match self.remove_container(&config.id, &RemoveOptions::default()) {
                Ok(()) => pruned.removed.push(config.id),
                // It runs, was started just now or is mounted elsewhere, or somebody else has removed it.
                Err(error) if matches!(error.kind(), Kind::Conflict | Kind::NotFound) => {}
                Err(error) => pruned.errors.push(error),
            }
        }
        if let Err(error) = self.remove_trees(&self.container_garbage()) {
            pruned.errors.push(error);
        }
        pruned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_have_keys_and_values() {
        let filter = LabelFilter::new("a=b=c", true);
        assert_eq!(
            (filter.key.as_str(), filter.value.as_deref()),
            ("a", Some("b=c"))
        );
        assert_eq!(LabelFilter::new("a", false).value, None);
    }
}
