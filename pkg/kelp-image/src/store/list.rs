//! Manifest lists that are made here: an index that can be changed, and its names.
//!
//! ```text
//! lists/<hex>.json   the list's id, the digest of its index as it is now, where images of it are found
//! tags/<name>        the same files that images' names are: a name is of one thing only
//! ```
//!
//! The index itself is a blob; a change makes another one and replaces the record. What the index names
//! and is here (manifests, configs, layers) stays as long as the list does, be there an image's record
//! for it or not; but of an image that was added from a repository only the manifest, for a push brings the
//! rest by here. The same holds for a name that was pulled for all platforms: its tag says the index.

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io;
use std::path::PathBuf;

use oci_spec::image::{ImageConfiguration, ImageManifest};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{
    Image, Removal, Retag, Store, StoreLock, Tag, digests_if_any, sync_directory, write_document,
};
use crate::Error;
use crate::digest::Digest;
use crate::manifest::OCI_INDEX;
use crate::platform::Platform;
use crate::reference::{ImageName, Reference};
use crate::store::ImageRecord;

/// In which repositories images are whose blobs may not be here, by their manifests' digests.
type Sources = BTreeMap<Digest, String>;

/// A manifest list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListRecord {
    /// Its id, which stays when it is changed.
    pub id: Digest,
    /// The digest of its index.
    pub index: Digest,
    /// When it was made (RFC 3339).
    pub created: String,
    /// In which repositories images are whose blobs may not be here, by their manifests' digests.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sources: Sources,
}

impl ListRecord {
    /// As `images` shows it: with nothing that only an image has.
    fn as_image(&self, names: Vec<String>) -> Image {
        Image {
            record: ImageRecord {
                id: self.id.clone(),
                manifest: self.index.clone(),
                media_type: OCI_INDEX.to_owned(),
                os: String::new(),
                architecture: String::new(),
                variant: None,
                created: Some(self.created.clone()),
                size: 0,
                layers: Vec::new(),
                repo_digests: Vec::new(),
                indexes: Vec::new(),
                made_here: true,
                labels: BTreeMap::new(),
            },
            names,
        }
    }
}

/// Changes a list's record and index.
pub type EditList<'a> = dyn FnMut(&mut ListRecord, &mut Value) -> Result<(), Error> + 'a;

impl Store {
    /// What is to be a list's name, if it can be: nothing may have it.
    pub fn name_for_list(&self, name: &Reference) -> Result<String, Error> {
        let name = name.clone().or_latest();
        if name.digest().is_some() {
            return Err(Error::Invalid(format!(
                "{name}: a list that changes can't be called by a digest"
            )));
        }
        let name = name.to_string();
        // An id that nothing has, so that whoever has the name is somebody else.
        self.name_for_image(&name, &Digest::of(b""), Retag::Refuse)?;
        Ok(name)
    }

    /// Makes a list; what `edit` puts into it is there from the beginning. `seed` is what makes its id its own.
    pub fn create_list(
        &self,
        name: &Reference,
        created: &str,
        seed: &str,
        edit: &mut EditList<'_>,
    ) -> Result<ListRecord, Error> {
        let _lock = StoreLock::exclusive(&self.data)?;
        let name = self.name_for_list(name)?;
        let mut index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": []});
        let mut list = ListRecord {
            id: Digest::of(format!("{name} {created} {seed}").as_bytes()),
            index: Digest::of(b""),
            created: created.to_owned(),
            sources: Sources::new(),
        };
        edit(&mut list, &mut index)?;
        self.write_list(&mut list, &index)?;
        self.tag_list(&name, &list).inspect_err(|_| {
            // Nobody asked for one without a name.
            let _ = fs::remove_file(self.list_path(&list.id));
        })?;
        Ok(list)
    }

