//! Small images, made and pushed.

use kelp_image::Digest;
use serde_json::{Value, json};

use crate::http::request;

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An image with its content. Layers are not compressed, so that a layer's digest is its diff id.
#[derive(Debug, Clone)]
pub(crate) struct TestImage {
    pub(crate) manifest: Vec<u8>,
    pub(crate) config: Vec<u8>,
    pub(crate) layers: Vec<Vec<u8>>,
}

impl TestImage {
    /// An image for a platform, with layers of these sizes.
    pub(crate) fn new(seed: &str, architecture: &str, sizes: &[usize]) -> Self {
        let layers: Vec<Vec<u8>> = sizes
            .iter()
            .enumerate()
            .map(|(number, size)| content(&format!("{seed}-{number}"), *size))
            .collect();
        Self::of_layers(seed, architecture, layers)
    }

    /// An image with these layers.
    pub(crate) fn of_layers(seed: &str, architecture: &str, layers: Vec<Vec<u8>>) -> Self {
        let config = json!({
            "architecture": architecture,
            "os": "linux",
            "config": {"Labels": {"seed": seed}},
            "rootfs": {
                "type": "layers",
                "diff_ids": layers.iter().map(|layer| Digest::of(layer)).collect::<Vec<_>>(),
            },
        })
        .to_string()
        .into_bytes();
        let mut image = Self {
            manifest: Vec::new(),
            config,
            layers,
        };
        image.manifest = image.describe().to_string().into_bytes();
        image
    }

    /// The manifest as JSON, for tests that spoil it.
    pub(crate) fn describe(&self) -> Value {
        let descriptor = |media_type: &str, bytes: &[u8]| json!({"mediaType": media_type, "size": bytes.len(), "digest": Digest::of(bytes)});
        json!({
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": descriptor("application/vnd.oci.image.config.v1+json", &self.config),
            "layers": self
                .layers
                .iter()
                .map(|layer| descriptor("application/vnd.oci.image.layer.v1.tar", layer))
                .collect::<Vec<_>>(),
        })
    }

    pub(crate) fn id(&self) -> Digest {
        Digest::of(&self.config)
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }

    /// Pushes to a registry without TLS and authentication.
    pub(crate) fn push(&self, address: &str, repository: &str, tag: &str) {
        for blob in self.layers.iter().chain([&self.config]) {
            push_blob(address, repository, blob);
        }
        push_manifest(address, repository, tag, OCI_MANIFEST, &self.manifest);
    }
}

/// Pushes an index over images that have been pushed already.
pub(crate) fn push_index(
    address: &str,
    repository: &str,
    tag: &str,
    images: &[(&str, &TestImage)],
) -> Digest {
    let manifests: Vec<Value> = images
        .iter()
        .map(|(platform, image)| {
            let (os, architecture) = platform.split_once('/').unwrap();
            json!({
                "mediaType": OCI_MANIFEST,
                "size": image.manifest.len(),
                "digest": image.digest(),
                "platform": {"os": os, "architecture": architecture},
            })
        })
        .collect();
    let index = json!({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests});
    let bytes = index.to_string().into_bytes();
    push_manifest(address, repository, tag, OCI_INDEX, &bytes);
    Digest::of(&bytes)
}

fn push_blob(address: &str, repository: &str, blob: &[u8]) {
    let start = format!("/v2/{repository}/blobs/uploads/");
    let answer = request(address, "POST", &start, &[], b"");
    assert_eq!(answer.target(), "202", "{answer:?}");
    let location = answer.header("location").expect("an upload's URL");
    let path = location
        .split_once("://")
        .map_or(location, |(_, rest)| &rest[rest.find('/').unwrap()..]);
    let separator = if path.contains('?') { '&' } else { '?' };
    let put = format!("{path}{separator}digest={}", Digest::of(blob));
    let headers = [("Content-Type", "application/octet-stream")];
    let answer = request(address, "PUT", &put, &headers, blob);
    assert_eq!(answer.target(), "201", "{answer:?}");
}

fn push_manifest(address: &str, repository: &str, tag: &str, media_type: &str, bytes: &[u8]) {
    let path = format!("/v2/{repository}/manifests/{tag}");
    let headers = [("Content-Type", media_type)];
    let answer = request(address, "PUT", &path, &headers, bytes);
    assert_eq!(answer.target(), "201", "{answer:?}");
}

/// Bytes that depend on the seed and don't repeat.
pub(crate) fn content(seed: &str, size: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(size + 64);
    let mut state = seed.to_owned();
    while bytes.len() < size {
        state = Digest::of(state.as_bytes()).to_string();
        bytes.extend_from_slice(state.as_bytes());
    }
    bytes.truncate(size);
    bytes
}
