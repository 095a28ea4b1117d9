//! Images: references, registries, blobs, layers and their store.
#![forbid(unsafe_code)]

pub mod auth;
pub mod blob;
pub mod config_paths;
pub(crate) mod credential_helper;
pub mod digest;
pub mod error;
pub mod reference;
pub mod registries_conf;
pub mod short_name;
pub(crate) mod temporary;

pub use digest::Digest;
pub use error::{Error, Result};