    /// Changes a list. Nobody else changes it meanwhile, and nothing is removed.
    pub fn edit_list(&self, id: &Digest, edit: &mut EditList<'_>) -> Result<(), Error> {
        let _lock = StoreLock::exclusive(&self.data)?;
        let mut list = self.list(id)?.ok_or_else(|| no_list(&id.to_string()))?;
        let mut index = self.index_document(&list.index)?;
        edit(&mut list, &mut index)?;
        let named: HashSet<Digest> = manifests(&index).map(|(digest, _)| digest).collect();
        list.sources.retain(|digest, _| named.contains(digest));
        self.write_list(&mut list, &index)
    }

    /// The caller holds the exclusive lock.
    fn write_list(&self, list: &mut ListRecord, index: &Value) -> Result<(), Error> {
        let bytes = index.to_string();
        list.index = self.blobs.put(bytes.as_bytes(), None)?;
        sync_directory(&self.data.join("blobs/sha256"))?;
        write_document(&self.data, &self.list_path(&list.id), list)
    }

    fn tag_list(&self, name: &str, list: &ListRecord) -> Result<(), Error> {
        let tag = Tag {
            reference: name.to_owned(),
            image: list.id.clone(),
            manifest: list.index.clone(),
            index: None,
        };
        self.tags.set(&self.data, &tag)
    }

    /// Gives a list a further name, which no image may have.
    pub fn name_list(&self, id: &Digest, name: &Reference) -> Result<(), Error> {
        let name = name.clone().or_latest().to_string();
        let _lock = StoreLock::exclusive(&self.data)?;
        let list = self.list(id)?.ok_or_else(|| no_list(&id.to_string()))?;
        if let Some(tag) = self.tag_of(&name)? {
            self.refuse_had(&tag, id)?;
        }
        self.tag_list(&name, &list)
    }

    /// A list by its id.
    pub fn list(&self, id: &Digest) -> Result<Option<ListRecord>, Error> {
        let path = self.list_path(id);
        match fs::read(&path) {
            // What is no record is nobody's list: `system check` names it.
            Ok(text) => Ok(serde_json::from_slice(&text).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(format!("read {}", path.display()))(error)),
        }
    }

    /// All lists.
    fn lists(&self) -> Result<Vec<ListRecord>, Error> {
        let mut lists = Vec::new();
        for id in digests_if_any(&self.data.join("lists"))? {
            lists.extend(self.list(&id)?);
        }
        Ok(lists)
    }

    /// The lists as images, for those who show both.
    pub(super) fn lists_as_images(
        &self,
        names: &mut BTreeMap<Digest, Vec<String>>,
    ) -> Result<Vec<Image>, Error> {
        let lists = self.lists()?.into_iter();
        let images = lists.map(|list| list.as_image(names.remove(&list.id).unwrap_or_default()));
        Ok(images.collect())
    }

    /// Finds a list by what a user wrote, and says which of its names that was; `None` for what is no
    /// list, and for what an image is called.
    pub fn find_list(&self, text: &str) -> Result<Option<(ListRecord, Option<String>)>, Error> {
        let lists = self.lists()?;
        if lists.is_empty() || self.find_named(text)?.is_some() {
            return Ok(None);
        }
        let tags = self.tags.list()?;
        let found = |tag: &Tag| {
            let list = lists.iter().find(|list| list.id == tag.image)?;
            Some((list.clone(), Some(tag.reference.clone())))
        };
        if let Ok(name) = ImageName::parse(text) {
            let (full, end) = match &name {
                ImageName::Full(full) => (full.clone().or_latest().to_string(), None),
                ImageName::Short(short) => {
                    // What has a digest does not change, so it is no list.
                    let end = short
                        .digest()
                        .is_none()
                        .then(|| format!("/{}:{}", short.path(), short.tag().unwrap_or("latest")));
                    let full = short.in_registry("localhost").or_latest();
                    (full.to_string(), end)
                }
            };
            let ends = |tag: &&Tag| end.as_ref().is_some_and(|end| tag.reference.ends_with(end));
            let named = tags
                .iter()
                .filter(|tag| tag.reference == full)
                .find_map(found);
            let named = named.or_else(|| tags.iter().filter(ends).find_map(found));
            if named.is_some() {
                return Ok(named);
            }
        }
        let prefix = text.strip_prefix("sha256:").unwrap_or(text);
        let fits = |id: &&Digest| !prefix.is_empty() && id.hex().starts_with(prefix);
        let matches: Vec<&Digest> = lists.iter().map(|list| &list.id).filter(fits).collect();
        let [id] = matches.as_slice() else {
            return Ok(None);
        };
        // Fewer digits than tell them apart must not remove the one for the other.
        if let Some(image) = self.ids()?.into_iter().find(|image| fits(&image)) {
            return Err(Error::Ambiguous {
                prefix: text.to_owned(),
                matches: vec![(*id).clone(), image],
            });
        }
        let list = lists.iter().find(|list| list.id == **id);
        Ok(list.map(|list| (list.clone(), None)))
    }

