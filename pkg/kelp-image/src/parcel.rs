//! An image as it leaves: its manifest and the blobs that it names, all of them here.
//!
//! What came from elsewhere leaves as it came, digest for digest. What was made here may be compressed
//! in another way for those who get it, and either may be asked for in docker's form or OCI's. Such a
//! conversion makes new blobs, which a prune takes away again; which blob came of which is noted beside
//! them, so that the next push of the same layers need not compress them again.

use std::fs;
use std::io::{self, Read, Write};

use oci_spec::image::{Descriptor, ImageManifest};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Error;
use crate::blob::{BlobStore, DOCUMENT_LIMIT};
use crate::compose::{ManifestForm, of_media_type};
use crate::compress::{Encoder, Format};
use crate::decompress::Decompressor;
use crate::digest::Digest;
use crate::ingest::sink_error;
use crate::manifest::{DOCKER_MANIFEST, OCI_MANIFEST};
use crate::store::{ImageRecord, Store};
use crate::temporary;
use crate::transport::sink::Verified;

/// What an image is to become on its way; nothing that is not set changes anything.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// The manifest's form.
    pub form: Option<ManifestForm>,
    /// The compression of all layers.
    pub compression: Option<Format>,
    /// Its level.
    pub level: Option<i32>,
}

/// A blob of a [`Parcel`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParcelBlob {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub size: u64,
    /// Whether those who get the image fetch it from somewhere else.
    pub foreign: bool,
}

/// An image as it leaves.
#[derive(Clone, Debug)]
pub struct Parcel {
    /// The manifest's bytes.
    pub manifest: Vec<u8>,
    /// Their digest.
    pub digest: Digest,
    /// The manifest's media type.
    pub media_type: String,
    /// The config.
    pub config: ParcelBlob,
    /// The layers, the lowest first.
    pub layers: Vec<ParcelBlob>,
}

impl Parcel {
    /// The image of a record, as it is.
    pub fn of(store: &Store, record: &ImageRecord) -> Result<Self, Error> {
        Self::of_manifest(store.blobs(), &record.manifest)
    }

    /// The image of a manifest that is here.
    pub fn of_manifest(blobs: &BlobStore, digest: &Digest) -> Result<Self, Error> {
        Self::parse(blobs.read(digest, DOCUMENT_LIMIT)?, digest.clone())
    }

    fn parse(bytes: Vec<u8>, digest: Digest) -> Result<Self, Error> {
        let manifest: ImageManifest = serde_json::from_slice(&bytes)
            .map_err(Error::json(format!("read manifest {digest}")))?;
        let layers = manifest.layers().iter().map(blob);
        Ok(Self {
            media_type: manifest
                .media_type()
                .as_ref()
                .map_or_else(|| OCI_MANIFEST.to_owned(), ToString::to_string),
            config: blob(manifest.config())?,
            layers: layers.collect::<Result<_, _>>()?,
            manifest: bytes,
            digest,
        })
    }

    /// The image in another form, if one is wanted that it does not have; its new blobs go to `blobs`.
    ///
    /// An image that was made here leaves as gzip unless something else is asked for: every registry's
    /// every user reads that.
    pub fn converted(
        self,
        record: &ImageRecord,
        blobs: &BlobStore,
        wanted: &Wanted,
    ) -> Result<Self, Error> {
        self.changed(record.made_here.then_some(Format::Gzip), blobs, wanted)
    }

