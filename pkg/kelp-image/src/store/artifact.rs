//! Artifacts that are here, and their names.
//!
//! ```text
//! artifacts/<manifest hex>.json    a record: the manifest, and every blob that it names
//! artifacts/names/<name>           which manifest a name stands for; escaped as an image's is
//! ```
//!
//! A name of an artifact and one of an image have nothing to do with each other. An artifact without a name is
//! garbage: a kill between its record and its name leaves one, or between the last name and the record. None of
//! the directories is there before the first artifact is, so that who has none pays no more than a look for them.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::path::PathBuf;

use oci_spec::image::ImageManifest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::check::discard;
use super::tag::Tags;
use super::{
    Part, Store, StoreLock, Tag, digests_if_any, read_document, sync_directory, sync_removal,
    write_document,
};
use crate::Error;
use crate::artifact::missing;
use crate::digest::Digest;
use crate::reference::{DOCKER_HUB, ImageName, Reference};
use crate::temporary::make_directory;

/// How many digits of a digest are enough to remove an artifact by them alone.
const LEAST_DIGITS: usize = 4;

/// What an artifact needs of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArtifactRecord {
    /// The digest of its manifest, by which it is known.
    pub manifest: Digest,
    /// Every blob that the manifest names, each once.
    pub blobs: Vec<Digest>,
}

/// An artifact and its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Artifact {
    /// What it needs.
    pub record: ArtifactRecord,
    /// Its names, in order; at least one.
    pub names: Vec<String>,
}

/// Which artifact may lose a name to another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taking<'a> {
    /// Whichever has it.
    Any,
    /// None: the name must be new.
    None,
    /// This one, from which the new one was made.
    This(&'a Digest),
}

/// What a removal of artifacts has done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArtifactRemoval {
    /// The manifest of the artifact that was meant.
    pub manifest: Digest,
    /// Files that are to be deleted; see [`super::Removal::trash`].
    pub trash: Vec<PathBuf>,
}

/// Tells who uses an artifact, such as containers.
pub type ArtifactUsers<'a> = dyn Fn(&Digest) -> Result<Vec<String>, Error> + 'a;

impl ArtifactRecord {
    /// Of a manifest.
    pub fn of(manifest: &Digest, document: &ImageManifest) -> Result<Self, Error> {
        let mut blobs: Vec<Digest> = Vec::new();
        for descriptor in [document.config()].into_iter().chain(document.layers()) {
            let digest = Digest::try_from(descriptor.digest())?;
            if !blobs.contains(&digest) {
                blobs.push(digest);
            }
        }
        Ok(Self {
            manifest: manifest.clone(),
            blobs,
        })
    }

    /// The manifest and all that it names.
    pub fn references(&self) -> impl Iterator<Item = &Digest> {
        [&self.manifest].into_iter().chain(&self.blobs)
    }
}

impl Store {
    /// Every artifact that has a name, by the first of its names.
    pub fn artifacts(&self) -> Result<Vec<Artifact>, Error> {
        let mut names: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
        for tag in self.artifact_names().list()? {
            names.entry(tag.manifest).or_default().push(tag.reference);
        }
        let mut artifacts = Vec::new();
        for (manifest, names) in names {
            // One that went meanwhile is not there.
            if let Some(record) = self.artifact(&manifest)? {
                artifacts.push(Artifact { record, names });
            }
        }
        artifacts.sort_by(|one, other| one.names.cmp(&other.names));
        Ok(artifacts)
    }

    /// The record of an artifact.
    pub fn artifact(&self, manifest: &Digest) -> Result<Option<ArtifactRecord>, Error> {
        read_document(&self.artifact_path(manifest))
    }

    /// The manifest of an artifact.
    pub fn artifact_document(&self, manifest: &Digest) -> Result<ImageManifest, Error> {
        self.manifest(manifest).map_err(missing)
    }

    /// The same with all that it says, whatever the specification knows.
    pub fn artifact_json(&self, manifest: &Digest) -> Result<Value, Error> {
        self.document(manifest, "manifest").map_err(missing)
    }

