//! Artifacts: files from a registry that containers mount, and that are no images.
//!
//! They are in the images' store, and nothing here knows where a blob is: each verb is a file of its own.

pub mod add;
mod extract;
mod list;
pub(crate) mod mount;
mod pull;
mod push;
mod remove;

pub use kelp_image::artifact::add::ArtifactAddition;
pub use kelp_image::artifact::file::Choice;
pub use list::{ArtifactDetails, ArtifactSummary};
pub use mount::ARTIFACTS_END;
pub use pull::ArtifactPullRequest;

use kelp_image::store::{Artifact, Lease, Store};

use crate::{Engine, Error, Kind};

/// An artifact, and which of its names was meant.
type Found = (Artifact, Option<String>);

impl Engine {
    /// The artifact that a user's words mean.
    fn find_artifact(&self, store: &Store, text: &str) -> Result<Found, Error> {
        store.find_artifact(text)?.ok_or_else(|| absent(text))
    }

    /// The same for who reads its blobs: what it needs stays as long as the lease does. Found and kept in one step,
    /// so that nobody who replaces it comes in between.
    fn hold_artifact(&self, store: &Store, lease: &Lease, text: &str) -> Result<Found, Error> {
        let _lock = store.lock()?;
        let found = self.find_artifact(store, text)?;
        for digest in found.0.record.references() {
            lease.keep(digest)?;
        }
        Ok(found)
    }
}

/// What is said of one that is not here.
fn absent(text: &str) -> Error {
    Error::new(Kind::NotFound, format!("{text}: artifact does not exist"))
}
