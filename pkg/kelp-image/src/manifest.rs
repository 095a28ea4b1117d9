//! Manifests and indexes as registries send them.
//!
//! A document is read as one kind only: what the media type says, which the content has to bear
//! out. A document that could be read as a manifest and as an index is refused (CVE-2021-41190).

use oci_spec::image::{ImageIndex, ImageManifest};
use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::Error;

/// The most bytes that a manifest or an index may have; registries accept no more.
pub const MANIFEST_LIMIT: usize = 4 << 20;

/// All the kinds that kelp reads, as an `Accept` header.
pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
     application/vnd.docker.distribution.manifest.list.v2+json, \
     application/vnd.oci.image.manifest.v1+json, \
     application/vnd.docker.distribution.manifest.v2+json";

pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const SCHEMA1: [&str; 2] = [
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
];

/// A manifest or an index.
#[derive(Debug, Clone)]
pub enum Document {
    /// One image for each platform.
    Index(Box<ImageIndex>),
    /// One image.
    Manifest(Box<ImageManifest>),
}

/// The outline that tells the kinds apart.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Outline {
    schema_version: Option<u32>,
    media_type: Option<String>,
    manifests: Option<IgnoredAny>,
    config: Option<IgnoredAny>,
    layers: Option<IgnoredAny>,
    fs_layers: Option<IgnoredAny>,
}

impl Document {
    /// Reads a document that was sent with the media type `declared`.
    pub fn parse(bytes: &[u8], declared: Option<&str>) -> Result<Self, Error> {
        let outline: Outline =
            serde_json::from_slice(bytes).map_err(Error::json("read a manifest"))?;
        let declared = declared
            .and_then(|value| value.split(';').next())
            .map(|value| value.trim().to_ascii_lowercase())
            .filter(|value| {
                is_known(value) || SCHEMA1.contains(&value.as_str()) || is_foreign(value)
            });
        if let (Some(declared), Some(own)) = (&declared, &outline.media_type)
            && declared != own
        {
            return Err(Error::Invalid(format!(
                "a manifest was sent as {declared}, but calls itself {own}"
            )));
        }
        let media_type = declared.or_else(|| outline.media_type.clone());
        let is_schema1 = outline.schema_version == Some(1)
            || outline.fs_layers.is_some()
            || media_type
                .as_deref()
                .is_some_and(|media_type| SCHEMA1.contains(&media_type));
        if is_schema1 {
            return Err(Error::Invalid(
                "the manifest has schema 1, which registries and docker have given up: the image \
                 must be pushed again with a newer tool"
                    .to_owned(),
            ));
        }
        let as_index = outline.manifests.is_some();
        let as_manifest = outline.config.is_some() || outline.layers.is_some();
        if as_index && as_manifest {
            return Err(Error::Invalid(
                "the manifest is ambiguous: it has both manifests and config or layers".to_owned(),
            ));
        }
        let is_index = match media_type.as_deref() {
            Some(OCI_INDEX | DOCKER_LIST) => true,
            Some(OCI_MANIFEST | DOCKER_MANIFEST) => false,
            // An old registry's plain `application/json`, or none: the content decides, for it can
            // be read one way only.
            None => as_index,
            Some(other) => {
                return Err(Error::Invalid(format!(
                    "the manifest's media type {other} is not an image's"
                )));
            }
        };
        if outline.schema_version != Some(2) || is_index != as_index || is_index == as_manifest {
            return Err(Error::Invalid(format!(
                "the manifest is not what its media type {} says",
                media_type.as_deref().unwrap_or("(none)")
            )));
        }
        Ok(if is_index {
            Self::Index(serde_json::from_slice(bytes).map_err(Error::json("read an image index"))?)
        } else {
            Self::Manifest(serde_json::from_slice(bytes).map_err(Error::json("read a manifest"))?)
        })
    }
}

fn is_known(media_type: &str) -> bool {
    [OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST].contains(&media_type)
}

/// Whether a media type names some other kind of document, and not just its syntax.
fn is_foreign(media_type: &str) -> bool {
    media_type.starts_with("application/vnd.")
}

