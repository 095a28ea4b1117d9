//! Reading what `docker save` writes (Docker image specification 1.2, "combined image JSON").
//!
//! `manifest.json` lists images with the names of their configs and layers in the archive. A layer is a
//! tar archive, and may be compressed. Newer versions of docker write an OCI image layout into the same
//! archive; where there is one it is read instead, because it keeps the digests.

use std::collections::HashMap;

use serde::Deserialize;

use super::files::{Files, read_all};
use super::offer::{Offer, OfferedLayer};
use super::{Place, Selector, layout};
use crate::Error;
use crate::blob::DOCUMENT_LIMIT;
use crate::digest::Digest;
use crate::fetch::{Config, LAYER_LIMIT};
use crate::platform::Platform;
use crate::reference::ImageName;

/// The list of the images.
pub(crate) const MANIFEST: &str = "manifest.json";

/// The most images of one archive, whose documents are read before any of them is brought.
pub(super) const IMAGE_LIMIT: usize = 200;

/// The most bytes of all their configs.
const CONFIGS_LIMIT: u64 = 256 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Item {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

/// Whether the files are such an archive.
pub(crate) fn is_one(files: &Files) -> Result<bool, Error> {
    match files.read(MANIFEST, DOCUMENT_LIMIT)? {
        Some(bytes) => Ok(serde_json::from_slice::<Vec<Item>>(&bytes).is_ok()),
        None => Ok(false),
    }
}

/// All images of the archive, or the one that is meant.
pub(crate) fn offers(
    files: &Files,
    place: Option<&Place>,
    platform: &Platform,
) -> Result<Vec<Offer>, Error> {
    let bytes = files
        .read(MANIFEST, DOCUMENT_LIMIT)?
        .ok_or_else(|| Error::Archive(format!("{MANIFEST} is missing: docker did not write it")))?;
    let items: Vec<Item> =
        serde_json::from_slice(&bytes).map_err(Error::json(format!("read {MANIFEST}")))?;
    if items.len() > IMAGE_LIMIT {
        return Err(Error::Archive(format!(
            "the archive has more than {IMAGE_LIMIT} images"
        )));
    }
    let chosen = choose(&items, place.and_then(|place| place.selector.as_ref()))?;
    let mut kept = if layout::is_one(files)? {
        // It may have what is no image, or none of this platform's. manifest.json counts in any case.
        with_digests(layout::offers(files, None, platform).unwrap_or_default())
    } else {
        HashMap::new()
    };
    let mut offers = Vec::new();
    let mut bytes = 0;
    for (item, only) in chosen {
        let config = config(files, item)?;
        bytes += config.1.len() as u64;
        if bytes > CONFIGS_LIMIT {
            return Err(Error::Archive(format!(
                "the images' configs have more than {} MiB together",
                CONFIGS_LIMIT >> 20
            )));
        }
        let mut offer = match kept.remove(&config.0) {
            Some(offer) => offer,
            None => offer(files, item, config)?,
        };
        offer.names = item.repo_tags.clone().unwrap_or_default();
        if let Some(only) = only {
            offer.names.retain(|name| name == only);
        }
        offers.push(offer);
    }
    Ok(offers)
}

/// The items that are meant, each with the only name of it that is.
fn choose<'a>(
    items: &'a [Item],
    selector: Option<&Selector>,
) -> Result<Vec<(&'a Item, Option<&'a str>)>, Error> {
    let tags = |item: &'a Item| item.repo_tags.iter().flatten();
    match selector {
        None if items.is_empty() => Err(Error::Archive("the archive has no image".to_owned())),
        None => Ok(items.iter().map(|item| (item, None)).collect()),
        Some(Selector::Index(position)) => match items.get(*position) {
            Some(item) => Ok(vec![(item, None)]),
            None => Err(Error::NotFound(format!(
                "image {position} of the {} in the archive",
                items.len()
            ))),
        },
        Some(Selector::Name(name)) => {
            let wanted = full(name);
            let found = items.iter().find_map(|item| {
                let tag = tags(item).find(|tag| full(tag) == wanted)?;
                Some((item, Some(tag.as_str())))
            });
            found.map(|found| vec![found]).ok_or_else(|| {
                let all: Vec<&str> = items.iter().flat_map(tags).map(String::as_str).collect();
                Error::NotFound(format!("{name} (the archive has {})", all.join(", ")))
            })
        }
    }
}

/// A name as docker means it.
fn full(name: &str) -> String {
    match ImageName::parse(name) {
        Ok(name) => name.on_docker_hub().or_latest().to_string(),
        Err(_) => name.to_owned(),
    }
}

fn with_digests(offers: Vec<Offer>) -> HashMap<Digest, Offer> {
    let by_config = offers
        .into_iter()
        .map(|offer| (offer.config.0.clone(), offer));
    by_config.collect()
}

fn config(files: &Files, item: &Item) -> Result<(Digest, Vec<u8>), Error> {
    let bytes = read_all(&item.config, &files.get(&item.config)?, DOCUMENT_LIMIT)?;
    Ok((Digest::of(&bytes), bytes))
}

fn offer(files: &Files, item: &Item, config: (Digest, Vec<u8>)) -> Result<Offer, Error> {
    let diff_ids = Config::parse(&config.1)?.rootfs.diff_ids;
    let names = item.layers.as_deref().unwrap_or_default();
    if names.len() != diff_ids.len() {
        return Err(Error::Archive(format!(
            "the archive has {} layers of an image whose config names {}",
            names.len(),
            diff_ids.len()
        )));
    }
    if names.len() > LAYER_LIMIT {
        return Err(Error::Archive(format!(
            "an image of the archive has {} layers; more than {LAYER_LIMIT} can't be used",
            names.len()
        )));
    }
    let layers = names.iter().zip(diff_ids).map(|(name, diff_id)| {
        Ok(OfferedLayer {
            region: files.get(name)?,
            digest: None,
            diff_id,
        })
    });
    Ok(Offer {
        names: Vec::new(),
        index: None,
        manifest: None,
        layers: layers.collect::<Result<_, Error>>()?,
        config,
    })
}
