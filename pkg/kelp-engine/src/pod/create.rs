//! `pod create`: a record, and the container that has its namespaces; nothing runs.
//!
//! The record's config is written last. What a killed one leaves is a record without it: its name counts for nothing,
//! and the next `pod create` or prune removes it, with the infra container that may have been made.

use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::SystemTime;

use kelp_state::file::{self, Durability};
use kelp_state::{ContainerId, Record, name, pod, record, trash};

use crate::container::CreateOptions;
use crate::container::remove::RemoveOptions;
use crate::image::pause::NAME as PAUSE_IMAGE;
use crate::image::pull::PullRequest;
use crate::pod::remove::RemovePod;
use crate::pod::{Membership, PodConfig, PodOptions, Role};
use crate::{Engine, Error, Kind};

impl Engine {
    /// Makes a pod; its id.
    pub fn create_pod(&self, options: PodOptions) -> Result<ContainerId, Error> {
        // Names of infra containers would be in the way.
        self.forget_half_made_pods();
        let id = ContainerId::random();
        if options.replace
            && let Some(name) = &options.name
            && let Some(other) = name::owning_pod(&self.paths, name)
        {
            match self.remove_pod(&other, &RemovePod::FORCE) {
                Err(error) if error.kind() == Kind::NotFound => {}
                removed => removed?,
            }
        }
        let mut made = MakingPod::begin(self, &id)?;
        let name = self.reserve_pod_name(options.name.as_deref(), &id)?;
        made.name = Some(name.clone());
        pod::make_place(&self.paths, &id)?;
        if let Some(infra) = options.infra {
            made.infra = Some(self.create_infra(*infra, &id, &name)?);
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
        pod: &ContainerId,
        pod_name: &str,
    ) -> Result<ContainerId, Error> {
        options.pod = Some(Membership {
            role: Role::Infra,
            ..Membership::of(pod.as_str())
        });
        if options.image.is_empty() {
            PAUSE_IMAGE.clone_into(&mut options.image);
            let request = PullRequest {
                quiet: true,
                ..PullRequest::default()
            };
            self.ensure_image(PAUSE_IMAGE, &request)?;
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
        let mut attempt = 0;
        loop {
            let name = crate::container::names::generate(attempt);
            attempt += 1;
            match name::reserve_for_pod(&self.paths, &name, id) {
                Ok(()) => return Ok(name),
                Err(kelp_state::Error::NameInUse { .. } | kelp_state::Error::NameOfPod { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
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
    /// Makes the record's directory, which has its name only once it is locked.
    fn begin(engine: &'a Engine, id: &'a ContainerId) -> Result<Self, Error> {
        let directory = engine.paths.pod(id);
        let what = || format!("create {}", directory.display());
        let parent = directory.parent().unwrap_or(Path::new("/"));
        let unlocked = parent.join(format!(".{id}"));
        let create = || {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(&unlocked)
        };
        // A collector that comes in between takes it away, and not a hundred times.
        for _ in 0..100 {
            create().map_err(Error::io(what()))?;
            if let Ok(Some(lock)) = record::making(&unlocked)
                && fs::rename(&unlocked, &directory).is_ok()
            {
                return Ok(Self {
                    engine,
                    id,
                    name: None,
                    infra: None,
                    lock: Some(lock),
                });
            }
        }
        Err(Error::new(
            Kind::Failed,
            format!("{}: it is taken away again and again", what()),
        ))
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