    /// The same, with what its layers are compressed by if nothing is asked for.
    pub(crate) fn changed(
        self,
        usual: Option<Format>,
        blobs: &BlobStore,
        wanted: &Wanted,
    ) -> Result<Self, Error> {
        let docker = wanted.form == Some(ManifestForm::Docker);
        let compression = wanted.compression.or(usual);
        if docker && compression == Some(Format::Zstd) {
            return Err(Error::Invalid(
                "docker's manifests know no zstd: use --format oci, or gzip".to_owned(),
            ));
        }
        let mut manifest: Value = serde_json::from_slice(&self.manifest)
            .map_err(Error::json(format!("read manifest {}", self.digest)))?;
        let before = manifest.clone();
        let layers = manifest["layers"].as_array_mut().into_iter().flatten();
        for (descriptor, layer) in layers.zip(&self.layers) {
            let current = of_media_type(descriptor["mediaType"].as_str().unwrap_or_default());
            // A layer that others fetch elsewhere is what it is there, and what is no archive has no
            // other form.
            let needed = compression.filter(|_| !layer.foreign && current.is_some());
            // Docker's form has no name for zstd.
            let needed = match (needed, current) {
                (None, Some(Format::Zstd)) if docker => Some(Format::Gzip),
                (needed, _) => needed,
            };
            if let Some(format) = needed.filter(|format| Some(*format) != current) {
                let new = convert(blobs, &layer.digest, format, wanted.level)?;
                descriptor["mediaType"] = json!(format.media_type());
                descriptor["digest"] = json!(new.digest);
                descriptor["size"] = json!(new.size);
                // They tell of the bytes that were: a table of contents, for one.
                if let Some(fields) = descriptor.as_object_mut() {
                    fields.remove("annotations");
                }
            }
        }
        if manifest == before && wanted.form.is_none() {
            return Ok(self);
        }
        let has_zstd = compression == Some(Format::Zstd);
        let own = if self.media_type == DOCKER_MANIFEST && !has_zstd {
            ManifestForm::Docker
        } else {
            ManifestForm::Oci
        };
        change_form(&mut manifest, wanted.form.unwrap_or(own));
        if manifest == before {
            return Ok(self);
        }
        let bytes = manifest.to_string().into_bytes();
        let digest = blobs.put(&bytes, None)?;
        Self::parse(bytes, digest)
    }

    /// Config and layers, each once.
    pub fn blobs(&self) -> Vec<&ParcelBlob> {
        let mut blobs: Vec<&ParcelBlob> = Vec::new();
        for blob in self.layers.iter().chain([&self.config]) {
            if !blobs.iter().any(|other| other.digest == blob.digest) {
                blobs.push(blob);
            }
        }
        blobs
    }
}

fn blob(descriptor: &Descriptor) -> Result<ParcelBlob, Error> {
    let has_urls = descriptor
        .urls()
        .as_ref()
        .is_some_and(|urls| !urls.is_empty());
    let media_type = descriptor.media_type().to_string();
    Ok(ParcelBlob {
        digest: descriptor.digest().try_into()?,
        size: descriptor.size(),
        foreign: has_urls
            && (media_type.contains("nondistributable") || media_type.contains("foreign")),
    })
}

/// Renames everything in a manifest to what another form calls it.
fn change_form(manifest: &mut Value, form: ManifestForm) {
    manifest["mediaType"] = json!(form.manifest_type());
    manifest["config"]["mediaType"] = json!(form.config_type());
    if form == ManifestForm::Docker
        && let Some(fields) = manifest.as_object_mut()
    {
        // Docker's form has none.
        for field in ["annotations", "artifactType", "subject"] {
            fields.remove(field);
        }
    }
    for layer in manifest["layers"].as_array_mut().into_iter().flatten() {
        let media_type = layer["mediaType"].as_str().unwrap_or_default();
        if media_type.contains("nondistributable") || media_type.contains("foreign") {
            continue;
        }
        let format = of_media_type(media_type).unwrap_or(Format::Plain);
        // One that the form has no name for has been converted before.
        if let Some(media_type) = form.layer_type(format) {
            layer["mediaType"] = json!(media_type);
        }
    }
}

/// What came of a blob that was compressed in another way.
#[derive(Serialize, Deserialize)]
struct Variant {
    digest: Digest,
    size: u64,
}

