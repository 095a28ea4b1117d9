//! The volumes there are: making, listing, and taking them away.
//!
//! A volume is a directory with `_data`; `volume.json` beside it is written only where there is
//! something to remember.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use kelp_image::store::StoreLock;
use kelp_runtime::mount_plan::MARK;
use kelp_state::file::{self, Durability};
use kelp_state::{Record, name, trash};
use oci_spec::runtime::Mount;
use serde::{Deserialize, Serialize};

use crate::container::list::Summary;
use crate::container::remove::RemoveOptions;
use crate::{Engine, Error, Kind};

/// A volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: SystemTime,
    /// Its files.
    pub data: PathBuf,
    /// What is remembered of its making.
    pub record: VolumeRecord,
}

/// What is remembered of a volume's making: `volume.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct VolumeRecord {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Whether its container made it, and nobody named it.
    pub anonymous: bool,
}

impl Engine {
    /// Makes a volume that must not exist, or with `ignore` may; whether it was made.
    pub fn create_volume(
        &self,
        volume: &str,
        record: &VolumeRecord,
        ignore: bool,
    ) -> Result<bool, Error> {
        name::validate(volume)?;
        // One that is deleted where it is, is deleted by its name.
        let _lock = self.store()?.lock()?;
        let is_new = self.make_volume(volume, record, Durability::Synced)?;
        if is_new || ignore {
            return Ok(is_new);
        }
        Err(Error::conflict(format!(
            "volume with name {volume} already exists: volume already exists"
        )))
    }

    /// Every volume, by name.
    pub fn volumes(&self) -> Vec<Volume> {
        let mut names: Vec<_> = fs::read_dir(self.paths.volumes())
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        // One that is being made has a dot before its name, and so no valid one.
        let read = names
            .iter()
            .filter_map(|name| self.volume_named(name).ok().flatten());
        read.collect()
    }

    /// The volume that a name, or the only beginning of one, means.
    pub fn find_volume(&self, text: &str) -> Result<Volume, Error> {
        if let Some(volume) = self.volume_named(text)? {
            return Ok(volume);
        }
        let absent = || Error::new(Kind::NotFound, format!("no such volume {text}"));
        if text.is_empty() {
            return Err(absent());
        }
        let mut fits: Vec<_> = self.volumes();
        fits.retain(|volume| volume.name.starts_with(text));
        match fits.pop() {
            Some(volume) if fits.is_empty() => Ok(volume),
            Some(_) => Err(Error::invalid(format!(
                "more than one volume begins with {text}"
            ))),
            None => Err(absent()),
        }
    }

    /// The volume that has this name, and none that only begins so.
    pub fn volume_named(&self, name: &str) -> Result<Option<Volume>, Error> {
        if name::validate(name).is_err() {
            return Ok(None);
        }
        let directory = self.paths.volumes().join(name);
        let data = directory.join("_data");
        let metadata = match fs::metadata(&data) {
            // Whoever may do all can look into one that is being deleted.
            Ok(metadata) if !trash::is_closed(&directory) => metadata,
            _ => return Ok(None),
        };
        let record = file::read_json(&directory.join("volume.json"))?;
        Ok(Some(Volume {
            name: name.to_owned(),
            // A file system that keeps no time of birth tells the last change at least.
            created: metadata
                .created()
                .or_else(|_| metadata.modified())
                .unwrap_or(SystemTime::UNIX_EPOCH),
            data,
            record: record.unwrap_or_default(),
        }))
    }

