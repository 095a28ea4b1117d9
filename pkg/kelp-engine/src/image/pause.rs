//! The image of infra and service containers: kelp itself as the only file, as in the embedded image.

use std::fs;
use std::os::unix::fs::MetadataExt;

use kelp_image::Digest;
use kelp_image::blob::BlobStore;

use crate::Error;
use crate::image::hello;

/// Its full name. Each version has its own: what a pod was made with stays.
pub const NAME: &str = concat!("localhost/kelp-pause:", env!("CARGO_PKG_VERSION"));

/// Which file this program is, as it is now: another one, or one that was written to, has another identity.
pub(crate) fn program() -> Result<String, Error> {
    let file = fs::metadata("/proc/self/exe").map_err(Error::io("look at kelp's own binary"))?;
    Ok(format!(
        "{}:{}:{}:{}.{}",
        file.dev(),
        file.ino(),
        file.size(),
        file.ctime(),
        file.ctime_nsec()
    ))
}

/// Writes the blobs of the image; the digest of its manifest.
pub(crate) fn write_blobs(blobs: &BlobStore) -> Result<Digest, Error> {
    hello::write_image(blobs, "pause")
}
