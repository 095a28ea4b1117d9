//! Pods: containers that share namespaces and are started, stopped and removed together. One file for verbs that
//! are alike.
//!
//! A pod is a record, `pods/<id>/` in the data directory, and a container that has the namespaces: the infra
//! container, an ordinary one that runs `kelp internal pause` and is marked in its record. What a pod does is never
//! stored: it follows from what its containers do.

pub mod config;
pub mod create;
mod find;
pub mod list;
mod member;
pub(crate) mod pause;
pub mod place;
pub mod prune;
pub mod remove;
pub mod service;
pub mod signal;
mod start;
pub mod wait;
pub mod whole;

pub use config::{
    ExitPolicy, Fails, InitKind, Membership, PodConfig, PodOptions, Role, Said, Service, Shared,
};
