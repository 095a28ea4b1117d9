//! Choosing containers: every one, or the one that was made last.

use kelp_state::{ContainerId, Record};

use crate::container::Config;
use crate::{Engine, Error, Kind};

impl Engine {
    /// What is kept of every container, the oldest first. Those that are being made or removed are
    /// left out, and those whose record is damaged: one of them hides no other.
    pub fn containers(&self) -> Vec<Config> {
        let mut list: Vec<_> = Record::all(&self.paths)
            .into_iter()
            .filter_map(|record| Config::read(&self.paths, &record.id).ok().flatten())
            .collect();
        list.sort_by(|one, other| (one.created, &one.id).cmp(&(other.created, &other.id)));
        list
    }

    /// The container that was made last.
    pub fn latest_container(&self) -> Result<ContainerId, Error> {
        self.containers()
            .pop()
            .map(|config| config.id)
            .ok_or_else(|| Error::new(Kind::NotFound, "there is no container: no such container"))
    }
}
