//! The images that are here, and their names.
//!
//! A record is written when all it refers to is here and synced, and its names after it; they go in
//! the opposite order. What a kill leaves in between is an image without a name, or blobs and layers
//! without a record, which the next removal or [`Store::collect_garbage`] takes away; nothing needs
//! repair. How additions and removals at the same time get along is told in [`lock`].
//!
//! Artifacts are kept in the same way, with records and names of their own: a name of an artifact and one of an
//! image have nothing to do with each other.

mod additional;
mod artifact;
mod check;
mod find;
mod garbage;
pub mod list;
pub mod lock;
mod record;
mod removal;
mod tag;
mod usage;

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use oci_spec::image::{ImageConfiguration, ImageIndex, ImageManifest};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub(crate) use artifact::check_taking;
pub use artifact::{Artifact, ArtifactRecord, ArtifactRemoval, ArtifactUsers, Taking};
pub use check::{BadName, ReadRecord, Unreferenced};
pub use garbage::Garbage;
pub use list::ListRecord;
pub use lock::{Lease, StoreLock};
pub use record::{ImageRecord, LayerRecord};
pub use removal::Removal;
pub use tag::Tag;
pub use usage::{Everything, Part};

use crate::Error;
use crate::blob::{BlobStore, DOCUMENT_LIMIT};
use crate::digest::Digest;
use crate::layer::LayerStore;
use crate::platform::Platform;
use crate::pull::{Images, LocalImage, PulledImage};
use crate::reference::Reference;
use crate::space;
use crate::temporary::{self, TemporaryFile, make_directory, sync_directory};
use crate::unpack;
use crate::unpacker::Unpacker;
use additional::Below;
use tag::Tags;

/// How many layers are extracted again at the same time.
const EXTRACTIONS: usize = 4;

/// The images beneath a data directory.
#[derive(Clone, Debug)]
pub struct Store {
    data: PathBuf,
    blobs: BlobStore,
    tags: Tags,
    /// Read-only stores beneath it.
    below: Arc<[Below]>,
}

/// An image and its names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// What is known of it.
    pub record: ImageRecord,
    /// Its names, in order; an image without one is dangling.
    pub names: Vec<String>,
}

/// An image that is to be recorded: its blobs are here.
#[derive(Clone, Debug)]
pub struct NewImage<'a> {
    /// The digest of its manifest.
    pub manifest: &'a Digest,
    /// The index that led to it, if its blob is here.
    pub index: Option<&'a Digest>,
    /// What registries know it by, as `registry/repository@digest`.
    pub repo_digests: Vec<String>,
    /// Whether its manifest was made here, so that nobody else knows its digest.
    pub made_here: bool,
    /// The names it gets.
    pub names: &'a [Reference],
    /// Whether a name may be taken from another image.
    pub retag: Retag,
}

/// A name that another image has taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Displaced {
    /// The name.
    pub name: String,
    /// The image that had it.
    pub image: Digest,
}

/// Whether a name that stands for another image may be made to stand for this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retag {
    /// It moves: somebody asked for this very name.
    Move,
    /// It stays, and that is an error: nobody has asked for the name to move.
    Refuse,
}

impl Store {
    /// Opens the images beneath a data directory, making the directories that are missing.
    pub fn open(data: &Path) -> Result<Self, Error> {
        for directory in ["images", "lists", "tags", "layers"] {
            make_directory(&data.join(directory))?;
        }
        Ok(Self {
            data: data.to_owned(),
            blobs: BlobStore::open(data)?,
            tags: Tags::new(data),
            below: Arc::default(),
        })
    }

    /// The blobs, for reading.
    pub fn blobs(&self) -> &BlobStore {
        &self.blobs
    }

    /// The layers for one id map.
    pub fn layers(&self, map_key: &str) -> Result<LayerStore, Error> {
        LayerStore::open(&self.data, map_key)
    }

    /// A directory for something that is tried; garbage as soon as the file that comes with it, which
    /// holds its lock, is closed.
    pub fn scratch(&self, kind: &str) -> Result<(PathBuf, File), Error> {
        temporary::create_directory(&self.data.join("tmp"), kind)
    }

    /// Keeps images from being removed while the guard lives; see [`StoreLock::shared`].
    pub fn lock(&self) -> Result<StoreLock, Error> {
        StoreLock::shared(&self.data)
    }