    /// The artifact with exactly this name.
    pub fn artifact_named(&self, name: &Reference) -> Result<Option<ArtifactRecord>, Error> {
        let name = name.clone().or_latest().digest_over_tag().to_string();
        match self.artifact_names().get(&name)? {
            Some(tag) => self.artifact(&tag.manifest),
            None => Ok(None),
        }
    }

    /// Finds an artifact by what a user wrote, and says which of its names that was: a name, whole or without its
    /// registry, which no other name may end with then; a repository with the digest of the manifest; or that digest,
    /// or the beginning of it.
    pub fn find_artifact(&self, text: &str) -> Result<Option<(Artifact, Option<String>)>, Error> {
        let artifacts = self.artifacts()?;
        let named = |name: &dyn Fn(&str) -> bool| {
            artifacts.iter().find_map(|artifact| {
                let name = artifact.names.iter().find(|it| name(it))?;
                Some((artifact.clone(), Some(name.clone())))
            })
        };
        if let Ok(name) = ImageName::parse(text) {
            let (full, end) = match &name {
                ImageName::Full(full) => (vec![full.clone()], None),
                ImageName::Short(short) => {
                    let full =
                        ["localhost", DOCKER_HUB].map(|registry| short.in_registry(registry));
                    let tag = short.tag().unwrap_or("latest");
                    let end = match short.digest() {
                        Some(digest) => format!("/{}@{digest}", short.path()),
                        None => format!("/{}:{tag}", short.path()),
                    };
                    (full.to_vec(), Some(end))
                }
            };
            for full in full {
                let name = full.clone().or_latest().digest_over_tag().to_string();
                if let Some(found) = named(&|it| it == name) {
                    return Ok(Some(found));
                }
                if let Some(digest) = full.digest() {
                    let of =
                        |it: &str| Reference::parse(it).is_ok_and(|it| it.name() == full.name());
                    let is_it = |artifact: &&Artifact| {
                        artifact.record.manifest == *digest
                            && artifact.names.iter().any(|it| of(it))
                    };
                    if let Some(artifact) = artifacts.iter().find(is_it) {
                        return Ok(Some((artifact.clone(), None)));
                    }
                }
            }
            if let Some(end) = end {
                let ends = |name: &&String| name.ends_with(&end);
                let names = artifacts.iter().flat_map(|artifact| &artifact.names);
                let names: Vec<&str> = names.filter(ends).map(String::as_str).collect();
                if names.len() > 1 {
                    return Err(Error::Conflict(format!(
                        "several artifacts' names end with {text}: give one of {} as a whole",
                        names.join(", ")
                    )));
                }
                if let Some(found) = named(&|it| it.ends_with(&end)) {
                    return Ok(Some(found));
                }
            }
        }
        let prefix = text.strip_prefix("sha256:").unwrap_or(text);
        let fits = |artifact: &&Artifact| artifact.record.manifest.hex().starts_with(prefix);
        let mut found = artifacts.iter().filter(fits);
        match (found.next(), found.next()) {
            _ if prefix.is_empty() => Ok(None),
            (None, _) => Ok(None),
            (Some(artifact), None) => Ok(Some((artifact.clone(), None))),
            (Some(_), Some(_)) => Err(Error::Conflict(format!(
                "several artifacts have a digest that begins with {text}: give more digits"
            ))),
        }
    }

    /// Records an artifact whose blobs are here, and names it; what is to be deleted of one that has lost its last
    /// name by it.
    pub fn add_artifact(
        &self,
        manifest: &Digest,
        name: &Reference,
        taking: Taking<'_>,
    ) -> Result<Vec<PathBuf>, Error> {
        let record = ArtifactRecord::of(manifest, &self.manifest(manifest)?)?;
        let name = name.clone().or_latest().digest_over_tag().to_string();
        let _lock = StoreLock::exclusive(&self.data)?;
        let names = self.artifact_names();
        let before = names.get(&name)?.map(|tag| tag.manifest);
        check_taking(&name, before.as_ref(), taking)?;
        for digest in record.references() {
            if !self.blobs.contains(digest)? {
                return Err(missing(Error::NotFound(format!("blob {digest}"))));
            }
        }
        // The renames of the blobs, whose content is synced, before what refers to them.
        for directory in ["blobs/sha256", "blobs/sha512"] {
            sync_directory(&self.data.join(directory))?;
        }
        self.make_artifact_directories()?;
        write_document(&self.data, &self.artifact_path(manifest), &record)?;
        let tag = Tag {
            reference: name,
            image: manifest.clone(),
            manifest: manifest.clone(),
            index: None,
        };
        names.set(&self.data, &tag)?;
        match before.filter(|before| before != manifest) {
            Some(before) if !names.list()?.iter().any(|tag| tag.manifest == before) => {
                // What can't be removed any more is garbage; the new one is there.
                Ok(self.delete_artifact(&before).unwrap_or_default())
            }
            _ => Ok(Vec::new()),
        }
    }

