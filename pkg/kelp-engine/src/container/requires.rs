//! What a container needs others for: they are started before it, and removed after it.
//!
//! A requirement names a container that is there already and never changes, so that none needs itself by way of
//! others; a damaged record that says so is refused. Whose namespaces a container joins it needs too. Whom others need
//! has their ids in its record, `needed/<id>`, which is written before the other one's own record is; an id whose
//! record is not there counts for nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::Path;
use std::str::FromStr;

use kelp_monitor::attach::Pipes;
use kelp_state::file;
use kelp_state::{ContainerId, ExitRecord, Health, Record, Status, record};
use serde::{Deserialize, Serialize};

use crate::container::config::{CreateOptions, UserMode};
use crate::container::wait::Condition;
use crate::{Engine, Error, Kind};

/// The directory of a record with the ids of those that need it.
const NEEDED: &str = "needed";

/// More threads than this would only wait for each other.
const AT_ONCE: usize = 64;

/// A container that another one needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requirement {
    /// Its id; its name or the beginning of its id in a request.
    pub container: String,
    /// What it has to come to before the other one is started.
    pub until: Until,
}

/// What a container has to come to, in the words of compose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// It runs.
    #[default]
    ServiceStarted,
    /// It is healthy.
    ServiceHealthy,
    /// It has ended with 0.
    ServiceCompletedSuccessfully,
}

impl FromStr for Requirement {
    type Err = String;

    /// From `NAME[:CONDITION]`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (container, condition) = text.split_once(':').unwrap_or((text, "service_started"));
        let until = match condition {
            "service_started" => Until::ServiceStarted,
            "service_healthy" => Until::ServiceHealthy,
            "service_completed_successfully" => Until::ServiceCompletedSuccessfully,
            _ => {
                return Err(format!(
                    "unknown condition {condition:?}: use service_started, service_healthy or \
                     service_completed_successfully"
                ));
            }
        };
        if container.is_empty() {
            return Err("a container has to be named".to_owned());
        }
        Ok(Self {
            container: container.to_owned(),
            until,
        })
    }
}

impl Engine {
    /// Finds the containers that a request needs, and notes in their records that this one does.
    pub(crate) fn settle_requirements(
        &self,
        options: &mut CreateOptions,
        id: &ContainerId,
    ) -> Result<(), Error> {
        for required in &mut options.requires {
            let other = self.find_container(&required.container)?;
            let config = self.config(&other)?;
            let never = config
                .health
                .as_ref()
                .is_none_or(|it| it.check.interval.is_none());
            if required.until == Until::ServiceHealthy && never {
                return Err(Error::invalid(format!(
                    "container {} has no health check that is made by itself: it would never be healthy",
                    config.name
                )));
            }
            required.container = other.to_string();
        }
        for other in options.needed() {
            // Namespaces are settled later.
            self.note_need(&self.find_container(&other.container)?, id, options.remove)?;
        }
        Ok(())
    }