    /// Records an image and names it.
    ///
    /// Its blobs are looked at once more: one that is missing is an error, not a broken image.
    pub fn add(&self, new: &NewImage<'_>) -> Result<ImageRecord, Error> {
        Ok(self.add_and_tell(new)?.0)
    }

    /// The same; tells as well which images have lost a name by it.
    pub fn add_and_tell(&self, new: &NewImage<'_>) -> Result<(ImageRecord, Vec<Displaced>), Error> {
        let manifest = self.manifest(new.manifest)?;
        let id: Digest = manifest.config().digest().try_into()?;
        let config = self.config_blob(&id)?;
        let known = if new.made_here {
            self.whole(&id)?
        } else {
            None
        };
        let mut record = match known {
            // It came once with a manifest that others know, which is worth more than one made here.
            Some(known) => known,
            None => ImageRecord {
                made_here: new.made_here,
                ..ImageRecord::from_documents(new.manifest, &manifest, &config)?
            },
        };
        record.repo_digests.clone_from(&new.repo_digests);
        record.indexes = new.index.cloned().into_iter().collect();
        record.size = self.layer_sizes(&record).iter().sum();
        let _lock = StoreLock::exclusive(&self.data)?;
        let mut names: Vec<(String, Option<Tag>)> = Vec::new();
        for name in new.names {
            let name = name.to_string();
            // An archive may have one twice.
            if names.iter().any(|(known, _)| *known == name) {
                continue;
            }
            let before = self.name_for_image(&name, &record.id, new.retag)?;
            names.push((name, before));
        }
        for digest in record
            .indexes
            .iter()
            .chain([&record.id, &record.manifest])
            .chain(record.layers.iter().map(|layer| &layer.digest))
        {
            if !self.blobs.contains(digest)? {
                return Err(Error::NotFound(format!("blob {digest}")));
            }
        }
        if let Some(older) = self.record(&record.id)? {
            record.merge(&older);
            // One of a read-only store may have come by an index that is not here.
            record
                .indexes
                .retain(|index| self.blobs.path(index).exists());
        }
        // The renames of the blobs, whose content is synced, before what refers to them.
        for directory in ["blobs/sha256", "blobs/sha512"] {
            sync_directory(&self.data.join(directory))?;
        }
        write_document(&self.data, &self.record_path(&record.id), &record)?;
        let mut displaced = Vec::new();
        for (name, before) in names {
            self.write_tag(&name, &record, before.as_ref(), new.index)?;
            if let Some(tag) = before.filter(|tag| tag.image != record.id) {
                let image = tag.image;
                displaced.push(Displaced { name, image });
            }
        }
        Ok((record, displaced))
    }

    /// An image that is here with all its blobs.
    fn whole(&self, id: &Digest) -> Result<Option<ImageRecord>, Error> {
        let Some(record) = self.record(id)? else {
            return Ok(None);
        };
        let layers = record.layers.iter().map(|layer| &layer.digest);
        for digest in [&record.id, &record.manifest].into_iter().chain(layers) {
            // Of the blobs themselves: who only looks keeps nothing.
            if !self.blobs.path(digest).exists() {
                return Ok(None);
            }
        }
        Ok(Some(record))
    }

    /// Notes that a registry knows an image by a name with a digest.
    pub fn known_by(&self, id: &Digest, repo_digest: String) -> Result<(), Error> {
        let _lock = StoreLock::exclusive(&self.data)?;
        // What is in a read-only store stays as it is, and what has been removed meanwhile is known to
        // nobody.
        let Some(mut record) = self.record(id)?.filter(|_| self.read_only(id).is_none()) else {
            return Ok(());
        };
        if !record.repo_digests.contains(&repo_digest) {
            record.repo_digests.push(repo_digest);
            write_document(&self.data, &self.record_path(id), &record)?;
        }
        Ok(())
    }

    /// Gives an image a further name; returns the image that had it before, if it was another one.
    pub fn tag(
        &self,
        id: &Digest,
        name: &Reference,
        retag: Retag,
    ) -> Result<Option<Digest>, Error> {
        let name = name.clone().or_latest().to_string();
        let _lock = StoreLock::exclusive(&self.data)?;
        let record = self.record(id)?.ok_or_else(|| no_image(id))?;
        let before = self.name_for_image(&name, id, retag)?;
        self.write_tag(&name, &record, before.as_ref(), None)?;
        Ok(before.map(|tag| tag.image).filter(|before| before != id))
    }

