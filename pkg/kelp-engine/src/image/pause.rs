//! The image of infra containers: kelp itself as the only file, as in the embedded image.

use kelp_image::Digest;
use kelp_image::blob::BlobStore;

use crate::Error;
use crate::image::hello;

/// Its full name. Each version has its own: what a pod was made with stays.
pub const NAME: &str = concat!("localhost/kelp-pause:", env!("CARGO_PKG_VERSION"));

/// Writes the blobs of the image; the digest of its manifest.
pub(crate) fn write_blobs(blobs: &BlobStore) -> Result<Digest, Error> {
    hello::write_image(blobs, "pause")
}
