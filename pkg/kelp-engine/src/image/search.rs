//! `search`: images of registries.

use kelp_image::reference::ImageName;
pub use kelp_image::search::{Found, Results};

use crate::image::registry::AccessRequest;
use crate::{Engine, Error};

impl Engine {
    /// Images whose name or description fits a term, at most `limit` of each registry.
    pub fn search_images(
        &self,
        term: &str,
        limit: usize,
        request: &AccessRequest,
    ) -> Result<Results, Error> {
        Ok(kelp_image::search::search(
            term,
            limit,
            &request.options()?,
        )?)
    }

    /// The full name of a repository and its tags, at most `limit`.
    pub fn remote_tags(
        &self,
        name: &str,
        limit: usize,
        request: &AccessRequest,
    ) -> Result<(String, Vec<String>), Error> {
        let reference = match ImageName::parse(name).map_err(kelp_image::Error::from)? {
            ImageName::Full(reference) => reference,
            ImageName::Short(_) => {
                return Err(Error::invalid(format!(
                    "reference {name:?} must be a fully qualified name: put a registry before it"
                )));
            }
        };
        let tags = kelp_image::search::tags(&reference, limit, &request.options()?)?;
        Ok((reference.name(), tags))
    }
}
