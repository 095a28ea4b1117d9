//! Reading an OCI image layout (OCI image specification, image-layout.md).

use oci_spec::image::{Descriptor, ImageIndex};

use super::docker::IMAGE_LIMIT;
use super::files::{Files, Region};
use super::offer::{Offer, document, of_document};
use super::{Place, Selector};
use crate::Error;
use crate::digest::Digest;
use crate::manifest::MANIFEST_LIMIT;
use crate::platform::Platform;

/// The file that says that it is one.
pub(crate) const MARK: &str = "oci-layout";

/// The file with the images.
pub(crate) const INDEX: &str = "index.json";

/// The annotation with a tag, or a name.
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// The annotation with the full name, which containerd and docker write.
pub(crate) const FULL_NAME: &str = "io.containerd.image.name";

/// The most bytes of the index: some thousands of images.
const INDEX_LIMIT: u64 = 4 << 20;

/// Whether the files are an OCI image layout.
pub(crate) fn is_one(files: &Files) -> Result<bool, Error> {
    Ok(files.find(MARK)?.is_some() && files.find(INDEX)?.is_some())
}

/// The layout's images.
fn index(files: &Files) -> Result<ImageIndex, Error> {
    let bytes = files
        .read(INDEX, INDEX_LIMIT)?
        .ok_or_else(|| Error::Archive(format!("{INDEX} is missing: it is no OCI image layout")))?;
    serde_json::from_slice(&bytes).map_err(Error::json(format!("read {INDEX}")))
}

/// All images of a layout, or the one that is meant.
pub(crate) fn offers(
    files: &Files,
    place: Option<&Place>,
    platform: &Platform,
) -> Result<Vec<Offer>, Error> {
    let index = index(files)?;
    let chosen = chosen(&index, place)?;
    let mut offers: Vec<Offer> = Vec::new();
    for descriptor in chosen {
        let offer = offer(files, descriptor, platform)?;
        // One image may stand there under several names.
        match offers.iter_mut().find(|other| same(other, &offer)) {
            Some(other) => other.names.extend(offer.names),
            None => offers.push(offer),
        }
    }
    Ok(offers)
}

/// The entries that are meant.
fn chosen<'a>(index: &'a ImageIndex, place: Option<&Place>) -> Result<Vec<&'a Descriptor>, Error> {
    let chosen: Vec<&Descriptor> = match place.and_then(|place| place.selector.as_ref()) {
        None => index.manifests().iter().collect(),
        Some(Selector::Index(position)) => {
            vec![index.manifests().get(*position).ok_or_else(|| {
                Error::NotFound(format!(
                    "image {position} of the {} in the layout",
                    index.manifests().len()
                ))
            })?]
        }
        Some(Selector::Name(name)) => {
            let found: Vec<_> = index
                .manifests()
                .iter()
                .filter(|d| bears(d, name))
                .collect();
            if found.is_empty() {
                return Err(Error::NotFound(format!(
                    "{name} (the layout has {})",
                    listed(index)
                )));
            }
            found
        }
    };
    if chosen.len() > IMAGE_LIMIT {
        return Err(Error::Archive(format!(
            "the layout has more than {IMAGE_LIMIT} images"
        )));
    }
    if chosen.is_empty() {
        return Err(Error::Archive("the layout has no image".to_owned()));
    }
    Ok(chosen)
}

/// The platforms of the images that indexes in the layout lead to.
pub(super) fn platforms(files: &Files, place: &Place) -> Result<Vec<Platform>, Error> {
    let index = index(files)?;
    let mut platforms: Vec<Platform> = Vec::new();
    for descriptor in chosen(&index, Some(place))? {
        let digest = Digest::try_from(descriptor.digest())?;
        let find = |digest: &Digest| blob(files, digest);
        let bytes = document(&digest, MANIFEST_LIMIT as u64, &find)?;
        for (platform, _) in crate::index::platforms(&bytes)? {
            if !platforms.contains(&platform) {
                platforms.push(platform);
            }
        }
    }
    Ok(platforms)
}

fn offer(files: &Files, descriptor: &Descriptor, platform: &Platform) -> Result<Offer, Error> {
    let find = |digest: &Digest| blob(files, digest);
    let digest = Digest::try_from(descriptor.digest())?;
    let bytes = document(&digest, MANIFEST_LIMIT as u64, &find)?;
    let media_type = descriptor.media_type().to_string();
    let mut offer = of_document((digest, bytes), Some(&media_type), platform, &find)?;
    offer.names.extend(name(descriptor));
    Ok(offer)
}

/// A blob's bytes.
fn blob(files: &Files, digest: &Digest) -> Result<Region, Error> {
    files.get(&path(digest))
}

/// Where a blob is in a layout.
pub(crate) fn path(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm().name(), digest.hex())
}

fn same(one: &Offer, other: &Offer) -> bool {
    let digest = |offer: &Offer| offer.manifest.as_ref().map(|(digest, _)| digest.clone());
    digest(one) == digest(other)
}

/// The name that a descriptor says, the full one if there are two.
fn name(descriptor: &Descriptor) -> Option<String> {
    let annotations = descriptor.annotations().as_ref()?;
    let name = annotations
        .get(FULL_NAME)
        .or_else(|| annotations.get(REF_NAME))?;
    Some(name.clone())
}

/// Whether a descriptor has this name in either way.
fn bears(descriptor: &Descriptor, name: &str) -> bool {
    let annotations = descriptor.annotations().as_ref();
    annotations.is_some_and(|annotations| {
        [FULL_NAME, REF_NAME]
            .iter()
            .any(|key| annotations.get(*key).is_some_and(|own| own == name))
    })
}

fn listed(index: &ImageIndex) -> String {
    let names: Vec<String> = index.manifests().iter().filter_map(name).collect();
    match names.as_slice() {
        [] => "no names".to_owned(),
        names => names.join(", "),
    }
}
