//! An image's record: what lists and runs need to know, without reading manifest and config again.

use std::collections::BTreeMap;

use oci_spec::image::{ImageConfiguration, ImageManifest};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::digest::Digest;
use crate::manifest::OCI_INDEX;
use crate::manifest::OCI_MANIFEST;
use crate::platform::Platform;

/// One image, as `images/<config hex>.json` has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageRecord {
    /// The digest of its config, which is its id.
    pub id: Digest,
    /// The digest of its manifest.
    pub manifest: Digest,
    /// The manifest's media type.
    pub media_type: String,
    /// Operating system, in Go's words.
    pub os: String,
    /// Architecture, in Go's words.
    pub architecture: String,
    /// The architecture's variant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
    /// When it was made, as its config says (RFC 3339).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// Bytes of its layers: extracted where that is known, else as they came.
    pub size: u64,
    /// Its layers, the lowest first.
    pub layers: Vec<LayerRecord>,
    /// What registries know it by, as `registry/repository@digest`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub repo_digests: Vec<String>,
    /// The indexes that it came by; their blobs are kept with it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub indexes: Vec<Digest>,
    /// Whether its manifest was made here: its layers are compressed as is best here, and a push may
    /// compress them in another way.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub made_here: bool,
    /// Its config's labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
}

/// A layer of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LayerRecord {
    /// The digest of its blob.
    pub digest: Digest,
    /// The blob's media type.
    pub media_type: String,
    /// The blob's size in bytes.
    pub size: u64,
    /// The digest of the uncompressed archive.
    pub diff_id: Digest,
}

impl ImageRecord {
    /// Reads the record from an image's documents. `size` is left to the caller, as compressed.
    pub(crate) fn from_documents(
        manifest_digest: &Digest,
        manifest: &ImageManifest,
        config: &ImageConfiguration,
    ) -> Result<Self, Error> {
        let layers = layers(manifest, config)?;
        let labels = config
            .config()
            .as_ref()
            .and_then(|config| config.labels().clone())
            .unwrap_or_default();
        Ok(Self {
            id: manifest.config().digest().try_into()?,
            manifest: manifest_digest.clone(),
            media_type: manifest
                .media_type()
                .as_ref()
                .map_or_else(|| OCI_MANIFEST.to_owned(), ToString::to_string),
            os: config.os().to_string(),
            architecture: config.architecture().to_string(),
            variant: config.variant().clone(),
            created: config.created().clone(),
            size: layers
                .iter()
                .map(|layer| layer.size)
                .fold(0, u64::saturating_add),
            layers,
            repo_digests: Vec::new(),
            indexes: Vec::new(),
            made_here: false,
            labels: labels.into_iter().collect(),
        })
    }

    /// Whether it stands for a manifest list, among images.
    pub fn is_list(&self) -> bool {
        self.media_type == OCI_INDEX
    }

    /// What it runs on.
    pub fn platform(&self) -> Platform {
        Platform {
            os: self.os.clone(),
            architecture: self.architecture.clone(),
            variant: self.variant.clone(),
        }
    }

    /// Every blob and layer that it needs: blobs by their digest, layers by their diff id.
    pub fn references(&self) -> impl Iterator<Item = &Digest> {
        [&self.id, &self.manifest]
            .into_iter()
            .chain(&self.indexes)
            .chain(self.layers.iter().flat_map(|l| [&l.digest, &l.diff_id]))
    }

    /// Takes over what an older record of the same image knows besides.
    pub(crate) fn merge(&mut self, older: &Self) {
        for name in &older.repo_digests {
            if !self.repo_digests.contains(name) {
                self.repo_digests.push(name.clone());
            }
        }
        for index in &older.indexes {
            if !self.indexes.contains(index) {
                self.indexes.push(index.clone());
            }
        }
    }
}

fn layers(
    manifest: &ImageManifest,
    config: &ImageConfiguration,
) -> Result<Vec<LayerRecord>, Error> {
    let diff_ids = config.rootfs().diff_ids();
    if diff_ids.len() != manifest.layers().len() {
        return Err(Error::Invalid(format!(
            "the image has {} layers, and its config names {}",
            manifest.layers().len(),
            diff_ids.len()
        )));
    }
    manifest
        .layers()
        .iter()
        .zip(diff_ids)
        .map(|(layer, diff_id)| {
            Ok(LayerRecord {
                digest: layer.digest().try_into()?,
                media_type: layer.media_type().to_string(),
                size: layer.size(),
                diff_id: diff_id.parse()?,
            })
        })
        .collect()
}