    /// Takes a name away; the image stays.
    pub fn untag(&self, name: &Reference) -> Result<(), Error> {
        let name = name.clone().or_latest().to_string();
        let _lock = StoreLock::exclusive(&self.data)?;
        self.tags
            .get(&name)?
            .ok_or_else(|| Error::NotFound(name.clone()))?;
        self.tags.remove(&name)?;
        self.tags.sync()
    }

    /// A name of all platforms stays one as long as it means the same: this image, and by no other index.
    fn write_tag(
        &self,
        name: &str,
        record: &ImageRecord,
        before: Option<&Tag>,
        came_by: Option<&Digest>,
    ) -> Result<(), Error> {
        let held = before.filter(|tag| tag.image == record.id);
        let held = held.and_then(|tag| tag.index.clone());
        let tag = Tag {
            reference: name.to_owned(),
            image: record.id.clone(),
            manifest: record.manifest.clone(),
            index: held.filter(|index| came_by.is_none_or(|new| new == index)),
        };
        self.tags.set(&self.data, &tag)
    }

    /// What a name stands for by now, if an image may get it. A list's is never an image's as well, whatever
    /// was asked for.
    fn name_for_image(&self, name: &str, id: &Digest, retag: Retag) -> Result<Option<Tag>, Error> {
        let Some(tag) = self.not_a_list(name)? else {
            return Ok(None);
        };
        if retag == Retag::Refuse {
            self.refuse_had(&tag, id)?;
        }
        Ok(Some(tag))
    }

    /// What a name stands for, if it is no list.
    fn not_a_list(&self, name: &str) -> Result<Option<Tag>, Error> {
        let tag = self.tag_of(name)?;
        if let Some(tag) = &tag
            && self.list(&tag.image)?.is_some()
        {
            return Err(Error::Conflict(format!(
                "{name} is the name of a manifest list: remove that first (kelp manifest rm {name})"
            )));
        }
        Ok(tag)
    }

    /// Refuses to take a name from another image.
    fn refuse_had(&self, tag: &Tag, id: &Digest) -> Result<(), Error> {
        if tag.image == *id || self.record(&tag.image)?.is_none() {
            return Ok(());
        }
        Err(Error::Conflict(format!(
            "{} is the name of image {} already: remove or rename that first",
            tag.reference,
            tag.image.short()
        )))
    }

    /// All images with their names, the newest first.
    pub fn images(&self) -> Result<Vec<Image>, Error> {
        let mut names: BTreeMap<Digest, Vec<String>> = BTreeMap::new();
        for tag in self.all_tags()? {
            names.entry(tag.image).or_default().push(tag.reference);
        }
        let mut images: Vec<Image> = self
            .records()?
            .into_iter()
            .map(|record| Image {
                names: names.remove(&record.id).unwrap_or_default(),
                record,
            })
            .collect();
        images.extend(self.lists_as_images(&mut names)?);
        images.sort_by(|one, other| other.record.created.cmp(&one.record.created));
        Ok(images)
    }

    /// The names of an image, in order.
    pub fn names(&self, id: &Digest) -> Result<Vec<String>, Error> {
        Ok(self
            .all_tags()?
            .into_iter()
            .filter(|tag| tag.image == *id)
            .map(|tag| tag.reference)
            .collect())
    }

    /// The record of an image by its id.
    pub fn record(&self, id: &Digest) -> Result<Option<ImageRecord>, Error> {
        match read_record(&self.data, id)? {
            Some(record) => Ok(Some(record)),
            None => self.record_below(id),
        }
    }

    /// An image's extracted layers, the topmost first, as overlayfs takes them. A layer whose own
    /// root is opaque is the last: overlayfs looks at the mark of directories below the root only.
    pub fn layer_paths(&self, record: &ImageRecord, map_key: &str) -> Result<Vec<PathBuf>, Error> {
        let layers = LayerStore::beneath(&self.data, map_key)?;
        let mut paths = Vec::with_capacity(record.layers.len());
        for layer in record.layers.iter().rev() {
            let own = || layers.path(&layer.diff_id);
            let path = if self.below.is_empty() {
                own()
            } else {
                self.layer_place(&layers, &layer.diff_id)
                    .unwrap_or_else(own)
            };
            let last = unpack::is_opaque(&path);
            paths.push(path);
            if last {
                break;
            }
        }
        Ok(paths)
    }