    /// The image for a platform that a list names, if it is here.
    pub(super) fn image_of_list(&self, text: &str) -> Result<Option<ImageRecord>, Error> {
        let Some((list, _)) = self.find_list(text)? else {
            return Ok(None);
        };
        let index = serde_json::from_value(self.index_document(&list.index)?)
            .map_err(Error::json(format!("read index {}", list.index)))?;
        let Some(chosen) = Platform::host().choose(&index) else {
            return Ok(None);
        };
        let manifest = Digest::try_from(chosen.digest())?;
        let mut records = self.records()?.into_iter();
        Ok(records.find(|record| record.manifest == manifest))
    }

    /// An index that is here.
    pub fn index_document(&self, digest: &Digest) -> Result<Value, Error> {
        self.document(digest, "index")
    }

    /// Removes a list or one of its names. What it named stays where an image needs it.
    pub fn remove_list(&self, text: &str, all_names: bool) -> Result<Option<Removal>, Error> {
        if self.lists()?.is_empty() {
            return Ok(None);
        }
        let _lock = StoreLock::exclusive(&self.data)?;
        let Some((list, meant)) = self.find_list(text)? else {
            return Ok(None);
        };
        let names = self.own_names(&list.id)?;
        if let Some(meant) = meant
            && names.len() > 1
        {
            self.tags.remove(&meant)?;
            self.tags.sync()?;
            return Ok(Some(Removal {
                untagged: vec![meant],
                ..Removal::default()
            }));
        }
        if names.len() > 1 && !all_names {
            return Err(Error::Conflict(format!(
                "manifest list {} has several names, {}: remove it by a name, or with --force",
                list.id.short(),
                names.join(", ")
            )));
        }
        self.delete_list(list, names).map(Some)
    }

    /// Removes a list that has no name. The caller holds the exclusive lock.
    pub(super) fn prune_list(&self, id: &Digest) -> Result<Option<Removal>, Error> {
        let Some(list) = self.list(id)? else {
            return Ok(None);
        };
        if !self.own_names(id)?.is_empty() {
            return Ok(None);
        }
        self.delete_list(list, Vec::new()).map(Some)
    }

    /// Removes names, record, and what nothing else needs. The caller holds the exclusive lock.
    fn delete_list(&self, list: ListRecord, names: Vec<String>) -> Result<Removal, Error> {
        let mut named = HashSet::new();
        self.named_by(&list.index, &Sources::new(), &mut named)?;
        for name in &names {
            self.tags.remove(name)?;
        }
        let path = self.list_path(&list.id);
        fs::remove_file(&path).map_err(Error::io(format!("remove {}", path.display())))?;
        self.settle_removal("lists")?;
        Ok(Removal {
            untagged: names,
            deleted: Some(list.id),
            trash: self.discard_unneeded(named.iter())?,
        })
    }

    /// The manifests that lists stand for, and with `names` those that a name of all platforms does.
    pub(super) fn listed_manifests(&self, names: bool) -> Result<HashSet<Digest>, Error> {
        let mut digests = HashSet::new();
        for (index, _) in self.held_indexes(names)? {
            if let Some(document) = readable(self.index_document(&index))? {
                digests.extend(manifests(&document).map(|(digest, _)| digest));
            }
        }
        Ok(digests)
    }