    /// Removes what a user wrote: a name, and with its last name the artifact; or an artifact by its digest, which
    /// must have no other name then. What is short enough to be a name of something else is no digest here. One that
    /// somebody uses stays.
    pub fn remove_artifact(
        &self,
        text: &str,
        users: &ArtifactUsers<'_>,
    ) -> Result<Option<ArtifactRemoval>, Error> {
        let _lock = StoreLock::exclusive(&self.data)?;
        let Some((artifact, meant)) = self.find_artifact(text)? else {
            return Ok(None);
        };
        let manifest = artifact.record.manifest;
        if meant.is_none() && text.len() < LEAST_DIGITS && manifest.hex().starts_with(text) {
            return Err(Error::Invalid(format!(
                "{text}: too little of a digest to remove an artifact by: give at least {LEAST_DIGITS} digits, or \
                 sha256: before them"
            )));
        }
        let names = self.artifact_names();
        let mut removal = ArtifactRemoval {
            manifest: manifest.clone(),
            trash: Vec::new(),
        };
        if artifact.names.len() > 1 {
            let Some(meant) = meant else {
                return Err(Error::Conflict(format!(
                    "artifact {} has several names, {}: remove it by a name",
                    manifest.short(),
                    artifact.names.join(", ")
                )));
            };
            names.remove(&meant)?;
            names.sync()?;
            return Ok(Some(removal));
        }
        let users = users(&manifest)?;
        if !users.is_empty() {
            return Err(Error::Conflict(format!(
                "artifact {} is in use by {}",
                artifact.names.join(", "),
                users.join(", ")
            )));
        }
        for name in &artifact.names {
            names.remove(name)?;
        }
        names.sync()?;
        removal.trash = self.delete_artifact(&manifest)?;
        Ok(Some(removal))
    }

    /// Removes a record, and what nothing else needs. The caller holds the exclusive lock.
    fn delete_artifact(&self, manifest: &Digest) -> Result<Vec<PathBuf>, Error> {
        let record = self.artifact(manifest)?;
        let path = self.artifact_path(manifest);
        match fs::remove_file(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed.map_err(Error::io(format!("remove {}", path.display())))?,
        }
        sync_removal(&self.data.join("artifacts"))?;
        match record {
            Some(record) => self.discard_unneeded(record.references()),
            None => Ok(Vec::new()),
        }
    }

    /// Removes the records that have no name, unless there are names that can't be read. The caller holds the
    /// exclusive lock, and collects the blobs.
    pub(super) fn forget_nameless_artifacts(&self) -> Result<(), Error> {
        let directory = self.data.join("artifacts");
        if !directory.is_dir() {
            return Ok(());
        }
        let manifests = self.artifact_manifests()?;
        let (names, unreadable) = self.artifact_names().read()?;
        if unreadable > 0 {
            return Ok(());
        }
        let named: HashSet<Digest> = names.into_iter().map(|tag| tag.manifest).collect();
        let mut nameless = manifests.iter().filter(|it| !named.contains(it)).peekable();
        let is_changed = nameless.peek().is_some();
        for manifest in nameless {
            let path = self.artifact_path(manifest);
            fs::remove_file(&path).map_err(Error::io(format!("remove {}", path.display())))?;
        }
        if is_changed {
            sync_removal(&directory)?;
        }
        // Where nothing is left it is as if there had never been an artifact.
        let _ = fs::remove_dir(directory.join("names")).and_then(|()| fs::remove_dir(directory));
        Ok(())
    }

