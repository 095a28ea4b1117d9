//! Images that were taken back: `auto-update/<hex>.json` in the data directory, one for a name, so that no run brings
//! the same image again.

use std::fs;
use std::path::PathBuf;

use kelp_image::Digest;
use kelp_image::offer::Offer;
use kelp_state::file::{self, Durability};
use serde::{Deserialize, Serialize};

use crate::{Engine, Error};

/// An image with which a unit did not work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Failed {
    /// The name that it had.
    pub(super) name: String,
    /// Its id.
    pub(super) id: Digest,
    /// The digest of its manifest.
    pub(super) manifest: Digest,
    /// When: RFC 3339, in UTC.
    pub(super) time: String,
    /// The unit.
    pub(super) unit: String,
    /// What went wrong.
    pub(super) why: String,
}

impl Failed {
    /// One that has failed now.
    pub(super) fn new(name: &str, id: Digest, manifest: Digest, unit: &str, why: &str) -> Self {
        Self {
            name: name.to_owned(),
            id,
            manifest,
            time: jiff::Timestamp::now().to_string(),
            unit: unit.to_owned(),
            why: why.to_owned(),
        }
    }

    /// Whether it is what a registry has.
    pub(super) fn is(&self, offer: &Offer) -> bool {
        self.id == offer.id || self.manifest == offer.manifest
    }
}

impl Engine {
    /// The image that has failed under a name. A note that can't be read is none: the image is tried once more.
    pub(super) fn failed_image(&self, name: &str) -> Option<Failed> {
        let failed = file::read_json::<Failed>(&self.failed_path(name)).ok()?;
        failed.filter(|failed| failed.name == name)
    }

    /// Notes one.
    pub(super) fn note_failed(&self, failed: &Failed) -> Result<(), Error> {
        let path = self.failed_path(&failed.name);
        Ok(file::write_json(&path, failed, Durability::Synced)?)
    }

    /// Forgets it, once the name has an image that works.
    pub(super) fn forget_failed(&self, name: &str) {
        // One that stays is of an image that is not offered any more.
        let _ = fs::remove_file(self.failed_path(name));
    }

    fn failed_path(&self, name: &str) -> PathBuf {
        let name = Digest::of(name.as_bytes());
        self.updates().join(format!("{}.json", name.hex()))
    }

    /// What is kept from one run to the next.
    pub(super) fn updates(&self) -> PathBuf {
        self.paths.data.join("auto-update")
    }
}