    /// Everything that lists, and names of all platforms, need. The caller holds the exclusive lock.
    pub(super) fn listed(&self, digests: &mut HashSet<Digest>) -> Result<(), Error> {
        let mut manifests = Vec::new();
        for (index, sources) in self.held_indexes(true)? {
            manifests.extend(self.named_by(&index, &sources, digests)?);
        }
        // Last: a manifest that is among the digests is taken for one whose config and layers are as well.
        digests.extend(manifests);
        Ok(())
    }

    /// The indexes that lists and names stand for, and which of their images need not be here.
    fn held_indexes(&self, names: bool) -> Result<Vec<(Digest, Sources)>, Error> {
        let lists = self.lists()?.into_iter();
        let mut indexes: Vec<_> = lists.map(|list| (list.index, list.sources)).collect();
        if names {
            let tags = self.tags.list()?.into_iter();
            indexes.extend(tags.filter_map(|tag| Some((tag.index?, Sources::new()))));
        }
        Ok(indexes)
    }

    /// Has a name stand for all images of an index: none of them is dangling as long as it does.
    pub fn hold_index(&self, name: &Reference, index: &Digest) -> Result<(), Error> {
        let name = name.clone().or_latest().digest_over_tag().to_string();
        let _lock = StoreLock::exclusive(&self.data)?;
        let mut tag = self
            .tags
            .get(&name)?
            .ok_or_else(|| Error::NotFound(name.clone()))?;
        tag.index = Some(index.clone());
        self.tags.set(&self.data, &tag)
    }

    /// An index and what it names, as far as that is here; returned are the manifests that are in `sources`.
    /// What can't be read needs nothing more: it is of no use to anybody.
    fn named_by(
        &self,
        index: &Digest,
        sources: &Sources,
        digests: &mut HashSet<Digest>,
    ) -> Result<Vec<Digest>, Error> {
        let mut elsewhere = Vec::new();
        digests.insert(index.clone());
        let Some(document) = readable(self.index_document(index))? else {
            return Ok(elsewhere);
        };
        for (digest, _) in manifests(&document) {
            if sources.contains_key(&digest) {
                elsewhere.push(digest);
                continue;
            }
            if !digests.insert(digest.clone()) {
                continue;
            }
            let Some(manifest) = readable(self.manifest(&digest))? else {
                continue;
            };
            let config = Digest::try_from(manifest.config().digest());
            digests.extend(blobs_of(&manifest));
            let config = config.and_then(|config| self.config_blob(&config));
            if let Some(config) = readable(config)? {
                digests.extend(diff_ids(&config));
            }
        }
        Ok(elsewhere)
    }

    pub(super) fn list_path(&self, id: &Digest) -> PathBuf {
        self.data.join("lists").join(format!("{}.json", id.hex()))
    }
}

/// The entries of an index, with their digests; what has none is left out.
pub fn manifests(index: &Value) -> impl Iterator<Item = (Digest, &Value)> {
    let entries = index["manifests"].as_array().into_iter().flatten();
    entries.filter_map(|entry| Some((entry["digest"].as_str()?.parse().ok()?, entry)))
}

/// What can be read; nothing of what is not here or is no such document. An error of the machine's may
/// pass, and nothing is removed because of it.
fn readable<T>(read: Result<T, Error>) -> Result<Option<T>, Error> {
    match read {
        Ok(document) => Ok(Some(document)),
        Err(error @ Error::Io { .. }) => Err(error),
        Err(_) => Ok(None),
    }
}

fn blobs_of(manifest: &ImageManifest) -> Vec<Digest> {
    let layers = manifest.layers().iter().chain([manifest.config()]);
    let digests = layers.filter_map(|layer| layer.digest().try_into().ok());
    digests.collect()
}

fn diff_ids(config: &ImageConfiguration) -> Vec<Digest> {
    let ids = config.rootfs().diff_ids().iter();
    ids.filter_map(|id| id.parse().ok()).collect()
}

fn no_list(name: &str) -> Error {
    Error::NotFound(format!("manifest list {name}"))
}
