//! What images are here.

pub use kelp_image::store::Image;
use oci_spec::image::ImageConfiguration;

use crate::{Engine, Error, Kind};

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

    /// An image's config.
    pub fn image_config(&self, image: &Image) -> Result<ImageConfiguration, Error> {
        Ok(self.store()?.config(&image.record)?)
    }
}
