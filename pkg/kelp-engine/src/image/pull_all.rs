//! `pull --all-platforms` and `--all-tags`: every image of an index, and of a repository.
//!
//! The name gets the image of the host's platform, as ever. The others have no name: that the index's
//! name stands for all of them is what keeps them, until it is taken away or means something else.

use kelp_image::index;
use kelp_image::platform::Platform;
use kelp_image::reference::{ImageName, Reference};
use kelp_image::transport::{self, Place};

use crate::image::load::{Origin, PulledImages};
use crate::image::pull::{PullPolicy, PullRequest};
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
        if request.policy == PullPolicy::Never {
            return Err(Error::invalid(
                "--all-platforms asks the registry, which --policy never forbids",
            ));
        }
        let access = request.access.options()?;
        let (reference, index, bytes) = index::document(&image_name, &access)?;
        let offered = index::platforms(&bytes)?;
        let Some(first) = first(offered.iter().map(|(platform, _)| platform)) else {
            return self.pull_any(name, request);
        };
        let named = PullRequest {
            platform: chosen(first),
            policy: PullPolicy::Always,
            ..request.clone()
        };
        let full = reference.to_string();
        let mut pulled = self.pull_any(&full, &named)?;
        let store = self.store()?;
        if !store.find(&full)?.indexes.contains(&index) {
            return Err(Error::conflict(format!(
                "{full} became another image meanwhile: pull it again"
            )));
        }
        store.hold_index(&reference, &index)?;
        for (platform, manifest) in &offered {
            let other = reference.with_digest(manifest.clone());
            let text = other.to_string();
            let had = store.meant_name(&text)?.is_some();
            let request = PullRequest {
                platform: Some(platform.to_string()),
                judged_as: Some(reference.clone()),
                ..request.clone()
            };
            for id in self.pull_any(&text, &request)?.ids {
                if !pulled.ids.contains(&id) {
                    pulled.ids.push(id);
                }
            }
            // The index's name keeps it.
            if !had && store.meant_name(&text)?.is_some() {
                store.untag(&other)?;
            }
        }
        Ok(pulled)
    }

    fn bring_all_platforms(
        &self,
        place: &Place,
        request: &PullRequest,
    ) -> Result<PulledImages, Error> {
        let store = self.store()?;
        let offered = transport::platforms(place, &self.paths.data)?;
        // The image that gets the name, and then all of them.
        let named = first(offered.iter()).and_then(chosen);
        let named = std::iter::once((named, Origin::Place(place.clone())));
        let others = offered.iter().map(|platform| {
            let origin = Origin::Nameless(place.clone());
            (Some(platform.to_string()), origin)
        });
        let mut pulled = PulledImages::default();
        for (platform, from) in named.chain(others) {
            let request = PullRequest {
                platform,
                ..request.clone()
            };
            let brought = self.bring(from, &request)?;
            for image in brought.images {
                for name in &image.names {
                    let name = Reference::parse(name).map_err(kelp_image::Error::from)?;
                    if !offered.is_empty()
                        && let Some(index) = store.find(&image.id)?.indexes.first()
                    {
                        store.hold_index(&name, index)?;
                    }
                }
                if !pulled.ids.contains(&image.id) {
                    pulled.ids.push(image.id);
                }
            }
            pulled.displaced.extend(brought.displaced);
        }
        if let Some(id) = pulled.ids.last() {
            self.keep_within(request.keep_storage, id);
        }
        Ok(pulled)
    }
}

/// The platform to ask for; the host makes its own choice among variants.
fn chosen(platform: &Platform) -> Option<String> {
    (!Platform::host().fits(platform)).then(|| platform.to_string())
}

/// The image that gets the name: the host's, else the first.
fn first<'a>(mut offered: impl Iterator<Item = &'a Platform> + Clone) -> Option<&'a Platform> {
    let host = Platform::host();
    let own = offered.clone().find(|offer| host.fits(offer));
    own.or_else(|| offered.next())
}
