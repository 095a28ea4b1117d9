//! `pod create`: a record, and the container that has its namespaces; nothing runs.
//!
//! The record's config is written last. What a killed one leaves is a record without it: its name counts for nothing,
//! and the next `pod create` or prune removes it, with the infra container that may have been made.

use std::fs;
use std::os::fd::OwnedFd;
use std::time::SystemTime;

use kelp_state::file::{self, Durability};
use kelp_state::{ContainerId, Record, name, pod, record, trash};

use crate::container::remove::RemoveOptions;
use crate::container::{CreateOptions, making, names};
use crate::image::pause::NAME as PAUSE_IMAGE;
use crate::pod::remove::RemovePod;
use crate::pod::{Membership, PodConfig, PodOptions, Role};
use crate::{Engine, Error, Kind};

impl Engine {
    /// Makes a pod; its id. One that it replaces is removed once its own infra container is made, so a request that
    /// can't be met leaves that one as it is.
    pub fn create_pod(&self, options: PodOptions) -> Result<ContainerId, Error> {
        // Names of infra containers would be in the way.
        self.forget_half_made_pods();
        let id = ContainerId::random();
        let replaced = options.name.as_ref().filter(|_| options.replace);
        let replaced = replaced.and_then(|name| name::owning_pod(&self.paths, name));
        let mut made = MakingPod::begin(self, &id)?;
        let name = match (&replaced, options.name) {
            (Some(_), Some(name)) => name,
            (_, name) => {
                let name = self.reserve_pod_name(name.as_deref(), &id)?;
                made.name = Some(name.clone());
                name
            }
        };
        pod::make_place(&self.paths, &id)?;
        let mut late_name = None;
        if let Some(mut infra) = options.infra {
            if let Some(other) = &replaced {
                late_name = infra.name.take_if(|name| {
                    let owner = name::owner(&self.paths, name);
                    owner.is_some_and(|it| pod::members(&self.paths, other).contains(&it))
                });
            }
            let membership = Membership {
                role: Role::Infra,
                service: options.service.clone(),
                ..Membership::of(id.as_str())
            };
            made.infra = Some(self.create_infra(*infra, membership, &id, &name)?);
        }
        if let Some(other) = &replaced {
            match self.remove_pod(other, &RemovePod::FORCE) {
                Err(error) if error.kind() == Kind::NotFound => {}
                removed => removed?,
            }
            self.reserve_pod_name(Some(&name), &id)?;
            made.name = Some(name.clone());
            if let (Some(infra), Some(name)) = (&made.infra, late_name) {
                self.rename_container(infra, &name)?;
            }
        }
        let config = PodConfig {
            id: id.clone(),
            name,
            created: SystemTime::now(),
            labels: options.labels,
            infra: made.infra.clone(),
            shared: options.shared,
            share_parent: options.share_parent,
            exit_policy: options.exit_policy,
            restart: options.restart,
            create_command: options.create_command,
            service: options.service,
        };
        let path = self.paths.pod(&id).join("config.json");
        file::write_json(&path, &config, Durability::Synced)?;
        let pods = self.paths.pods();
        file::sync_directory(&pods).map_err(Error::io(format!("sync {}", pods.display())))?;
        self.note_pod("create", &config);
        made.end();
        Ok(id)
    }

    fn create_infra(
        &self,
        mut options: CreateOptions,
        membership: Membership,
        pod: &ContainerId,
        pod_name: &str,
    ) -> Result<ContainerId, Error> {
        options.pod = Some(membership);
        if options.image.is_empty() {
            PAUSE_IMAGE.clone_into(&mut options.image);
            self.ensure_pause_image()?;
            // A member with the same processes reaches it by /proc/1/root, and its program would be another one's at
            // the next start.
            options.read_only = true;
            // Its /dev/shm is that of all.
            options.read_only_tmpfs = true;
        }
        if options.hostname.is_none() && options.namespaces.has_own_name() {
            options.hostname = Some(pod_name.to_owned());
        }
        if options.name.is_none() {
            options.name = Some(format!("{}-infra", pod.short()));
        }
        self.create_container(options)
    }

    fn reserve_pod_name(&self, wanted: Option<&str>, id: &ContainerId) -> Result<String, Error> {
        if let Some(name) = wanted {
            return match name::reserve_for_pod(&self.paths, name, id) {
                Err(kelp_state::Error::NameInUse { name, id }) => Err(Error::conflict(format!(
                    "name \"{name}\" is in use: container {id} already exists; remove that container \
                     first, or choose another name"
                ))),
                reserved => Ok(reserved.map(|()| name.to_owned())?),
            };
        }
        names::reserve_generated(|name| name::reserve_for_pod(&self.paths, name, id))
    }

    /// Removes what killed commands have left of pods that never were.
    pub(crate) fn forget_half_made_pods(&self) {
        for entry in fs::read_dir(self.paths.pods())
            .into_iter()
            .flatten()
            .flatten()
        {
            if record::is_finished(&entry.path()) {
                continue;
            }
            // Held so that nobody finishes it meanwhile.
            let Ok(Some(_lock)) = record::making(&entry.path()) else {
                continue;
            };
            if record::is_finished(&entry.path()) {
                continue;
            }
            let id = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok());
            match id {
                Some(id) => self.forget_half_made_pod(&id),
                // It never had its own name.
                None => drop(fs::remove_dir_all(entry.path())),
            }
        }
    }

    fn forget_half_made_pod(&self, id: &ContainerId) {
        let options = RemoveOptions {
            with_pod: true,
            ..RemoveOptions::KILL
        };
        for member in pod::members(&self.paths, id) {
            if let Err(error) = self.remove_container(&member, &options)
                && error.kind() != Kind::NotFound
            {
                // Known by this record alone.
                return;
            }
        }
        if let Ok(place) = trash::put_pod(&self.paths, id) {
            let _ = trash::empty(&place);
        }
    }
}

/// A pod while it is being made; what there is of it goes if the making fails.
struct MakingPod<'a> {
    engine: &'a Engine,
    id: &'a ContainerId,
    name: Option<String>,
    infra: Option<ContainerId>,
    /// Says that somebody is at it; `None` once it is made.
    lock: Option<OwnedFd>,
}

impl<'a> MakingPod<'a> {
    fn begin(engine: &'a Engine, id: &'a ContainerId) -> Result<Self, Error> {
        let lock = making::begin(&engine.paths.pod(id), id)?;
        Ok(Self {
            engine,
            id,
            name: None,
            infra: None,
            lock: Some(lock),
        })
    }

    fn end(mut self) {
        self.lock = None;
    }
}

impl Drop for MakingPod<'_> {
    fn drop(&mut self) {
        if self.lock.is_none() {
            return;
        }
        let paths = &self.engine.paths;
        if let Some(infra) = &self.infra {
            let record = Record::new(paths, infra.clone());
            let _ = self.engine.remove_offline(&record, true, true);
        }
        if let Ok(place) = trash::put_pod(paths, self.id) {
            let _ = trash::empty(&place);
        }
        if let Some(name) = &self.name {
            name::release_of_pod(paths, name, self.id);
        }
    }
}
