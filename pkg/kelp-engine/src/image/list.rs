//! What images are here.

use std::path::PathBuf;

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

    /// What an image's config says of health checks, which only docker's format has.
    pub fn image_health_check(&self, image: &Image) -> Result<Option<Value>, Error> {
        let bytes = self
            .store()?
            .blobs()
            .read(&image.record.id, DOCUMENT_LIMIT)?;
        // Read before for the other fields: it is JSON.
        let config: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        Ok(config.pointer("/config/Healthcheck").cloned())
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
