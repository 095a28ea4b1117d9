//! `image referrers`: what refers to an image in its registry.

use std::collections::HashMap;

use kelp_image::reference::ImageName;

use crate::image::registry::AccessRequest;
use crate::{Engine, Error};

/// A manifest that names an image as its subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referrer {
    /// Its digest.
    pub digest: String,
    /// What it is: a signature, an attestation, a list of what the image is made of.
    pub artifact_type: String,
    /// The media type of the manifest.
    pub media_type: String,
    /// The size of the manifest in bytes.
    pub size: u64,
    /// What its maker says of it.
    pub annotations: HashMap<String, String>,
}

impl Engine {
    /// The manifests in an image's registry that refer to it.
    pub fn image_referrers(
        &self,
        name: &str,
        request: &AccessRequest,
    ) -> Result<Vec<Referrer>, Error> {
        let ImageName::Full(reference) = ImageName::parse(name).map_err(kelp_image::Error::from)?
        else {
            return Err(Error::invalid(format!(
                "{name} says no registry: put one before it"
            )));
        };
        let found = kelp_image::referrers::referrers(&reference, &request.options()?)?;
        let referrers = found.into_iter().map(|descriptor| Referrer {
            digest: descriptor.digest().to_string(),
            artifact_type: descriptor
                .artifact_type()
                .as_ref()
                .map(ToString::to_string)
                .unwrap_or_default(),
            media_type: descriptor.media_type().to_string(),
            size: descriptor.size(),
            annotations: descriptor.annotations().clone().unwrap_or_default(),
        });
        Ok(referrers.collect())
    }
}
