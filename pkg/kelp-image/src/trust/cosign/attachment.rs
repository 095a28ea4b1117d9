//! How a registry keeps sigstore signatures: a manifest under a tag of its own, whose layers are what
//! was signed and whose annotations are the signatures.

use oci_spec::image::{
    Descriptor, DescriptorBuilder, ImageManifest, ImageManifestBuilder, MediaType,
};
use serde_json::json;

use super::Attachment;
use crate::Error;
use crate::digest::Digest;

/// The most signatures that are looked at.
pub(in crate::trust) const LIMIT: usize = 128;

/// The most bytes that one may have.
pub(in crate::trust) const SIZE_LIMIT: usize = 4 << 20;

/// What is pushed to a repository so that it has signatures: first the blobs, then the manifest, under
/// the tag [`tag`].
#[derive(Debug, Clone)]
pub struct Attached {
    /// Config and claims, by digest.
    pub blobs: Vec<(Digest, Vec<u8>)>,
    /// The manifest, of the media type `application/vnd.oci.image.manifest.v1+json`.
    pub manifest: Vec<u8>,
}

/// The tag of the signatures of a manifest.
pub fn tag(manifest: &Digest) -> String {
    format!("{}-{}.sig", manifest.algorithm().name(), manifest.hex())
}

/// Adds signatures to those that are there: `before` is the manifest under the tag, if there is one.
pub fn attach(before: Option<&[u8]>, added: &[Attachment]) -> Result<Attached, Error> {
    let invalid = |error| Error::Invalid(format!("write the signatures' manifest: {error}"));
    let mut layers = match before {
        Some(before) => {
            let before: ImageManifest = serde_json::from_slice(before)
                .map_err(Error::json("read the signatures that are there"))?;
            before.layers().clone()
        }
        None => Vec::new(),
    };
    let mut blobs = Vec::new();
    for attachment in added {
        let digest = Digest::of(&attachment.payload);
        let layer = DescriptorBuilder::default()
            .media_type(MediaType::Other(attachment.media_type.clone()))
            .size(attachment.payload.len() as u64)
            .digest(oci_digest(&digest)?)
            .annotations(
                attachment
                    .annotations
                    .clone()
                    .into_iter()
                    .collect::<std::collections::HashMap<_, _>>(),
            )
            .build()
            .map_err(invalid)?;
        if !layers.contains(&layer) {
            layers.push(layer);
        }
        blobs.push((digest, attachment.payload.clone()));
    }
    let config = config(&layers);
    let digest = Digest::of(&config);
    let manifest = ImageManifestBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageManifest)
        .config(
            DescriptorBuilder::default()
                .media_type(MediaType::ImageConfig)
                .size(config.len() as u64)
                .digest(oci_digest(&digest)?)
                .build()
                .map_err(invalid)?,
        )
        .layers(layers)
        .build()
        .map_err(invalid)?;
    blobs.push((digest, config));
    let manifest = serde_json::to_vec(&manifest).map_err(Error::json("write a manifest"))?;
    Ok(Attached { blobs, manifest })
}

/// An image's config whose layers are the claims, as cosign writes it.
fn config(layers: &[Descriptor]) -> Vec<u8> {
    let ids: Vec<_> = layers
        .iter()
        .map(|layer| layer.digest().to_string())
        .collect();
    json!({
        "architecture": "",
        "created": "0001-01-01T00:00:00Z",
        "history": vec![json!({"created": "0001-01-01T00:00:00Z"}); ids.len()],
        "os": "",
        "rootfs": {"type": "layers", "diff_ids": ids},
        "config": {},
    })
    .to_string()
    .into_bytes()
}

fn oci_digest(digest: &Digest) -> Result<oci_spec::image::Digest, Error> {
    digest
        .to_string()
        .parse()
        .map_err(|error| Error::Invalid(format!("{digest}: {error}")))
}