/// Whether kelp can extract a layer of this media type.
pub(crate) fn check_layer_type(media_type: &str) -> Result<(), Error> {
    if media_type.ends_with("+encrypted") {
        return Err(Error::Invalid(
            "the image's layers are encrypted, and kelp has no keys".to_owned(),
        ));
    }
    let known = matches!(
        media_type,
        "application/vnd.docker.image.rootfs.diff.tar"
            | "application/vnd.docker.image.rootfs.diff.tar.gzip"
            | "application/vnd.docker.image.rootfs.diff.tar.zstd"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar"
            | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
            | "application/vnd.oci.image.layer.v1.tar"
            | "application/vnd.oci.image.layer.v1.tar+gzip"
            | "application/vnd.oci.image.layer.v1.tar+zstd"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
    );
    if known {
        Ok(())
    } else {
        Err(Error::Invalid(format!(
            "a layer of media type {media_type} can't be extracted: this is an artifact and not a \
             container image: use kelp artifact pull"
        )))
    }
}

/// Whether a config of this media type is an image's.
pub(crate) fn check_config_type(media_type: &str) -> Result<(), Error> {
    match media_type {
        "application/vnd.oci.image.config.v1+json"
        | "application/vnd.docker.container.image.v1+json" => Ok(()),
        other => Err(Error::Invalid(format!(
            "this is an artifact and not a container image: its config has the media type {other}: use \
             kelp artifact pull"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:6c3c624b58dbbcd3c0dd82b4c53f04194d1247c6eebdaab7c610cf7d66709b3b";

    fn manifest(media_type: &str) -> String {
        let own = match media_type {
            "" => String::new(),
            own => format!(r#""mediaType":"{own}","#),
        };
        format!(
            r#"{{"schemaVersion":2,{own}"config":{{"mediaType":"c","size":1,"digest":"{DIGEST}"}},
            "layers":[]}}"#
        )
    }

    fn index(media_type: &str) -> String {
        let own = match media_type {
            "" => String::new(),
            own => format!(r#""mediaType":"{own}","#),
        };
        format!(r#"{{"schemaVersion":2,{own}"manifests":[]}}"#)
    }

    #[test]
    fn the_kind_is_what_type_and_content_agree_on() {
        for (text, declared, is_index) in [
            (manifest(OCI_MANIFEST), OCI_MANIFEST, false),
            (manifest(""), OCI_MANIFEST, false),
            (
                manifest(DOCKER_MANIFEST),
                "application/vnd.docker.distribution.manifest.v2+json; charset=utf-8",
                false,
            ),
            (manifest(DOCKER_MANIFEST), "application/json", false),
            (manifest(""), "text/plain", false),
            (index(OCI_INDEX), OCI_INDEX, true),
            (index(DOCKER_LIST), DOCKER_LIST, true),
            (index(""), "", true),
        ] {
            let document = Document::parse(text.as_bytes(), Some(declared)).unwrap();
            assert_eq!(matches!(document, Document::Index(_)), is_index, "{text}");
        }
    }

    #[test]
    fn cve_2021_41190_a_document_of_two_kinds_is_refused() {
        let both = manifest("").replace("\"layers\"", "\"manifests\":[],\"layers\"");
        let own_type = manifest(DOCKER_MANIFEST);
        for (text, declared, message) in [
            (both.as_str(), OCI_MANIFEST, "ambiguous"),
            (both.as_str(), OCI_INDEX, "ambiguous"),
            (own_type.as_str(), OCI_INDEX, "calls itself"),
            (own_type.as_str(), OCI_MANIFEST, "calls itself"),
            (&manifest(""), OCI_INDEX, "not what its media type"),
            (&index(""), DOCKER_MANIFEST, "not what its media type"),
            ("{}", OCI_MANIFEST, "not what its media type"),
            (
                r#"{"schemaVersion":2}"#,
                "text/plain",
                "not what its media type",
            ),
            (
                &manifest(""),
                "application/vnd.cncf.helm.config.v1+json",
                "is not an image's",
            ),
            (r#"{"schemaVersion":1,"fsLayers":[]}"#, "", "schema 1"),
            (r#"{"schemaVersion":1}"#, SCHEMA1[1], "schema 1"),
            (&manifest(""), SCHEMA1[0], "schema 1"),
            ("[]", OCI_MANIFEST, "read a manifest"),
        ] {
            let error = Document::parse(text.as_bytes(), Some(declared)).unwrap_err();
            assert!(error.to_string().contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn a_repeated_key_is_refused() {
        let text = manifest("").replace("\"layers\":[]", "\"layers\":[],\"layers\":[]");
        assert!(Document::parse(text.as_bytes(), Some(OCI_MANIFEST)).is_err());
    }
}
