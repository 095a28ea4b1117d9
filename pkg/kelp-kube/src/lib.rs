//! Kubernetes YAML: pods and what they refer to, as types. Text in, types out; nothing is looked up on this machine.
//!
//! [`parse`] reads a stream of documents. What each promises:
//! - No field disappears: one that is not understood is an [`Error`] with its document, line and path. Those that mean
//!   nothing on one machine stand in a table where they are read (`pass_over`), and in ARCHITECTURE.md.
//! - What is text in Kubernetes is text here: a number or boolean of YAML that could be meant in more than one way is
//!   refused.
//! - Quantities, octal modes, named ports, `$(VAR)` and references to config maps and secrets are resolved here, by
//!   [`Sources`].
//!
//! Sources: the Kubernetes API reference (v1, apps/v1, batch/v1), and podman-kube-play(1) for what stands for what.
#![forbid(unsafe_code)]

mod container;
mod data;
mod document;
mod environment;
mod error;
mod expand;
mod field;
mod metadata;
mod node;
mod pod;
mod probe;
mod quantity;
mod security;
#[cfg(test)]
mod tests;
mod volume;

pub use container::{Container, Mount, Port, Propagation, Protocol, PullPolicy, Resources};
pub use data::{Claim, Sources, Values};
pub use document::{Documents, Passed, Stream, parse};
pub use environment::Variable;
pub use error::Error;
pub use metadata::Metadata;
pub use pod::{Dns, HostAlias, Pod, Restart};
pub use probe::{Check, Probe};
pub use security::{Profile, Security};
pub use volume::{File, HostPath, Source, Volume};
