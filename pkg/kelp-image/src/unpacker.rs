//! Who extracts a layer while it is downloaded.
//!
//! Extraction happens in another process, inside the user namespace of the map that the layer is
//! for; how that process comes about is the engine's affair. This is the contract between them.

use std::os::fd::OwnedFd;

use crate::Error;
use crate::digest::Digest;
use crate::unpack::Summary;

/// Starts extractions.
pub trait Unpacker: Sync {
    /// Whether the layer is extracted already for the map in use.
    fn has_layer(&self, diff_id: &Digest) -> Result<bool, Error>;

    /// Starts to extract a layer from `input`, a pipe or a file that is read to its end. The stream
    /// is compressed or not; nothing about it has been verified.
    fn start(&self, diff_id: &Digest, input: OwnedFd) -> Result<Box<dyn UnpackJob>, Error>;
}

/// An extraction that runs. Dropping it stops it, and leaves nothing that could be taken for a
/// layer.
pub trait UnpackJob: Send {
    /// Waits until everything is extracted.
    fn finish(&mut self) -> Result<Summary, Error>;

    /// Publishes what was extracted, after the caller has compared [`Summary::diff_id`].
    fn publish(self: Box<Self>) -> Result<(), Error>;
}
