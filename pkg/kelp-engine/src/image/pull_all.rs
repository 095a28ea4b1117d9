//! `pull --all-platforms` and `--all-tags`: every image of an index, and of a repository.
//!
//! The name gets the image of the host's platform, as ever. The others have no name: that the index's
//! name stands for all of them is what keeps them, until it is taken away or means something else.

use kelp_image::Digest;
use kelp_image::index;
use kelp_image::platform::Platform;
use kelp_image::reference::{ImageName, Reference};
use kelp_image::transport::{self, Place};

use crate::image::load::{Origin, PulledImages};
use crate::image::pull::PullRequest;
use crate::{Engine, Error};

/// The most tags that are pulled at once.
const TAG_LIMIT: usize = 100_000;

impl Engine {
    /// A name for each tag of a repository.
    pub fn names_of_all_tags(
        &self,
        name: &str,
        request: &PullRequest,
    ) -> Result<Vec<String>, Error> {
        let said = |what: &str| Err(Error::invalid(format!("{name}: --all-tags is for {what}")));
        if transport::parse(name)?.is_some() {
            return said("repositories in registries");
        }
        let image_name = ImageName::parse(name).map_err(kelp_image::Error::from)?;
        if let ImageName::Full(full) = &image_name
            && (full.tag().is_some() || full.digest().is_some())
        {
            return said("a name without a tag");
        }
        let (repository, tags) = self.remote_tags(name, TAG_LIMIT, &request.access)?;
        let names = tags.iter().map(|tag| format!("{repository}:{tag}"));
        Ok(names.collect())
    }

    /// Brings all images of an index, from a registry or out of files.
    pub fn pull_all_platforms(
        &self,
        name: &str,
        request: &PullRequest,
    ) -> Result<PulledImages, Error> {
        if let Some(place) = transport::parse(name)? {
            return self.bring_all_platforms(&place, request);
        }
        let image_name = ImageName::parse(name).map_err(kelp_image::Error::from)?;
        let (reference, bytes) = index::document(&image_name, &request.access.options()?)?;
        let offered = index::platforms(&bytes)?;
        let Some((first, _)) = first(&offered) else {
            return self.pull_any(name, request);
        };
        let named = PullRequest {
            platform: Some(first.to_string()),
            ..request.clone()
        };
        let full = reference.to_string();
        let mut pulled = self.pull_any(&full, &named)?;
        let index = Digest::of(&bytes);
        let store = self.store()?;
        if !store.find(&full)?.indexes.contains(&index) {
            return Err(Error::conflict(format!(
                "{full} became another image meanwhile: pull it again"
            )));
        }
        store.hold_index(&reference, &index)?;
        for (platform, manifest) in &offered {
            if store.manifest_is_recorded(manifest)? {
                continue;
            }
            let other = reference.with_digest(manifest.clone());
            let request = PullRequest {
                platform: Some(platform.to_string()),
                ..request.clone()
            };
            pulled
                .ids
                .extend(self.pull_any(&other.to_string(), &request)?.ids);
            // The index's name keeps it.
            store.untag(&other)?;
        }
        Ok(pulled)
    }

    fn bring_all_platforms(
        &self,
        place: &Place,
        request: &PullRequest,
    ) -> Result<PulledImages, Error> {
        let store = self.store()?;
        let mut offered = transport::platforms(place, &self.paths.data)?;
        if offered.is_empty() {
            offered.push(Platform::host());
        }
        if let Some(host) = offered
            .iter()
            .position(|offer| Platform::host().fits(offer))
        {
            offered.swap(0, host);
        }
        let mut pulled = PulledImages::default();
        for (number, platform) in offered.iter().enumerate() {
            let request = PullRequest {
                platform: Some(platform.to_string()),
                ..request.clone()
            };
            let from = match number {
                0 => Origin::Place(place.clone()),
                _ => Origin::Nameless(place.clone()),
            };
            let brought = self.bring(from, &request)?;
            for image in brought.images {
                for name in &image.names {
                    let name = Reference::parse(name).map_err(kelp_image::Error::from)?;
                    if let Some(index) = store.find(&image.id)?.indexes.last() {
                        store.hold_index(&name, index)?;
                    }
                }
                pulled.ids.push(image.id);
            }
            pulled.displaced.extend(brought.displaced);
        }
        Ok(pulled)
    }
}

/// The image that gets the name: the host's, else the first.
fn first(offered: &[(Platform, Digest)]) -> Option<&(Platform, Digest)> {
    let host = Platform::host();
    let own = offered.iter().find(|(offer, _)| host.fits(offer));
    own.or(offered.first())
}
