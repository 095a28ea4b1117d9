//! What artifacts there are, and everything about one.

use std::time::{Duration, SystemTime};

use kelp_image::artifact::CREATED;
use serde_json::Value;

use crate::{Engine, Error};

/// What a list shows of an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArtifactSummary {
    /// Its names, in order.
    pub names: Vec<String>,
    /// The digest of its manifest, in hex digits.
    pub digest: String,
    /// The bytes of its files.
    pub size: u64,
    /// When it was made, where it says so.
    pub created: Option<SystemTime>,
}

/// Everything about an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArtifactDetails {
    /// The name that was meant, or else its first.
    pub name: String,
    /// The digest of its manifest, with the algorithm.
    pub digest: String,
    /// The manifest.
    pub manifest: Value,
    /// The bytes of its files.
    pub size: u64,
}

impl Engine {
    /// Every artifact. One whose manifest can't be read has no size and no time: `system check` tells of that.
    pub fn artifacts(&self) -> Result<Vec<ArtifactSummary>, Error> {
        let store = self.store()?;
        let _lock = store.lock()?;
        let mut artifacts = Vec::new();
        for artifact in store.artifacts()? {
            let digest = &artifact.record.manifest;
            let manifest = store.artifact_json(digest).unwrap_or_default();
            let created = manifest["annotations"][CREATED].as_str();
            artifacts.push(ArtifactSummary {
                names: artifact.names,
                digest: digest.hex().to_owned(),
                size: size(&manifest),
                created: created.and_then(time),
            });
        }
        Ok(artifacts)
    }

    /// Everything about the artifact that a user's words mean.
    pub fn artifact(&self, text: &str) -> Result<ArtifactDetails, Error> {
        let store = self.store()?;
        let _lock = store.lock()?;
        let (artifact, meant) = self.find_artifact(&store, text)?;
        let digest = &artifact.record.manifest;
        let manifest = store.artifact_json(digest)?;
        let name = meant.or_else(|| artifact.names.first().cloned());
        Ok(ArtifactDetails {
            name: name.unwrap_or_default(),
            digest: digest.to_string(),
            size: size(&manifest),
            manifest,
        })
    }
}

/// A time as RFC 3339 has it.
fn time(text: &str) -> Option<SystemTime> {
    let time: jiff::Timestamp = text.parse().ok()?;
    let since = Duration::try_from(time.as_duration()).ok()?;
    SystemTime::UNIX_EPOCH.checked_add(since)
}

fn size(manifest: &Value) -> u64 {
    let layers = manifest["layers"].as_array().into_iter().flatten();
    let sizes = layers.filter_map(|layer| layer["size"].as_u64());
    sizes.fold(0, u64::saturating_add)
}