    /// The layers of an image that are not extracted for this map.
    pub fn missing_layers<'a>(
        &self,
        record: &'a ImageRecord,
        map_key: &str,
    ) -> Result<Vec<&'a LayerRecord>, Error> {
        let layers = LayerStore::beneath(&self.data, map_key)?;
        let mut missing: Vec<&LayerRecord> = Vec::new();
        for layer in &record.layers {
            let known = missing.iter().any(|other| other.diff_id == layer.diff_id);
            if !known && self.layer_place(&layers, &layer.diff_id).is_none() {
                missing.push(layer);
            }
        }
        Ok(missing)
    }

    /// Extracts an image's missing layers from their blobs, for the map of `unpacker`.
    pub fn extract_missing(
        &self,
        record: &ImageRecord,
        map_key: &str,
        unpacker: &dyn Unpacker,
    ) -> Result<(), Error> {
        let missing = self.missing_layers(record, map_key)?;
        for layers in missing.chunks(EXTRACTIONS) {
            let mut jobs = Vec::new();
            for layer in layers {
                let blob = self.blobs.reader(&layer.digest)?;
                jobs.push((layer, unpacker.start(&layer.diff_id, blob.into())?));
            }
            for (layer, mut job) in jobs {
                let unpacked = match job.finish() {
                    Ok(unpacked) => unpacked,
                    Err(error) => return Err(self.blame(layer, error)),
                };
                let what = format!("layer {}", layer.digest);
                if let Err(mismatch) = layer.diff_id.is(&what, unpacked.diff_id) {
                    return Err(self.blame(layer, mismatch));
                }
                job.publish()?;
            }
        }
        Ok(())
    }

    /// Why a stored layer could not be extracted: if the disk no longer has what was downloaded, that.
    fn blame(&self, layer: &LayerRecord, error: Error) -> Error {
        match self.blobs.keep_whole(&layer.digest) {
            Ok(false) => Error::Invalid(format!(
                "the stored layer {} is damaged and was dropped: pull the image again",
                layer.digest
            )),
            _ => error,
        }
    }

    /// An image's config.
    pub fn config(&self, record: &ImageRecord) -> Result<ImageConfiguration, Error> {
        self.config_blob(&record.id)
    }

    /// The manifest of an image or an artifact.
    pub fn manifest(&self, digest: &Digest) -> Result<ImageManifest, Error> {
        self.document(digest, "manifest")
    }

    /// A small JSON blob; `kind` is for the error.
    fn document<T: DeserializeOwned>(&self, digest: &Digest, kind: &str) -> Result<T, Error> {
        let bytes = self.blobs.read(digest, DOCUMENT_LIMIT)?;
        serde_json::from_slice(&bytes).map_err(Error::json(format!("read {kind} {digest}")))
    }

    /// An image's config, and its text, which may say more than the specification knows.
    pub fn config_and_text(
        &self,
        record: &ImageRecord,
    ) -> Result<(ImageConfiguration, Vec<u8>), Error> {
        self.config_blob_and_text(&record.id)
    }

    fn config_blob(&self, digest: &Digest) -> Result<ImageConfiguration, Error> {
        self.config_blob_and_text(digest).map(|(config, _)| config)
    }

    fn config_blob_and_text(
        &self,
        digest: &Digest,
    ) -> Result<(ImageConfiguration, Vec<u8>), Error> {
        let bytes = self.blobs.read(digest, DOCUMENT_LIMIT)?;
        let config = serde_json::from_slice(&bytes)
            .map_err(Error::json(format!("read image config {digest}")))?;
        Ok((config, bytes))
    }

    fn record_path(&self, id: &Digest) -> PathBuf {
        record_path(&self.data, id)
    }

    pub(crate) fn records(&self) -> Result<Vec<ImageRecord>, Error> {
        let mut records = Vec::new();
        for id in self.ids()? {
            // One that went meanwhile is not there.
            records.extend(self.record(&id)?);
        }
        Ok(records)
    }

    /// The bytes of an image's layers, the lowest first: extracted where that is known, else as they came.
    pub fn layer_sizes(&self, record: &ImageRecord) -> Vec<u64> {
        let stores: Vec<LayerStore> = self.maps().unwrap_or_default();
        let size = |layer: &LayerRecord| {
            stores
                .iter()
                .find_map(|store| store.info(&layer.diff_id).ok()?)
                .map_or(layer.size, |info| info.size)
        };
        record.layers.iter().map(size).collect()
    }

    /// The layers of every map that there are some of.
    pub fn maps(&self) -> Result<Vec<LayerStore>, Error> {
        let directory = self.data.join("layers");
        let failed = |error| Error::io(format!("read {}", directory.display()))(error);
        let mut stores = Vec::new();
        for entry in fs::read_dir(&directory).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let is_directory = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let name = entry.file_name();
            let key = name.to_str().filter(|_| is_directory);
            stores.extend(key.and_then(|key| LayerStore::beneath(&self.data, key).ok()));
        }
        stores.sort_by(|one, other| one.key().cmp(other.key()));
        Ok(stores)
    }
}

