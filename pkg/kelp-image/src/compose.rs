//! The documents of an image that is made here: its config and its manifest.

use serde_json::{Value, json};

use crate::Error;
use crate::blob::BlobStore;
use crate::compress::Format;
use crate::digest::Digest;
use crate::ingest::{LayerBlob, store_layer_as};
use crate::manifest::{DOCKER_MANIFEST, OCI_MANIFEST};
use crate::store::LayerRecord;

/// Whose form an image's documents have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ManifestForm {
    /// The OCI image specification's.
    #[default]
    Oci,
    /// Docker's image manifest, version 2, schema 2.
    Docker,
}

impl ManifestForm {
    /// The compression of layers that are made for it.
    pub fn layer_format(self) -> Format {
        match self {
            Self::Oci => Format::Zstd,
            Self::Docker => Format::Gzip,
        }
    }

    pub(crate) fn config_type(self) -> &'static str {
        match self {
            Self::Oci => "application/vnd.oci.image.config.v1+json",
            Self::Docker => "application/vnd.docker.container.image.v1+json",
        }
    }

    pub(crate) fn manifest_type(self) -> &'static str {
        match self {
            Self::Oci => OCI_MANIFEST,
            Self::Docker => DOCKER_MANIFEST,
        }
    }

    /// What it calls a layer; `None` for one that it does not know.
    pub(crate) fn layer_type(self, format: Format) -> Option<&'static str> {
        match (self, format) {
            (Self::Oci, format) => Some(format.media_type()),
            (Self::Docker, Format::Plain) => Some("application/vnd.docker.image.rootfs.diff.tar"),
            (Self::Docker, Format::Gzip) => {
                Some("application/vnd.docker.image.rootfs.diff.tar.gzip")
            }
            (Self::Docker, Format::Zstd) => None,
        }
    }
}

impl std::str::FromStr for ManifestForm {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "oci" => Ok(Self::Oci),
            "v2s2" | "docker" => Ok(Self::Docker),
            "v2s1" => Err("schema 1 is what registries have given up: use v2s2 or oci".to_owned()),
            _ => Err(format!(
                "unknown manifest format {text:?}: it is oci or v2s2"
            )),
        }
    }
}

/// How a layer of this media type is compressed; `None` if the type does not say it in a known way.
pub(crate) fn of_media_type(media_type: &str) -> Option<Format> {
    // After the last of the two signs that set a suffix apart.
    match media_type.rsplit(['+', '.']).next()? {
        "zstd" => Some(Format::Zstd),
        "gzip" => Some(Format::Gzip),
        "tar" => Some(Format::Plain),
        _ => None,
    }
}

impl From<&LayerRecord> for LayerBlob {
    fn from(layer: &LayerRecord) -> Self {
        Self {
            digest: layer.digest.clone(),
            size: layer.size,
            media_type: layer.media_type.clone(),
            diff_id: layer.diff_id.clone(),
        }
    }
}

/// Writes the config, whose `rootfs` becomes that of the layers, and the manifest; the latter's digest.
pub fn compose(
    blobs: &BlobStore,
    mut config: Value,
    layers: &[LayerBlob],
    form: ManifestForm,
) -> Result<Digest, Error> {
    let diff_ids: Vec<_> = layers
        .iter()
        .map(|layer| layer.diff_id.to_string())
        .collect();
    config["rootfs"] = json!({ "type": "layers", "diff_ids": diff_ids });
    let config = config.to_string();
    let digest = blobs.put(config.as_bytes(), None)?;
    manifest_of(blobs, &digest, config.len(), layers, form)
}

/// Writes a manifest for a config that is here already; its digest. A layer that the form has no name for is
/// compressed anew.
pub(crate) fn manifest_of(
    blobs: &BlobStore,
    config: &Digest,
    size: usize,
    layers: &[LayerBlob],
    form: ManifestForm,
) -> Result<Digest, Error> {
    let layers = layers.iter().map(|layer| descriptor(blobs, layer, form));
    let layers = layers.collect::<Result<Vec<_>, Error>>()?;
    let manifest = manifest(form, config, size, &layers);
    blobs.put(manifest.to_string().as_bytes(), None)
}

fn manifest(form: ManifestForm, config: &Digest, size: usize, layers: &[Value]) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": form.manifest_type(),
        "config": {
            "mediaType": form.config_type(),
            "digest": config.to_string(),
            "size": size,
        },
        "layers": layers,
    })
}

fn descriptor(blobs: &BlobStore, layer: &LayerBlob, form: ManifestForm) -> Result<Value, Error> {
    let described = |media_type: &str, layer: &LayerBlob| {
        json!({
            "mediaType": media_type,
            "digest": layer.digest.to_string(),
            "size": layer.size,
        })
    };
    let format = of_media_type(&layer.media_type).unwrap_or(Format::Plain);
    if let Some(media_type) = form.layer_type(format) {
        return Ok(described(media_type, layer));
    }
    let anew = store_layer_as(
        blobs,
        blobs.reader(&layer.digest)?,
        Some(&layer.diff_id),
        form.layer_format(),
    )?;
    let media_type = form.layer_type(form.layer_format());
    Ok(described(media_type.unwrap_or(&anew.media_type), &anew))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::DOCUMENT_LIMIT;
    use crate::ingest::store_layer;

    #[test]
    fn documents_speak_of_layers_in_their_own_words() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = BlobStore::open(directory.path()).unwrap();
        let zstd = store_layer(&blobs, &b"one"[..], None).unwrap();
        let gzip = LayerBlob {
            media_type: "application/vnd.docker.image.rootfs.diff.tar.gzip".to_owned(),
            ..store_layer_as(&blobs, &b"two"[..], None, Format::Gzip).unwrap()
        };
        let layers = [gzip.clone(), zstd.clone()];
        let read = |form| {
            let manifest = compose(&blobs, json!({"os": "linux"}), &layers, form).unwrap();
            let manifest = blobs.read(&manifest, DOCUMENT_LIMIT).unwrap();
            serde_json::from_slice::<Value>(&manifest).unwrap()
        };
        let oci = read(ManifestForm::Oci);
        assert_eq!(oci["layers"][0]["mediaType"], Format::Gzip.media_type());
        assert_eq!(oci["layers"][1]["mediaType"], Format::Zstd.media_type());
        assert_eq!(oci["layers"][1]["digest"], zstd.digest.to_string());
        let docker = read(ManifestForm::Docker);
        for index in [0, 1] {
            let layer = &docker["layers"][index];
            assert_eq!(layer["mediaType"], gzip.media_type);
            let digest: Digest = layer["digest"].as_str().unwrap().parse().unwrap();
            assert_eq!(layer["size"], blobs.size(&digest).unwrap().unwrap());
        }
        assert_ne!(docker["layers"][1]["digest"], zstd.digest.to_string());
        let config: Digest = docker["config"]["digest"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        let config = blobs.read(&config, DOCUMENT_LIMIT).unwrap();
        let config: Value = serde_json::from_slice(&config).unwrap();
        let ids = [&gzip.diff_id, &zstd.diff_id].map(ToString::to_string);
        assert_eq!(config["rootfs"]["diff_ids"], json!(ids));
    }
}
