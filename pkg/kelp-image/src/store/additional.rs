//! Read-only stores beneath the user's own: a directory of the same layout on a shared file system, or one
//! that a distribution ships.
//!
//! What the user's own store lacks is looked for in them, in their order: records, names, blobs to read,
//! and extracted layers, if those are for the same ids. They are never written to, locked or collected,
//! and one that is not there is empty. A layer that is missing for a map is made in the user's own store,
//! from the blob beneath; it stays there as long as the image does.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{ImageRecord, Store, Tag, Tags, ids_in, read_record, record_path};
use crate::Error;
use crate::digest::Digest;
use crate::layer::LayerStore;

/// A read-only store.
#[derive(Clone, Debug)]
pub(super) struct Below {
    data: PathBuf,
    tags: Tags,
}

impl Store {
    /// The same store, with read-only ones beneath it.
    #[must_use]
    pub fn over(mut self, roots: &[PathBuf]) -> Self {
        let roots: Arc<[PathBuf]> = roots
            .iter()
            .filter(|root| **root != self.data)
            .cloned()
            .collect();
        self.below = roots
            .iter()
            .map(|root| Below {
                data: root.clone(),
                tags: Tags::new(root),
            })
            .collect();
        self.blobs = self.blobs.over(roots);
        self
    }

    /// The read-only store that an image is in, if the user's own has it not.
    pub fn read_only(&self, id: &Digest) -> Option<&Path> {
        if self.below.is_empty() || record_path(&self.data, id).exists() {
            return None;
        }
        let below = self.below.iter();
        let mut having = below.filter(|below| record_path(&below.data, id).exists());
        having.next().map(|below| below.data.as_path())
    }

    /// Refuses to change what is in a read-only store alone.
    pub(super) fn check_own(&self, id: &Digest) -> Result<(), Error> {
        match self.read_only(id) {
            None => Ok(()),
            Some(root) => Err(Error::Conflict(format!(
                "image {} can't be removed: it is in the read-only store {}",
                id.short(),
                root.display()
            ))),
        }
    }

    pub(super) fn record_below(&self, id: &Digest) -> Result<Option<ImageRecord>, Error> {
        for below in self.below.iter() {
            if let Some(record) = read_record(&below.data, id)? {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// The ids of all images, the user's own first.
    pub(super) fn ids(&self) -> Result<Vec<Digest>, Error> {
        let mut ids = ids_in(&self.data)?;
        for below in self.below.iter() {
            let more = ids_in(&below.data);
            let more = if is_absent(&more) { Vec::new() } else { more? };
            let known: BTreeSet<_> = ids.iter().cloned().collect();
            ids.extend(more.into_iter().filter(|id| !known.contains(id)));
        }
        Ok(ids)
    }

    /// What a name stands for: the user's own names count first.
    pub(super) fn tag_of(&self, name: &str) -> Result<Option<Tag>, Error> {
        if let Some(tag) = self.tags.get(name)? {
            return Ok(Some(tag));
        }
        for below in self.below.iter() {
            if let Some(tag) = below.tags.get(name)? {
                return Ok(Some(tag));
            }
        }
        Ok(None)
    }

    /// Every name, in order.
    pub(super) fn all_tags(&self) -> Result<Vec<Tag>, Error> {
        let mut tags = self.tags.list()?;
        for below in self.below.iter() {
            let more = below.tags.list();
            let more = if is_absent(&more) { Vec::new() } else { more? };
            let known: BTreeSet<_> = tags.iter().map(|tag| tag.reference.clone()).collect();
            tags.extend(
                more.into_iter()
                    .filter(|tag| !known.contains(&tag.reference)),
            );
        }
        if !self.below.is_empty() {
            tags.sort_unstable_by(|one, other| one.reference.cmp(&other.reference));
        }
        Ok(tags)
    }

    /// Where a layer is, if it is extracted: in the user's own store, or in one beneath it, where the ids
    /// of its files are the same.
    pub(super) fn layer_place(&self, own: &LayerStore, diff_id: &Digest) -> Option<PathBuf> {
        if self.below.is_empty() || own.contains(diff_id) {
            return own.contains(diff_id).then(|| own.path(diff_id));
        }
        let uid = rustix::process::getuid().as_raw();
        self.below
            .iter()
            .filter_map(|below| LayerStore::beneath(&below.data, own.key()).ok())
            .map(|layers| layers.path(diff_id))
            .find(|path| {
                // The key of a map tells its ids, but for that of a single one.
                fs::symlink_metadata(path).is_ok_and(|found| {
                    found.is_dir() && (own.key() != "single" || found.uid() == uid)
                })
            })
    }
}

/// Whether a store is not there, as when nothing is mounted in its place.
fn is_absent<T>(result: &Result<T, Error>) -> bool {
    matches!(result, Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound)
}
