//! Whether what the store has is what it should be, and mending what can be.
//!
//! Nothing here walks a layer ([`crate::verify`] does), and nothing holds the lock for longer than a
//! rename. What is looked at is kept by the caller's lease.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::{ImageRecord, ListRecord, Store, StoreLock, Tag, ids_in, read_record, write_document};
use crate::Error;
use crate::blob::DOCUMENT_LIMIT;
use crate::digest::Digest;
use crate::reference::Reference;
use crate::role::one_line;

/// A record, or why it can't be read.
pub type ReadRecord = (Digest, Result<ImageRecord, Error>);

/// A name that is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadName {
    /// Its file.
    pub path: PathBuf,
    /// The name, or that of the file where it can't be read.
    pub name: String,
    /// What is wrong with it, as the rest of a sentence.
    pub what: String,
}

/// Something that no image and no artifact refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreferenced {
    /// A blob.
    Blob(Digest),
    /// A layer of a map.
    Layer(String, Digest),
}

impl Store {
    /// Every image's record, as far as it can be read, of the user's own store.
    pub fn read_records(&self) -> Result<Vec<ReadRecord>, Error> {
        let mut records = Vec::new();
        for id in ids_in(&self.data)? {
            match read_record(&self.data, &id) {
                // One that went meanwhile is not there.
                Ok(None) => {}
                Ok(Some(record)) => records.push((id, Ok(record))),
                Err(error) => records.push((id, Err(error))),
            }
        }
        records.sort_by(|one, other| one.0.cmp(&other.0));
        Ok(records)
    }

    /// What is wrong with a blob, as the rest of a sentence. `deep` reads all of it, or else its size is
    /// compared with what a manifest says.
    pub fn check_blob(
        &self,
        digest: &Digest,
        size: Option<u64>,
        deep: bool,
    ) -> Result<Option<String>, Error> {
        let Some(found) = self.blobs.size(digest)? else {
            return Ok(Some("is missing".to_owned()));
        };
        if !self.blobs.path(digest).is_file() {
            return Ok(Some("is no file".to_owned()));
        }
        if deep {
            return Ok(match self.blobs.is_whole(digest) {
                Ok(true) => None,
                Ok(false) => Some("has other content than its digest says".to_owned()),
                Err(error) => Some(format!("can't be read: {}", one_line(&error))),
            });
        }
        let wrong = size.filter(|&size| size != found);
        Ok(wrong.map(|size| format!("has {found} bytes instead of {size}")))
    }

    /// Whether a record says what the image's documents say, which are whole.
    pub fn check_record(&self, record: &ImageRecord) -> Result<bool, Error> {
        let mut fresh = self.record_of(&record.manifest)?;
        fresh.repo_digests.clone_from(&record.repo_digests);
        fresh.indexes.clone_from(&record.indexes);
        fresh.size = record.size;
        fresh.made_here = record.made_here;
        Ok(fresh == *record)
    }

    fn record_of(&self, manifest: &Digest) -> Result<ImageRecord, Error> {
        let document = self.manifest(manifest)?;
        let config = self.config_blob(&document.config().digest().try_into()?)?;
        ImageRecord::from_documents(manifest, &document, &config)
    }

    /// Writes an image's record again, from its documents; false if they are not here.
    ///
    /// Which manifest is the image's is known from the record if it can be read, else from its names,
    /// else one is looked for that has this config.
    pub fn rebuild_record(&self, id: &Digest) -> Result<bool, Error> {
        let old = read_record(&self.data, id).ok().flatten();
        let named = self.tags.list()?.into_iter();
        let named = named.filter(|tag| tag.image == *id).map(|tag| tag.manifest);
        let likely: Vec<_> = old
            .iter()
            .map(|record| record.manifest.clone())
            .chain(named)
            .collect();
        let is_its = |manifest: &Digest| {
            self.record_of(manifest)
                .is_ok_and(|record| record.id == *id)
        };
        let manifest = match likely.into_iter().find(is_its) {
            Some(manifest) => Some(manifest),
            None => self
                .blobs
                .list()?
                .into_iter()
                .filter(|(_, size)| *size < DOCUMENT_LIMIT)
                .map(|(digest, _)| digest)
                .find(is_its),
        };
        let Some(manifest) = manifest else {
            return Ok(false);
        };
        let mut record = self.record_of(&manifest)?;
        match old {
            Some(old) => {
                record.merge(&old);
                record.made_here = old.made_here;
            }
            None => record.repo_digests = self.repo_digests(id, &manifest)?,
        }
        record.size = self.layer_sizes(&record).iter().sum();
        let _lock = StoreLock::exclusive(&self.data)?;
        let path = self.record_path(id);
        if path.is_dir() {
            discard(&path)?;
        }
        write_document(&self.data, &path, &record)?;
        Ok(true)
    }

    /// What registries know an image by, as far as its names tell.
    fn repo_digests(&self, id: &Digest, manifest: &Digest) -> Result<Vec<String>, Error> {
        let names = self.tags.list()?.into_iter().filter(|tag| tag.image == *id);
        let mut known: Vec<_> = names
            .filter_map(|tag| Reference::parse(&tag.reference).ok())
            .filter(|name| name.registry() != "localhost")
            .map(|name| name.with_digest(manifest.clone()).to_string())
            .collect();
        known.dedup();
        Ok(known)
    }