    /// Notes in the record of `other` that `id` needs it.
    fn note_need(
        &self,
        other: &ContainerId,
        id: &ContainerId,
        is_brief: bool,
    ) -> Result<(), Error> {
        let needed = self.paths.container(other).join(NEEDED);
        let what = || format!("write {}", needed.display());
        match fs::create_dir(&needed) {
            // Those that are no more would be more and more.
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                self.forget_needs(&needed);
            }
            // It was removed just now.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(kelp_state::Error::NotFound(self.name_of(other)).into());
            }
            made => made.map_err(Error::io(what()))?,
        }
        File::create(needed.join(id.as_str())).map_err(Error::io(what()))?;
        if !is_brief {
            file::sync_directory(&needed).map_err(Error::io(what()))?;
        }
        Ok(())
    }

    /// Deletes what says that containers need another one whose records are gone.
    fn forget_needs(&self, needed: &Path) {
        for entry in fs::read_dir(needed).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let id = name.to_str().and_then(|name| name.parse().ok());
            let is_gone = id.is_some_and(|id: ContainerId| {
                let record = self.paths.container(&id);
                // One that is about to be made has noted its needs before.
                !record.is_dir() && entry.metadata().is_ok_and(|data| record::is_old(&data))
            });
            if is_gone {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    /// The containers that need this one.
    pub fn dependents(&self, id: &ContainerId) -> Vec<ContainerId> {
        let entries = fs::read_dir(self.paths.container(id).join(NEEDED));
        let entries = entries.into_iter().flatten().flatten();
        let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        ids.filter(|id| {
            let record = self.paths.container(id);
            record::is_finished(&record) || record::is_being_made(&record)
        })
        .collect()
    }

    /// Refuses to make a container that needs one which was removed while it was looked for.
    pub(crate) fn check_requirements(&self, options: &CreateOptions) -> Result<(), Error> {
        for required in options.needed() {
            let id = required.container.parse::<ContainerId>();
            if id.is_ok_and(|id| !self.paths.container(&id).is_dir()) {
                return Err(kelp_state::Error::NotFound(required.container).into());
            }
        }
        Ok(())
    }

    /// Whether a container's start waits for more than that others run.
    pub fn waits_for_others(&self, id: &ContainerId) -> bool {
        self.waits_beyond(id, &mut BTreeSet::new())
    }

    /// The same, for those that were not looked at yet.
    fn waits_beyond(&self, id: &ContainerId, seen: &mut BTreeSet<ContainerId>) -> bool {
        if !seen.insert(id.clone()) {
            return false;
        }
        let config = self.config(id);
        let list = config
            .map(|config| config.options.needed())
            .unwrap_or_default();
        list.iter().any(|required| {
            required.until != Until::ServiceStarted
                || required
                    .container
                    .parse()
                    .is_ok_and(|id| self.waits_beyond(&id, seen))
        })
    }

    /// The containers that this one needs.
    pub fn dependencies(&self, id: &ContainerId) -> Vec<ContainerId> {
        let config = self.config(id);
        let list = config
            .map(|config| config.options.needed())
            .unwrap_or_default();
        list.iter()
            .filter_map(|it| it.container.parse().ok())
            .collect()
    }

    /// The containers that this one needs, and those that these need.
    fn all_dependencies(&self, id: &ContainerId) -> BTreeSet<ContainerId> {
        let mut all = BTreeSet::new();
        let mut left = vec![id.clone()];
        while let Some(next) = left.pop() {
            let dependencies = self.dependencies(&next).into_iter();
            left.extend(dependencies.filter(|other| all.insert(other.clone())));
        }
        all
    }

    /// Refuses to take away what others need.
    pub(crate) fn check_unneeded(&self, id: &ContainerId) -> Result<(), Error> {
        for other in self.dependents(id) {
            // One that goes with its end may have ended with its boot, and nobody has looked at it since.
            let _ = self.status(&other);
        }
        let mut dependents = self.dependents(id);
        if !dependents.is_empty() {
            // In a circle, which only damaged records make, one has to be the first.
            let needed = self.all_dependencies(id);
            dependents.retain(|other| !needed.contains(other));
        }
        if dependents.is_empty() {
            return Ok(());
        }
        let names = dependents.iter().map(|id| self.name_of(id));
        Err(Error::conflict(format!(
            "container {} has dependent containers which must be removed before it: {} (--depend removes them as \
             well)",
            self.name_of(id),
            names.collect::<Vec<_>>().join(", ")
        )))
    }

    pub(crate) fn name_of(&self, id: &ContainerId) -> String {
        let config = self.config(id);
        config.map_or_else(|_| id.short().to_owned(), |config| config.name)
    }

    /// Starts what a container needs, and waits until all of it is as it is to be.
    pub(crate) fn start_required(
        &self,
        id: &ContainerId,
        options: &CreateOptions,
    ) -> Result<(), Error> {
        let needed = options.needed();
        if !needed.is_empty() {
            self.check_for_circles(id, &mut Vec::new(), &mut BTreeSet::new())?;
        }
        for required in needed {
            let id: ContainerId = required
                .container
                .parse()
                .map_err(|_| Error::invalid(format!("damaged record: {}", required.container)))?;
            self.start_one_required(&id, required.until)?;
        }
        Ok(())
    }

    /// Refuses what needs itself by way of others. `path` leads to `id`, and what is in `sound` does not.
    fn check_for_circles(
        &self,
        id: &ContainerId,
        path: &mut Vec<ContainerId>,
        sound: &mut BTreeSet<ContainerId>,
    ) -> Result<(), Error> {
        if path.contains(id) {
            let names: Vec<_> = path.iter().map(|id| self.name_of(id)).collect();
            return Err(Error::new(
                Kind::Failed,
                format!(
                    "damaged records: containers need each other in a circle: {}: remove them with kelp rm -f",
                    names.join(", ")
                ),
            ));
        }
        if sound.contains(id) {
            return Ok(());
        }
        path.push(id.clone());
        for other in self.dependencies(id) {
            self.check_for_circles(&other, path, sound)?;
        }
        path.pop();
        sound.insert(id.clone());
        Ok(())
    }

    /// Starts what the pod of a container is made of.
    pub(crate) fn start_infra(&self, options: &CreateOptions) -> Result<(), Error> {
        match options.pod.as_ref().and_then(|pod| pod.infra.as_ref()) {
            Some(infra) => self.start_one_required(infra, Until::ServiceStarted),
            None => Ok(()),
        }
    }

    fn start_one_required(&self, id: &ContainerId, until: Until) -> Result<(), Error> {
        let record = Record::new(&self.paths, id.clone());
        let status = self.settled_status(id)?;
        let completes = until == Until::ServiceCompletedSuccessfully;
        let is_done = |exit: Option<ExitRecord>| exit.is_some_and(|exit| exit.code == 0);
        if completes && status == Status::Exited && is_done(record.exit()?) {
            return Ok(());
        }
        self.start_unless_started(id, Pipes::default)?;
        match until {
            Until::ServiceStarted => Ok(()),
            Until::ServiceHealthy => {
                let conditions = [Health::Healthy, Health::Unhealthy].map(Condition::Health);
                match self.wait_while(id, &conditions, true) {
                    Err(error) if error.kind() == Kind::Conflict => {
                        return Err(self.unmet(id, "it has ended"));
                    }
                    waited => drop(waited?),
                }
                let health = record.health()?.unwrap_or_default().status;
                if health == Health::Healthy {
                    return Ok(());
                }
                Err(self.unmet(id, "it is unhealthy"))
            }
            Until::ServiceCompletedSuccessfully => match self.wait_container(id)? {
                0 => Ok(()),
                code => Err(self.unmet(id, &format!("it has ended with {code}"))),
            },
        }
    }

    fn unmet(&self, id: &ContainerId, why: &str) -> Error {
        let name = self.name_of(id);
        Error::new(
            Kind::Failed,
            format!("container {name}, which has to come first, is not as it has to be: {why}"),
        )
    }

    /// Does something to containers, several at the same time, since each may take its seconds, but to those first that
    /// need others of them; `done` hears how it went with each.
    pub fn each_dependent_first(
        &self,
        ids: &[ContainerId],
        act: impl Fn(&ContainerId) -> Result<(), Error> + Sync,
        mut done: impl FnMut(&ContainerId, Result<(), Error>),
    ) {
        if let [id] = ids {
            return done(id, act(id));
        }
        let groups = self.dependents_first(ids);
        for ids in groups.iter().flat_map(|group| group.chunks(AT_ONCE)) {
            std::thread::scope(|scope| {
                let running: Vec<_> = ids.iter().map(|id| (id, scope.spawn(|| act(id)))).collect();
                for (id, thread) in running {
                    match thread.join() {
                        Ok(result) => done(id, result),
                        Err(panic) => std::panic::resume_unwind(panic),
                    }
                }
            });
        }
    }

    /// Containers in groups, of which each comes after those that need one of it: in this order they are stopped
    /// and removed.
    pub fn dependents_first(&self, ids: &[ContainerId]) -> Vec<Vec<ContainerId>> {
        let needs: BTreeMap<_, _> = ids.iter().map(|id| (id, self.dependencies(id))).collect();
        let mut left: Vec<_> = ids.to_vec();
        let mut groups = Vec::new();
        while !left.is_empty() {
            let is_needed = |id: &ContainerId| {
                left.iter()
                    .any(|other| needs.get(other).is_some_and(|list| list.contains(id)))
            };
            let (group, rest): (Vec<_>, Vec<_>) =
                left.iter().cloned().partition(|id| !is_needed(id));
            if group.is_empty() {
                // A damaged record says so.
                groups.push(rest);
                break;
            }
            groups.push(group);
            left = rest;
        }
        groups
    }
}

impl CreateOptions {
    /// What the container needs: what it was said to, those whose namespaces it joins, and what its pod is made of.
    pub fn needed(&self) -> Vec<Requirement> {
        let user = match &self.namespaces.user {
            UserMode::Container(id) => Some(id.as_str()),
            _ => None,
        };
        let mut list = self.requires.clone();
        let infra = self.pod.as_ref().and_then(|pod| pod.infra.as_ref());
        let infra = infra.map(ContainerId::as_str);
        let joined = self.namespaces.of_containers().into_iter().chain(user);
        for container in joined.chain(infra) {
            if list.iter().all(|other| other.container != container) {
                list.push(Requirement {
                    container: container.to_owned(),
                    until: Until::ServiceStarted,
                });
            }
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requirements_have_composes_conditions() {
        for (text, container, until) in [
            ("db", "db", Until::ServiceStarted),
            ("db:service_started", "db", Until::ServiceStarted),
            ("db:service_healthy", "db", Until::ServiceHealthy),
            (
                "init:service_completed_successfully",
                "init",
                Until::ServiceCompletedSuccessfully,
            ),
        ] {
            let required: Requirement = text.parse().unwrap();
            assert_eq!(
                (required.container.as_str(), required.until),
                (container, until)
            );
        }
        for text in ["", ":service_healthy", "db:", "db:healthy"] {
            assert!(text.parse::<Requirement>().is_err(), "{text}");
        }
    }
}
