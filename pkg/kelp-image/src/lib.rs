//! Images: references, registries, blobs, layers and their store.
#![forbid(unsafe_code)]

pub mod blob;
pub mod digest;
pub mod error;
pub(crate) mod temporary;

pub use digest::Digest;
pub use error::{Error, Result};
