//! The image that a container was made of, kept for as long as its successor is not known to work.

use std::sync::Arc;

use kelp_image::reference::Reference;
use kelp_image::store::{ImageRecord, Lease, NewImage, Retag, Store};

use crate::Error;

/// An image, and the name that it gets back if need be.
#[derive(Debug)]
pub(super) struct Pin {
    /// The name.
    pub(super) name: Reference,
    /// The image.
    pub(super) image: ImageRecord,
    /// No prune takes its blobs and layers meanwhile.
    _lease: Arc<Lease>,
}

impl Pin {
    /// Keeps an image that is here.
    pub(super) fn new(store: &Store, name: Reference, image: ImageRecord) -> Result<Self, Error> {
        let (lease, _) = store.lease()?;
        for digest in image.references() {
            lease.keep(digest)?;
        }
        Ok(Self {
            name,
            image,
            _lease: lease,
        })
    }

    /// Makes the name stand for the image again. A prune may have taken the record of one without a name: all that
    /// it was of is here.
    pub(super) fn restore(&self, store: &Store) -> Result<(), Error> {
        match store.tag(&self.image.id, &self.name, Retag::Move) {
            Err(kelp_image::Error::NotFound(_)) => {
                store.add(&NewImage {
                    manifest: &self.image.manifest,
                    index: self.image.indexes.first(),
                    repo_digests: self.image.repo_digests.clone(),
                    made_here: self.image.made_here,
                    names: std::slice::from_ref(&self.name),
                    retag: Retag::Move,
                })?;
                Ok(())
            }
            tagged => Ok(tagged.map(drop)?),
        }
    }
}