    /// The name of the volume that a directory is of.
    pub fn volume_of<'a>(&self, source: &'a Path) -> Option<&'a str> {
        let inside = source.strip_prefix(self.paths.volumes()).ok()?;
        inside.iter().next()?.to_str()
    }

    /// The directories of those volumes among the mounts that no container has had yet.
    pub(crate) fn new_volumes(&self, mounts: &[Mount]) -> Vec<PathBuf> {
        // Not a directory of one that is bound by its path.
        let is_volume = |mount: &&Mount| {
            let mut options = mount.options().iter().flatten();
            options.any(|option| option.starts_with("X-kelp.volume="))
        };
        let volumes = mounts.iter().filter(is_volume);
        let sources = volumes.filter_map(|mount| mount.source().as_deref());
        let names = sources.filter_map(|source| self.volume_of(source));
        let directories = names.map(|name| self.paths.volumes().join(name));
        directories
            .filter(|volume| !volume.join(MARK).exists())
            .map(|volume| volume.join("_data"))
            .collect()
    }

    /// The names of the volumes that containers use, and by which containers.
    pub fn volume_users(&self) -> BTreeMap<String, BTreeSet<String>> {
        let mut users: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        // The records alone: a list may settle a container, and so remove volumes.
        let records = Record::all(&self.paths);
        let summaries = records.iter().filter_map(|record| {
            file::read_json::<Summary>(&record.data.join("config.json"))
                .ok()
                .flatten()
        });
        for summary in summaries {
            for mount in &summary.options.mounts {
                let source = mount.source.as_deref();
                if let Some(name) = source.and_then(|source| self.volume_of(source)) {
                    let id = summary.id.to_string();
                    users.entry(name.to_owned()).or_default().insert(id);
                }
            }
        }
        users
    }

    /// Removes a volume. One that containers use goes only where it is said how they are removed, and
    /// they go first.
    pub fn remove_volume(
        &self,
        volume: &Volume,
        users_too: Option<&RemoveOptions>,
    ) -> Result<(), Error> {
        if let Some(options) = users_too {
            let users = self.volume_users().remove(&volume.name).unwrap_or_default();
            for id in users {
                match self.find_container(&id) {
                    Ok(id) => self.remove_container(&id, options)?,
                    // It has gone by itself.
                    Err(error) if error.kind() == Kind::NotFound => {}
                    Err(error) => return Err(error),
                }
            }
        }
        let users = self.discard_volume(&volume.name, Durability::Synced)?;
        if users.is_empty() {
            return Ok(());
        }
        let users: Vec<_> = users.into_iter().collect();
        Err(Error::conflict(format!(
            "volume {} is being used by the following container(s): {}: volume is being used",
            volume.name,
            users.join(", ")
        )))
    }

    /// Removes a volume that no container uses, as one of those that nobody needs.
    pub fn prune_volume(&self, volume: &Volume) -> Result<(), Error> {
        self.remove_volume(volume, None)?;
        self.note_volume("prune", &volume.name);
        Ok(())
    }

    /// Removes a volume's files, unless there are users, who are returned: renamed in one step,
    /// deleted after, where its users own some of them from inside their user namespace.
    pub(crate) fn discard_volume(
        &self,
        name: &str,
        durability: Durability,
    ) -> Result<BTreeSet<String>, Error> {
        let volume = self.paths.volumes().join(name);
        // Whoever makes a container that uses it has the shared lock until its record says so.
        let lock = StoreLock::exclusive(&self.paths.data)?;
        let users = self.volume_users().remove(name).unwrap_or_default();
        if !users.is_empty() {
            return Ok(users);
        }
        let place = trash::put_volume(&self.paths, &volume)?;
        // Where it is deleted by its own name, nobody makes another one meanwhile.
        let _lock = (place == volume).then_some(lock);
        let synced = match durability {
            Durability::None => Ok(()),
            // Reported removed, it does not come back after a power cut.
            Durability::Synced => file::sync_removal(&self.paths.volumes())
                .map_err(Error::io(format!("remove volume {name}"))),
        };
        self.note_volume("remove", name);
        self.delete_discarded(&place)?;
        synced.map(|()| BTreeSet::new())
    }

    /// Deletes what a killed command has left of a volume that it deleted where it was.
    pub(crate) fn finish_closed(&self, name: &str) -> Result<(), Error> {
        let volume = self.paths.volumes().join(name);
        // Whoever deletes it has that lock, and another may have the name by now.
        let _lock = StoreLock::exclusive(&self.paths.data)?;
        if trash::is_closed(&volume) {
            self.delete_discarded(&volume)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Paths;
    use crate::container::config::CgroupMode;

    #[test]
    fn a_volume_is_made_once_and_is_not_one_whose_name_it_begins() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        let engine = Engine {
            paths: Paths {
                data: at("data"),
                runtime: at("runtime"),
                config: at("config"),
            },
            cgroup_mode: CgroupMode::Enabled,
            storage: None,
            additional_stores: None,
            tell: None,
        };
        let record = VolumeRecord::default();
        let make = |ignore| engine.create_volume("data-more", &record, ignore);
        assert!(make(true).unwrap());
        assert!(!make(true).unwrap());
        assert_eq!(make(false).unwrap_err().kind(), Kind::Conflict);
        assert_eq!(engine.find_volume("data").unwrap().name, "data-more");
        let named = |name: &str| engine.volume_named(name).unwrap();
        assert_eq!(named("data-more").unwrap().name, "data-more");
        for name in ["data", "", "..", "../volumes/data-more"] {
            assert_eq!(named(name), None, "{name}");
        }
    }
}