    /// Removes a record that can't be read or mended. Its blobs are garbage then.
    pub fn remove_record(&self, id: &Digest) -> Result<(), Error> {
        let _lock = StoreLock::exclusive(&self.data)?;
        discard(&self.record_path(id))
    }

    /// Takes a damaged blob away, so that the next pull downloads it; what is to be deleted.
    pub fn drop_blob(&self, digest: &Digest) -> Result<Option<PathBuf>, Error> {
        let _lock = StoreLock::exclusive(&self.data)?;
        self.blobs.discard(digest)
    }

    /// Names that stand for no image and no artifact, or are not what their file is called, and records of
    /// manifest lists that can't be read.
    pub fn check_names(&self) -> Result<Vec<BadName>, Error> {
        let mut bad = Vec::new();
        for directory in ["tags", "lists", "artifacts/names"].map(|name| self.data.join(name)) {
            let failed = |error| Error::io(format!("read {}", directory.display()))(error);
            let entries = match fs::read_dir(&directory) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                entries => entries.map_err(failed)?,
            };
            for entry in entries {
                let path = entry.map_err(failed)?.path();
                if let Some((name, what)) = self.check_name(&path) {
                    bad.push(BadName { path, name, what });
                }
            }
        }
        bad.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(bad)
    }

    fn check_name(&self, path: &Path) -> Option<(String, String)> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            Err(error) => {
                let what = format!("can't be read: {}", error.kind());
                return Some((name.into_owned(), what));
            }
        };
        if path.parent() == Some(&self.data.join("lists")) {
            let is_list = serde_json::from_slice::<ListRecord>(&text)
                .is_ok_and(|list| self.list_path(&list.id) == path);
            let what = || "can't be read: it is no manifest list".to_owned();
            return (!is_list).then(|| (name.into_owned(), what()));
        }
        let Ok(tag) = serde_json::from_slice::<Tag>(&text) else {
            return Some((name.into_owned(), "can't be read: it is no name".to_owned()));
        };
        let of_artifact = path.parent() == Some(&self.artifact_names_directory());
        let names = if of_artifact {
            &self.artifact_names()
        } else {
            &self.tags
        };
        if names.path(&tag.reference) != path {
            let what = format!("is kept as {name}, where it is not found");
            return Some((tag.reference, what));
        }
        if of_artifact {
            let is_here = self.artifact_path(&tag.manifest).exists();
            let what = || {
                format!(
                    "stands for artifact {}, which is not here",
                    tag.manifest.short()
                )
            };
            return (!is_here).then(|| (tag.reference.clone(), what()));
        }
        // A record that can't be read is damage of its own.
        let is_list = || self.list(&tag.image).map_or(true, |list| list.is_some());
        let is_here = self.has_record(&tag.image) || is_list();
        let what = || format!("stands for image {}, which is not here", tag.image.short());
        (!is_here).then(|| (tag.reference.clone(), what()))
    }

    /// Whether an image is here, also if its record can't be read.
    pub fn has_record(&self, id: &Digest) -> bool {
        self.record_path(id).exists() || self.read_only(id).is_some()
    }

    /// The images of read-only stores, as far as their records can be read.
    pub fn read_only_images(&self) -> Result<Vec<ImageRecord>, Error> {
        let ids = self.ids()?.into_iter();
        let below = ids.filter(|id| self.read_only(id).is_some());
        Ok(below
            .filter_map(|id| self.record_below(&id).ok().flatten())
            .collect())
    }

    /// Removes a name that is none.
    pub fn forget_name(&self, bad: &BadName) -> Result<(), Error> {
        let _lock = StoreLock::exclusive(&self.data)?;
        // It may have been given to an image meanwhile.
        if self.check_name(&bad.path).is_none() {
            return Ok(());
        }
        discard(&bad.path)
    }

    /// Blobs and layers that no image, no artifact and no addition refers to and that are older than this.
    pub fn unreferenced(&self, age: Duration) -> Result<Vec<Unreferenced>, Error> {
        let kept: HashSet<Digest> = {
            let _lock = StoreLock::exclusive(&self.data)?;
            self.referenced()?
        };
        let now = SystemTime::now();
        let is_old = |path: &Path| {
            let changed = fs::symlink_metadata(path).map(|found| {
                let since = Duration::from_secs(u64::try_from(found.ctime()).unwrap_or(0));
                SystemTime::UNIX_EPOCH + since
            });
            changed.is_ok_and(|changed| now.duration_since(changed).unwrap_or_default() >= age)
        };
        let mut found = Vec::new();
        for (digest, _) in self.blobs.list()? {
            if !kept.contains(&digest) && is_old(&self.blobs.path(&digest)) {
                found.push(Unreferenced::Blob(digest));
            }
        }
        for layers in self.maps()? {
            for diff_id in layers.list()? {
                if !kept.contains(&diff_id) && is_old(&layers.path(&diff_id)) {
                    found.push(Unreferenced::Layer(layers.key().to_owned(), diff_id));
                }
            }
        }
        Ok(found)
    }
}

/// Removes a small file, or whatever else has its name.
pub(super) fn discard(path: &Path) -> Result<(), Error> {
    crate::remove::remove_tree(path).map(drop)
}
