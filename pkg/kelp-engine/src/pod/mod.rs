//! Pods: containers that share namespaces and are started, stopped and removed together. One file a verb.
//!
//! A pod is a record, `pods/<id>/` in the data directory, and a container that has the namespaces: the infra
//! container, an ordinary one that runs kelp's own [`pause`] and is marked in its record. What a pod does is never
//! stored: it follows from what its containers do.

pub mod config;
pub mod create;
mod find;
pub mod list;
mod member;
pub mod pause;
pub mod prune;
pub mod remove;
pub mod signal;
mod start;

pub use config::{ExitPolicy, InitKind, Membership, PodConfig, PodOptions, Role, Said, Shared};
