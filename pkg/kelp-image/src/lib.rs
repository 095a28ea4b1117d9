//! Images: references, registries, blobs, layers and their store.
#![forbid(unsafe_code)]

pub mod access;
pub mod auth;
pub mod blob;
pub mod certs;
pub(crate) mod challenge;
pub mod config_paths;
pub(crate) mod credential_helper;
pub mod decompress;
pub mod digest;
pub(crate) mod dns;
pub(crate) mod download;
pub mod error;
pub(crate) mod feed;
pub(crate) mod fetch;
pub(crate) mod http;
pub mod layer;
pub mod login;
pub mod manifest;
pub mod platform;
pub mod progress;
pub mod pull;
pub mod reference;
pub mod registries_conf;
pub mod registry;
pub mod remove;
pub mod role;
pub mod short_name;
pub mod store;
pub mod tar;
pub(crate) mod temporary;
pub(crate) mod token;
pub mod unpack;
pub mod unpacker;

pub use digest::Digest;
pub use error::{Error, Result};
