//! Images that are made here, from a container or an archive.
//!
//! Everything that the record will refer to is leased first and written next; the new layer is extracted
//! for the usual map at once, which also shows that its archive is whole; the record comes last. What a
//! kill leaves in between is blobs and layers without a record, which the next prune takes.

use std::sync::Arc;

use kelp_image::blob::BlobStore;
pub use kelp_image::compose::ManifestForm;
use kelp_image::compose::compose;
use kelp_image::ingest::LayerBlob;
use kelp_image::reference::Reference;
use kelp_image::store::{ImageRecord, Lease, NewImage, Retag, Store};
use kelp_image::unpacker::Unpacker;

use crate::container::config::UserMode;
use crate::image::draft::Draft;
use crate::{Engine, Error, Kind, host};

/// An image that is being made.
pub(crate) struct Making {
    store: Store,
    lease: Arc<Lease>,
    pub(crate) blobs: BlobStore,
}

impl Engine {
    /// Begins to make an image.
    pub(crate) fn make_image(&self) -> Result<Making, Error> {
        let store = self.store()?;
        self.prepare_space(&store)?;
        let (lease, blobs) = store.lease()?;
        Ok(Making {
            store,
            lease,
            blobs,
        })
    }

    /// Extracts a new layer for the usual map.
    pub(crate) fn extract_new(&self, making: &Making, layer: &LayerBlob) -> Result<(), Error> {
        let map = host::id_map(&UserMode::Host)?;
        self.with_unpacker(&making.store, &map, |unpacker, _| {
            let unpacker = unpacker.leased(making.lease.clone());
            if unpacker.has_layer(&layer.diff_id)? {
                return Ok(());
            }
            let blob = making.blobs.reader(&layer.digest)?;
            let mut job = unpacker.start(&layer.diff_id, blob.into())?;
            job.finish()?;
            Ok(job.publish()?)
        })
    }
}

impl Making {
    /// An image that the new one is made from, which stays meanwhile.
    pub(crate) fn base(&self, id: &str) -> Result<ImageRecord, Error> {
        let gone = |_| {
            Error::new(
                Kind::NotFound,
                format!("image {id}, which it is made from, is no longer here"),
            )
        };
        let record = self.store.find(id).map_err(gone)?;
        for digest in record.references() {
            self.lease.keep(digest)?;
        }
        // A removal that was before the lease has taken the record first.
        let record = self.store.find(id).map_err(gone)?;
        for layer in &record.layers {
            self.blobs.bring_up(&layer.digest)?;
        }
        Ok(record)
    }

    /// An image's config as it is.
    pub(crate) fn config(&self, record: &ImageRecord) -> Result<Vec<u8>, Error> {
        let limit = kelp_image::blob::DOCUMENT_LIMIT;
        Ok(self.blobs.read(&record.id, limit)?)
    }

    /// Writes the documents and the record, and gives the image its name, which it takes from any other.
    pub(crate) fn finish(
        self,
        draft: Draft,
        layers: &[LayerBlob],
        documents: ManifestForm,
        name: Option<&Reference>,
    ) -> Result<ImageRecord, Error> {
        let manifest = compose(&self.blobs, draft.into_value(), layers, documents)?;
        let names: Vec<_> = name
            .map(|name| name.clone().or_latest())
            .into_iter()
            .collect();
        Ok(self.store.add(&NewImage {
            manifest: &manifest,
            index: None,
            repo_digests: Vec::new(),
            made_here: true,
            names: &names,
            retag: Retag::Move,
        })?)
    }
}