    /// Everything that artifacts need. The caller holds the exclusive lock.
    pub(super) fn needed_by_artifacts(&self, digests: &mut HashSet<Digest>) -> Result<(), Error> {
        for manifest in self.artifact_manifests()? {
            if let Some(record) = self.artifact(&manifest)? {
                digests.extend(record.references().cloned());
            }
        }
        Ok(())
    }

    /// The files that artifacts have, each once: records, names and blobs.
    pub fn artifact_parts(&self) -> Result<Vec<Part>, Error> {
        let mut parts = Vec::new();
        for artifact in self.artifacts()? {
            let names = self.artifact_names();
            parts.extend(
                artifact
                    .names
                    .iter()
                    .map(|name| Part::File(names.path(name))),
            );
            let record = &artifact.record;
            parts.push(Part::File(self.artifact_path(&record.manifest)));
            let blobs = record.references().map(|digest| self.blobs.path(digest));
            parts.extend(blobs.map(Part::File));
        }
        parts.sort();
        parts.dedup();
        Ok(parts)
    }

    /// The manifests of all records, by the names of their files.
    pub fn artifact_manifests(&self) -> Result<Vec<Digest>, Error> {
        let mut manifests = digests_if_any(&self.data.join("artifacts"))?;
        manifests.sort_unstable();
        Ok(manifests)
    }

    /// Writes an artifact's record again, from its manifest; false if that is not here, or is damaged.
    pub fn rebuild_artifact(&self, manifest: &Digest) -> Result<bool, Error> {
        let Ok(document) = self.manifest(manifest) else {
            return Ok(false);
        };
        let Ok(record) = ArtifactRecord::of(manifest, &document) else {
            return Ok(false);
        };
        let _lock = StoreLock::exclusive(&self.data)?;
        let path = self.artifact_path(manifest);
        if path.is_dir() {
            discard(&path)?;
        }
        write_document(&self.data, &path, &record)?;
        Ok(true)
    }

    /// Removes an artifact whatever it lacks, and all of its names; what is to be deleted.
    pub fn drop_artifact(&self, manifest: &Digest) -> Result<Vec<PathBuf>, Error> {
        let _lock = StoreLock::exclusive(&self.data)?;
        let names = self.artifact_names();
        for name in self.names_of_artifact(manifest)? {
            names.remove(&name)?;
        }
        names.sync()?;
        if self.artifact(manifest).is_err() {
            discard(&self.artifact_path(manifest))?;
        }
        self.delete_artifact(manifest)
    }

    /// The names of an artifact, in order, be its record readable or not.
    pub fn names_of_artifact(&self, manifest: &Digest) -> Result<Vec<String>, Error> {
        let tags = self.artifact_names().list()?.into_iter();
        let names = tags.filter(|tag| tag.manifest == *manifest);
        Ok(names.map(|tag| tag.reference).collect())
    }

    /// The directory of names.
    pub(super) fn artifact_names(&self) -> Tags {
        Tags::at(&self.artifact_names_directory())
    }

    pub(super) fn artifact_names_directory(&self) -> PathBuf {
        self.data.join("artifacts/names")
    }

    pub(super) fn artifact_path(&self, manifest: &Digest) -> PathBuf {
        let name = format!("{}.json", manifest.hex());
        self.data.join("artifacts").join(name)
    }

    /// Makes what is missing of the directories, so that it outlives a power cut.
    fn make_artifact_directories(&self) -> Result<(), Error> {
        let names = self.artifact_names_directory();
        if names.is_dir() {
            return Ok(());
        }
        make_directory(&names)?;
        sync_directory(&self.data.join("artifacts"))?;
        sync_directory(&self.data)
    }
}

/// Refuses a name that stands for an artifact that may not lose it.
pub(crate) fn check_taking(
    name: &str,
    before: Option<&Digest>,
    taking: Taking<'_>,
) -> Result<(), Error> {
    match (before, taking) {
        (_, Taking::Any) | (None, Taking::None) => Ok(()),
        (Some(_), Taking::None) => Err(Error::Conflict(format!(
            "{name}: artifact already exists: use --replace, or --append"
        ))),
        (Some(before), Taking::This(expected)) if before == expected => Ok(()),
        (_, Taking::This(_)) => Err(Error::Conflict(format!(
            "{name}: somebody else has changed the artifact meanwhile: try again"
        ))),
    }
}

#[cfg(test)]
mod tests;
