//! An image that a directory or an archive has.

use oci_spec::image::ImageManifest;

use super::files::{Region, read_all};
use crate::Error;
use crate::blob::DOCUMENT_LIMIT;
use crate::digest::Digest;
use crate::fetch::{self, Config};
use crate::manifest::{Document, MANIFEST_LIMIT};
use crate::platform::Platform;

/// An image that can be brought here.
#[derive(Debug)]
pub(crate) struct Offer {
    /// The names that it comes with, as they are written there.
    pub(crate) names: Vec<String>,
    /// The index that led to it.
    pub(crate) index: Option<(Digest, Vec<u8>)>,
    /// Its manifest; an older form has none.
    pub(crate) manifest: Option<(Digest, Vec<u8>)>,
    /// Its config: the digest is the image's id.
    pub(crate) config: (Digest, Vec<u8>),
    /// Its layers, the lowest first.
    pub(crate) layers: Vec<OfferedLayer>,
}

/// A layer of an [`Offer`].
#[derive(Debug)]
pub(crate) struct OfferedLayer {
    /// Where its bytes are.
    pub(crate) region: Region,
    /// The digest of those bytes; where nobody says it, they are an archive that is yet to become a blob.
    pub(crate) digest: Option<Digest>,
    /// The digest of the archive, uncompressed.
    pub(crate) diff_id: Digest,
}

/// Finds blobs by their digests.
pub(crate) type FindBlob<'a> = dyn Fn(&Digest) -> Result<Region, Error> + 'a;

/// The image of a manifest, or of an index for a platform.
pub(crate) fn of_document(
    top: (Digest, Vec<u8>),
    media_type: Option<&str>,
    platform: &Platform,
    find: &FindBlob<'_>,
) -> Result<Offer, Error> {
    match Document::parse(&top.1, media_type)? {
        Document::Manifest(manifest) => of_manifest(None, top, &manifest, find),
        Document::Index(index) => {
            let chosen = fetch::choose(&index, platform, "the index")?;
            let digest = Digest::try_from(chosen.digest())?;
            let bytes = document(&digest, MANIFEST_LIMIT as u64, find)?;
            let media_type = chosen.media_type().to_string();
            match Document::parse(&bytes, Some(&media_type))? {
                Document::Manifest(manifest) => {
                    of_manifest(Some(top), (digest, bytes), &manifest, find)
                }
                Document::Index(_) => {
                    Err(Error::Invalid("an index leads to another index".to_owned()))
                }
            }
        }
    }
}

fn of_manifest(
    index: Option<(Digest, Vec<u8>)>,
    own: (Digest, Vec<u8>),
    manifest: &ImageManifest,
    find: &FindBlob<'_>,
) -> Result<Offer, Error> {
    fetch::check(manifest)?;
    let digest = Digest::try_from(manifest.config().digest())?;
    let config = document(&digest, DOCUMENT_LIMIT, find)?;
    let diff_ids = Config::parse(&config)?.rootfs.diff_ids;
    let layers = fetch::layers(manifest, &diff_ids)?
        .into_iter()
        .map(|layer| {
            let region = find(&layer.digest)?;
            if region.length != layer.size {
                return Err(Error::Archive(format!(
                    "layer {} has {} bytes, but its manifest says {}",
                    layer.digest, region.length, layer.size
                )));
            }
            Ok(OfferedLayer {
                region,
                digest: Some(layer.digest),
                diff_id: layer.diff_id,
            })
        })
        .collect::<Result<_, Error>>()?;
    Ok(Offer {
        names: Vec::new(),
        index,
        manifest: Some(own),
        config: (digest, config),
        layers,
    })
}

/// A blob that is a document, verified.
pub(crate) fn document(digest: &Digest, limit: u64, find: &FindBlob<'_>) -> Result<Vec<u8>, Error> {
    let bytes = read_all(&digest.to_string(), &find(digest)?, limit)?;
    digest.check("a document", &bytes)?;
    Ok(bytes)
}