impl Images for Store {
    fn check_name(&self, reference: &Reference) -> Result<(), Error> {
        let name = reference.clone().or_latest().digest_over_tag();
        self.not_a_list(&name.to_string()).map(drop)
    }

    fn find(&self, reference: &Reference) -> Result<Option<LocalImage>, Error> {
        Ok(self.image_named(reference)?.map(|record| LocalImage {
            platform: record.platform(),
            id: record.id,
        }))
    }

    fn is_current(
        &self,
        image: &LocalImage,
        digest: &Digest,
        platform: &Platform,
    ) -> Result<bool, Error> {
        let Some(record) = self.whole(&image.id)? else {
            return Ok(false);
        };
        if *digest == record.manifest {
            return Ok(true);
        }
        if !record.indexes.contains(digest) {
            return Ok(false);
        }
        // The index may have another image for this platform than the one that is here.
        let index: ImageIndex = self.document(digest, "index")?;
        let chosen = crate::fetch::choose(&index, platform, "the index");
        Ok(chosen.is_ok_and(|chosen| {
            Digest::try_from(chosen.digest()).is_ok_and(|chosen| chosen == record.manifest)
        }))
    }

    fn layers(&self) -> Result<HashSet<(Digest, Digest)>, Error> {
        let layers = self.records()?.into_iter().flat_map(|record| record.layers);
        Ok(layers.map(|layer| (layer.digest, layer.diff_id)).collect())
    }

    fn record(&self, image: &PulledImage) -> Result<(), Error> {
        let known_by = |digest: &Digest| image.reference.with_digest(digest.clone()).to_string();
        let digests = image.index.iter().chain([&image.manifest]);
        let record = self.add(&NewImage {
            manifest: &image.manifest,
            index: image.index.as_ref(),
            repo_digests: digests.map(known_by).collect(),
            made_here: false,
            names: &[image.reference.clone().or_latest().digest_over_tag()],
            retag: Retag::Move,
        })?;
        debug_assert_eq!(record.id, image.id);
        Ok(())
    }
}

fn record_path(data: &Path, id: &Digest) -> PathBuf {
    data.join("images").join(format!("{}.json", id.hex()))
}

fn read_record(data: &Path, id: &Digest) -> Result<Option<ImageRecord>, Error> {
    read_document(&record_path(data, id))
}

/// Reads a small JSON file, if it is there.
fn read_document<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text)
            .map(Some)
            .map_err(Error::json(format!("read {}", path.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(format!("read {}", path.display()))(error)),
    }
}

/// The ids of the images that a data directory has.
fn ids_in(data: &Path) -> Result<Vec<Digest>, Error> {
    digests_in(&data.join("images"))
}

/// The digests by which the records of a directory are called.
fn digests_in(directory: &Path) -> Result<Vec<Digest>, Error> {
    let failed = |error| Error::io(format!("read {}", directory.display()))(error);
    let mut digests = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let name = entry.map_err(failed)?.file_name();
        let hex = name.to_str().and_then(|name| name.strip_suffix(".json"));
        digests.extend(hex.and_then(Digest::from_hex));
    }
    Ok(digests)
}

/// The same of a directory that need not be there.
fn digests_if_any(directory: &Path) -> Result<Vec<Digest>, Error> {
    match digests_in(directory) {
        Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read,
    }
}

fn no_image(id: &Digest) -> Error {
    Error::NotFound(id.to_string())
}

/// Replaces a small JSON file, so that it is the old one or the new one also after a power cut.
fn write_document<T: Serialize>(data: &Path, path: &Path, value: &T) -> Result<(), Error> {
    let text =
        serde_json::to_vec(value).map_err(Error::json(format!("write {}", path.display())))?;
    TemporaryFile::create(&data.join("tmp"), "record")?.replace(&text, path)
}

/// Makes removals from a directory outlive a power cut. On a full disk, where that may fail, they count
/// without.
fn sync_removal(path: &Path) -> Result<(), Error> {
    match sync_directory(path) {
        Err(error) if space::is_full(&error) => Ok(()),
        synced => synced,
    }
}

#[cfg(test)]
mod tests;
