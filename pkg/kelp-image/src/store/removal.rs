//! Removing images.

use std::collections::HashSet;
use std::path::PathBuf;

use super::lock::leased;
use super::{ImageRecord, Store, StoreLock, read_record, sync_removal};
use crate::Error;
use crate::digest::Digest;

/// What a removal has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Removal {
    /// Names that are gone.
    pub untagged: Vec<String>,
    /// The image, if it is gone.
    pub deleted: Option<Digest>,
    /// Trees that have lost their names and are to be removed from disk, in a user namespace that
    /// maps the ids of their files: by [`crate::remove::remove_trees`] there. If that never happens
    /// they are garbage.
    pub trash: Vec<PathBuf>,
}

impl Store {
    /// Removes what a user wrote: a name, or an image by id.
    ///
    /// A name that is not the image's last one is only taken away. An image with several names is
    /// removed by its id only with `force`. `users` tells who uses an image, such as containers: then
    /// it stays, `force` or not, and the error names them.
    pub fn remove(
        &self,
        name: &str,
        force: bool,
        users: &dyn Fn(&Digest) -> Result<Vec<String>, Error>,
    ) -> Result<Removal, Error> {
        let _lock = StoreLock::exclusive(&self.data)?;
        let (record, meant) = match self.find_named(name)? {
            Some(found) => found,
            None => (self.find_by_id(name)?, None),
        };
        let names = self.own_names(&record.id)?;
        if let Some(meant) = meant
            && names.contains(&meant)
            && (names.len() > 1 || self.read_only(&record.id).is_some())
        {
            self.tags.remove(&meant)?;
            self.tags.sync()?;
            return Ok(Removal {
                untagged: vec![meant],
                ..Removal::default()
            });
        }
        self.check_own(&record.id)?;
        if names.len() > 1 && !force {
            return Err(Error::Conflict(format!(
                "image {} has several names, {}: remove it by a name, or with --force",
                record.id.short(),
                names.join(", ")
            )));
        }
        let users = users(&record.id)?;
        if !users.is_empty() {
            return Err(Error::Conflict(format!(
                "image {} is in use by {}",
                record.id.short(),
                users.join(", ")
            )));
        }
        self.delete(&record, names)
    }

    /// Removes an image that has no name, and with `all` one with names too, unless somebody uses it or
    /// a manifest list names it; or a list that has no name.
    ///
    /// Whether it has a name is looked at here: whoever listed it may have read the names before it
    /// was added, and the images after.
    pub fn prune(
        &self,
        id: &Digest,
        all: bool,
        users: &dyn Fn(&Digest) -> Result<Vec<String>, Error>,
    ) -> Result<Option<Removal>, Error> {
        let _lock = StoreLock::exclusive(&self.data)?;
        let Some(record) = read_record(&self.data, id)? else {
            return self.prune_list(id);
        };
        let names = self.own_names(id)?;
        if !(all || names.is_empty())
            || !users(id)?.is_empty()
            || self.listed_manifests(!all)?.contains(&record.manifest)
        {
            return Ok(None);
        }
        self.delete(&record, names).map(Some)
    }

    /// Names of an image that the user's own store has, in order.
    pub(super) fn own_names(&self, id: &Digest) -> Result<Vec<String>, Error> {
        let tags = self.tags.list()?.into_iter();
        let names = tags.filter(|tag| tag.image == *id).map(|tag| tag.reference);
        Ok(names.collect())
    }

    /// Removes names, record, blobs and layers. The caller holds the exclusive lock.
    fn delete(&self, record: &ImageRecord, names: Vec<String>) -> Result<Removal, Error> {
        for name in &names {
            self.tags.remove(name)?;
        }
        let path = self.record_path(&record.id);
        std::fs::remove_file(&path).map_err(Error::io(format!("remove {}", path.display())))?;
        if names.is_empty() {
            sync_removal(&self.data.join("images"))?;
        } else {
            self.settle_removal("images")?;
        }
        Ok(Removal {
            untagged: names,
            deleted: Some(record.id.clone()),
            trash: self.discard_unneeded(record.references())?,
        })
    }

    /// Makes the removal of names, and of records in a directory, outlive a power cut. That comes before what
    /// they refer to goes: so no power cut, on no file system, leaves an image without its blobs.
    pub(super) fn settle_removal(&self, directory: &str) -> Result<(), Error> {
        self.tags.sync()?;
        sync_removal(&self.data.join(directory))
    }

    /// Takes the names of blobs and layers away that nothing refers to. The caller holds the exclusive
    /// lock.
    pub(super) fn discard_unneeded<'a>(
        &self,
        digests: impl Iterator<Item = &'a Digest>,
    ) -> Result<Vec<PathBuf>, Error> {
        let kept = self.referenced()?;
        let unneeded: Vec<_> = digests.filter(|digest| !kept.contains(*digest)).collect();
        let mut trash = Vec::new();
        // Blobs first: where nothing can be written they go at once, and then there is space for the rest.
        for digest in &unneeded {
            trash.extend(self.blobs.discard(digest)?);
        }
        for layers in self.maps()? {
            for digest in &unneeded {
                trash.extend(layers.discard(digest)?);
            }
        }
        Ok(trash)
    }

    /// Takes blobs away that were brought for a while, unless something refers to them by now.
    pub fn discard(&self, digests: &[Digest]) -> Result<Vec<PathBuf>, Error> {
        let _lock = StoreLock::exclusive(&self.data)?;
        self.discard_unneeded(digests.iter())
    }

    /// Every digest that an image, an artifact or an addition needs. The caller holds the exclusive lock.
    pub(super) fn referenced(&self) -> Result<HashSet<Digest>, Error> {
        let mut digests = HashSet::new();
        for record in self.records()? {
            digests.extend(record.references().cloned());
        }
        self.listed(&mut digests)?;
        self.needed_by_artifacts(&mut digests)?;
        // Last as well: a lease may have a manifest without what else a list needs of that image.
        digests.extend(leased(&self.data)?);
        Ok(digests)
    }
}
