//! Images: references, registries, blobs, layers and their store.
//!
//! A pull ([`pull`]) turns a name into a record. What it leaves on disk, in this order:
//!
//! 1. Blobs ([`blob`]): verified content under its digest. They are the truth; nothing else is needed
//!    to make an image run again.
//! 2. Layers ([`layer`]): extracted by [`unpack`] in a process of its own ([`role`]) for one id map,
//!    while the blob is still coming in. They are a cache.
//! 3. The record and its names ([`store`]), written last.
//!
//! # Invariants
//!
//! - Each of these appears under its name by one rename(2), complete and synced. What a kill or a
//!   power cut leaves has no name yet, or nothing refers to it: garbage that the next prune collects,
//!   never a state that needs repair.
//! - Who adds an image and who removes one at the same time hold no lock while they download, extract
//!   or delete. The addition leases digests, the removal keeps what is leased ([`store::lock`]). A run
//!   takes the same lock shared, and so waits for nothing but a removal's few milliseconds.
//! - A digest is parsed ([`Digest`]) before it is a path or a URL; an archive's names are cleaned and
//!   then resolved by descriptor beneath their root ([`unpack`]).
#![forbid(unsafe_code)]

pub mod access;
pub mod artifact;
pub mod auth;
pub mod blob;
mod blob_place;
pub mod certs;
pub(crate) mod challenge;
#[doc(hidden)]
pub mod chunked;
pub mod compose;
pub mod compress;
pub mod config_paths;
pub(crate) mod credential_helper;
pub mod decompress;
pub(crate) mod descriptor;
pub mod digest;
pub mod disk;
pub(crate) mod dns;
pub(crate) mod download;
pub mod error;
pub(crate) mod feed;
pub(crate) mod fetch;
pub(crate) mod http;
pub mod index;
pub mod ingest;
pub mod layer;
pub mod load;
pub mod login;
pub mod manifest;
pub mod merged;
mod mode;
pub mod offer;
pub mod pack;
pub mod parcel;
pub mod platform;
pub mod populate;
pub mod progress;
pub mod pull;
pub mod push;
pub mod push_index;
pub mod reference;
pub mod referrers;
mod refusal;
pub mod registries_conf;
pub mod registry;
pub mod remote;
pub mod remove;
pub mod role;
pub mod search;
pub mod short_name;
pub mod sibling;
pub mod space;
pub mod store;
pub mod tar;
pub(crate) mod temporary;
pub(crate) mod token;
pub mod transport;
pub mod trust;
pub mod unpack;
pub mod unpacker;
pub(crate) mod upload;
pub mod verify;

pub use digest::Digest;
pub use error::{Error, Result};
