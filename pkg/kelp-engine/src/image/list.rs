//! What images are here.

use std::collections::BTreeSet;
use std::path::PathBuf;

use kelp_image::Digest;
use kelp_image::blob::DOCUMENT_LIMIT;
pub use kelp_image::store::Image;
use oci_spec::image::ImageConfiguration;
use serde_json::Value;

use crate::container::config::UserMode;
use crate::{Engine, Error, Kind, host};

impl Engine {
    /// Every image, the newest first.
    pub fn images(&self) -> Result<Vec<Image>, Error> {
        Ok(self.store()?.images()?)
    }

    /// Those of some images that are in a read-only store, by id.
    pub fn read_only_images(&self, images: &[Image]) -> Result<BTreeSet<String>, Error> {
        let store = self.store()?;
        let ids = images.iter().map(|image| &image.record.id);
        let read_only = ids.filter(|id| store.read_only(id).is_some());
        Ok(read_only.map(|id| id.hex().to_owned()).collect())
    }

    /// One image, by name or id.
    pub fn image(&self, name: &str) -> Result<Image, Error> {
        let store = self.store()?;
        let record = store.find(name)?;
        Ok(Image {
            names: store.names(&record.id)?,
            record,
        })
    }

    /// Whether an image is here.
    pub fn image_exists(&self, name: &str) -> Result<bool, Error> {
        if self.list_exists(name)? {
            return Ok(true);
        }
        match self.store()?.find(name) {
            Ok(_) => Ok(true),
            Err(error) => {
                let error = Error::from(error);
                if error.kind() == Kind::NotFound {
                    Ok(false)
                } else {
                    Err(error)
                }
            }
        }
    }

    /// An image's config as it is: docker's format has more than the specification.
    pub fn image_document(&self, image: &Image) -> Result<Value, Error> {
        self.image_json(&image.record.id)
    }

    /// What an image's manifest says beside its parts.
    pub fn image_annotations(&self, image: &Image) -> Result<Value, Error> {
        let manifest = self.image_json(&image.record.manifest)?;
        Ok(manifest.get("annotations").cloned().unwrap_or_default())
    }

    fn image_json(&self, digest: &Digest) -> Result<Value, Error> {
        let bytes = self.store()?.blobs().read(digest, DOCUMENT_LIMIT)?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Error::new(Kind::Failed, format!("read {digest}: {error}")))
    }

    /// The directories of an image's layers for the usual id map, topmost first; none where they are
    /// not extracted.
    pub fn image_directories(&self, image: &Image) -> Result<Vec<PathBuf>, Error> {
        let store = self.store()?;
        let key = host::id_map(&UserMode::Host)?.key();
        if !store.missing_layers(&image.record, &key)?.is_empty() {
            return Ok(Vec::new());
        }
        Ok(store.layer_paths(&image.record, &key)?)
    }

    /// An image's config.
    pub fn image_config(&self, image: &Image) -> Result<ImageConfiguration, Error> {
        Ok(self.store()?.config(&image.record)?)
    }
}