/// Compresses a layer's blob in another way.
fn convert(
    blobs: &BlobStore,
    digest: &Digest,
    format: Format,
    level: Option<i32>,
) -> Result<Variant, Error> {
    let name = match level {
        Some(level) => format!("{}.{format:?}-{level}", digest.hex()),
        None => format!("{}.{format:?}", digest.hex()),
    };
    let note = blobs.notes().join(name.to_lowercase());
    if let Some(known) = fs::read(&note)
        .ok()
        .and_then(|text| serde_json::from_slice::<Variant>(&text).ok())
        && blobs.size(&known.digest)? == Some(known.size)
    {
        return Ok(known);
    }
    // What would be compressed anew would have a digest of its own: the bytes are looked at here.
    let reader = Verified::new(blobs.reader(digest)?, digest);
    let mut archive =
        Decompressor::new(reader).map_err(Error::io(format!("read blob {digest}")))?;
    let mut encoder =
        Encoder::new(blobs.writer()?, format, level).map_err(Error::io("compress a layer"))?;
    let mut buffer = vec![0; 256 << 10];
    loop {
        match archive.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => encoder.write_all(&buffer[..count]).map_err(sink_error)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => match error.downcast::<Error>() {
                Ok(error) => return Err(error),
                Err(error) => return Err(Error::io(format!("read blob {digest}"))(error)),
            },
        }
    }
    let writer = encoder.finish().map_err(sink_error)?;
    let size = writer.len();
    let variant = Variant {
        digest: writer.commit_any()?,
        size,
    };
    // A note that can't be kept costs time alone.
    if let Ok(text) = serde_json::to_vec(&variant) {
        let _ = temporary::make_directory(&blobs.notes())
            .and_then(|()| fs::write(&note, text).map_err(Error::io("note what came of a blob")));
    }
    Ok(variant)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::store_layer;
    use crate::tar::build::Archive;

    fn made(blobs: &BlobStore) -> (ImageRecord, Parcel) {
        let archive = Archive::new().file("a", &[b'x'; 5000]).end();
        let layer = store_layer(blobs, &archive[..], None).unwrap();
        let config = json!({
            "os": "linux", "architecture": "amd64",
            "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
        });
        let config = config.to_string();
        let id = blobs.put(config.as_bytes(), None).unwrap();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": OCI_MANIFEST,
            "config": {"mediaType": ManifestForm::Oci.config_type(), "digest": id, "size": config.len()},
            "layers": [{"mediaType": layer.media_type, "digest": layer.digest, "size": layer.size}],
            "annotations": {"a": "b"},
        });
        let digest = blobs.put(manifest.to_string().as_bytes(), None).unwrap();
        let record = serde_json::from_value(json!({
            "id": id, "manifest": digest, "media_type": OCI_MANIFEST, "os": "linux",
            "architecture": "amd64", "size": 0, "layers": [], "made_here": true,
        }));
        let parcel = Parcel::of_manifest(blobs, &digest).unwrap();
        (record.unwrap(), parcel)
    }

    #[test]
    fn what_was_made_here_leaves_as_gzip_and_the_rest_as_it_came() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = BlobStore::open(directory.path()).unwrap();
        let (mut record, parcel) = made(&blobs);
        let usual = Wanted::default();
        let sent = parcel.clone().converted(&record, &blobs, &usual).unwrap();
        assert_ne!(sent.digest, parcel.digest);
        assert_eq!(sent.config, parcel.config);
        let text = String::from_utf8(sent.manifest.clone()).unwrap();
        assert!(text.contains("layer.v1.tar+gzip"), "{text}");
        let mut start = [0; 2];
        let mut blob = blobs.reader(&sent.layers[0].digest).unwrap();
        blob.read_exact(&mut start).unwrap();
        assert_eq!(start, [0x1f, 0x8b]);
        // The second time nothing is compressed, and it is the same.
        let again = parcel.clone().converted(&record, &blobs, &usual).unwrap();
        assert_eq!(again.digest, sent.digest);
        record.made_here = false;
        let kept = parcel.clone().converted(&record, &blobs, &usual).unwrap();
        assert_eq!(kept.digest, parcel.digest);
        let zstd = Wanted {
            compression: Some(Format::Zstd),
            ..usual
        };
        let kept = parcel.clone().converted(&record, &blobs, &zstd).unwrap();
        assert_eq!(kept.digest, parcel.digest);
    }

    #[test]
    fn dockers_form_has_dockers_names() {
        let directory = tempfile::tempdir().unwrap();
        let blobs = BlobStore::open(directory.path()).unwrap();
        let (mut record, parcel) = made(&blobs);
        record.made_here = false;
        let docker = Wanted {
            form: Some(ManifestForm::Docker),
            ..Wanted::default()
        };
        let sent = parcel.clone().converted(&record, &blobs, &docker).unwrap();
        let manifest: Value = serde_json::from_slice(&sent.manifest).unwrap();
        assert_eq!(manifest["mediaType"], DOCKER_MANIFEST);
        assert_eq!(
            manifest["config"]["mediaType"],
            ManifestForm::Docker.config_type()
        );
        assert_eq!(
            manifest["layers"][0]["mediaType"],
            "application/vnd.docker.image.rootfs.diff.tar.gzip"
        );
        assert!(manifest.get("annotations").is_none());
        let refused = Wanted {
            compression: Some(Format::Zstd),
            ..docker
        };
        assert!(parcel.converted(&record, &blobs, &refused).is_err());
    }
}
