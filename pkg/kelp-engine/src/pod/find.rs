//! Finding pods and who is in them.

use std::fs;

use kelp_monitor::pod::Entered;
use kelp_state::{ContainerId, Record, file, name, pod, record};

use crate::container::Config;
use crate::container::list::Summary;
use crate::pod::{Membership, PodConfig};
use crate::{Engine, Error, Kind};

impl Engine {
    /// The pod that a name, an id or the beginning of one means.
    pub fn find_pod(&self, text: &str) -> Result<ContainerId, Error> {
        let id = name::find_pod(&self.paths, text)?;
        let directory = self.paths.pod(&id);
        // One that is being made, or was left half-made, is none.
        if record::is_finished(&directory) {
            return Ok(id);
        }
        Err(kelp_state::Error::NoSuchPod(text.to_owned()).into())
    }

    /// What is kept of a pod.
    pub fn pod(&self, id: &ContainerId) -> Result<PodConfig, Error> {
        PodConfig::read(&self.paths, id)?
            .ok_or_else(|| kelp_state::Error::NoSuchPod(id.to_string()).into())
    }

    /// Every pod, the oldest first. Those that are being made or removed are left out; those whose record is damaged
    /// too: one of them hides no other.
    pub fn pods(&self) -> Vec<PodConfig> {
        let ids = self.pod_ids().into_iter();
        let mut pods: Vec<_> = ids
            .filter_map(|id| PodConfig::read(&self.paths, &id).ok().flatten())
            .collect();
        pods.sort_by(|one, other| (one.created, &one.id).cmp(&(other.created, &other.id)));
        pods
    }

    /// The id of every record of a pod, also of one that is damaged or not whole.
    pub fn pod_ids(&self) -> Vec<ContainerId> {
        let entries = fs::read_dir(self.paths.pods());
        let entries = entries.into_iter().flatten().flatten();
        entries
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect()
    }

    /// The pod that was made last.
    pub fn latest_pod(&self) -> Result<ContainerId, Error> {
        let last = self.pods().pop().map(|pod| pod.id);
        last.ok_or_else(|| Error::new(Kind::NotFound, "there is no pod: no such pod"))
    }

    /// What is kept of the containers of a pod, the oldest first, and so the infra container before the others; those
    /// whose record is damaged are left out.
    pub fn members_of_pod(&self, pod: &ContainerId) -> Vec<Config> {
        let ids = pod::members(&self.paths, pod).into_iter();
        let mut members: Vec<_> = ids
            .filter_map(|id| Config::read(&self.paths, &id).ok().flatten())
            .collect();
        members.sort_by(|one, other| (one.created, &one.id).cmp(&(other.created, &other.id)));
        members
    }

    /// The name of the pod that a container is in, as long as there is one.
    pub fn pod_name(&self, pod: &str) -> Option<String> {
        let id = pod.parse().ok()?;
        Some(PodConfig::read(&self.paths, &id).ok()??.name)
    }

    /// Whether a container is the infra container of a pod that is there.
    pub(crate) fn infra_of(&self, id: &ContainerId) -> Option<ContainerId> {
        let record = Record::new(&self.paths, id.clone());
        let summary: Summary = file::read_json(&record.data.join("config.json"))
            .ok()
            .flatten()?;
        let membership = summary.options.pod?;
        let pod: ContainerId = membership.pod.parse().ok()?;
        let is_infra = membership.is_infra() && record::is_finished(&self.paths.pod(&pod));
        is_infra.then_some(pod)
    }

    /// The pod of an infra container that is the only container there.
    pub fn pod_at_its_end(&self, id: &ContainerId) -> Option<ContainerId> {
        let pod = self.infra_of(id)?;
        let mut members = pod::members(&self.paths, &pod).into_iter();
        members.all(|member| member == *id).then_some(pod)
    }

    /// Looks whether a container's pod has to end once it was started, or could not be; nothing of a container that is
    /// in none, or is the one that ends with it.
    pub(crate) fn begin_in_pod_of(&self, config: &Config) -> Option<Entered<'_>> {
        let membership = config.options.pod.as_ref();
        let place = membership
            .filter(|it| !it.is_infra())
            .and_then(Membership::place)?;
        Some(Entered::begin(&self.paths, place))
    }
}
