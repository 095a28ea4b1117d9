//! Reading `dir:`, a directory that skopeo and podman write: `manifest.json` is the manifest, and every
//! blob is beside it under the hex digits of its digest. An index is `manifest.json` too, and its images'
//! manifests are `<hex>.manifest.json`.

use super::files::{Files, Region, read_all};
use super::offer::{Offer, of_document};
use crate::Error;
use crate::digest::Digest;
use crate::manifest::{Document, MANIFEST_LIMIT};
use crate::platform::Platform;
use crate::trust::Signature;

/// The manifest's name.
pub(crate) const MANIFEST: &str = "manifest.json";

/// The most signatures that are looked at.
const SIGNATURE_LIMIT: usize = 128;

/// Whether the files are such a directory.
pub(crate) fn is_one(files: &Files) -> Result<bool, Error> {
    match files.read(MANIFEST, MANIFEST_LIMIT as u64)? {
        Some(bytes) => Ok(Document::parse(&bytes, None).is_ok()),
        None => Ok(false),
    }
}

/// Its one image.
pub(crate) fn offer(files: &Files, platform: &Platform) -> Result<Offer, Error> {
    let region = files.get(MANIFEST)?;
    let bytes = read_all(MANIFEST, &region, MANIFEST_LIMIT as u64)?;
    let digest = Digest::of(&bytes);
    of_document((digest, bytes), None, platform, &|digest| {
        blob(files, digest)
    })
}

/// The signatures of an image that is there.
pub(crate) fn signatures(files: &Files, offer: &Offer) -> Result<Vec<Signature>, Error> {
    // Those of an image of an index have its digest before their name.
    let prefix = match (&offer.index, &offer.manifest) {
        (Some(_), Some((digest, _))) => format!("{}.", digest.hex()),
        _ => String::new(),
    };
    let mut found = Vec::new();
    while found.len() < SIGNATURE_LIMIT {
        let name = format!("{prefix}signature-{}", found.len() + 1);
        match files.read(&name, MANIFEST_LIMIT as u64)? {
            Some(bytes) => found.push(Signature::parse(&bytes)?),
            None => break,
        }
    }
    Ok(found)
}

fn blob(files: &Files, digest: &Digest) -> Result<Region, Error> {
    let manifest = format!("{}.{MANIFEST}", digest.hex());
    match files.find(&manifest)? {
        Some(region) => Ok(region),
        None => files.get(digest.hex()),
    }
}
