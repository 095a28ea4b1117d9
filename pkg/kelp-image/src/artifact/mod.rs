//! Artifacts: files in a registry under a manifest of their own (OCI image specification, manifest.md, "Guidelines
//! for Artifact Usage"), from which no container is made.
//!
//! They are brought, kept and sent as images are, but for one thing: a blob is a file as it stands, and nothing is
//! extracted. What they are called in the store is told in [`crate::store`].

pub mod add;
mod content_type;
pub mod extract;
pub mod file;
pub mod pull;

use oci_spec::image::ImageManifest;

use crate::Error;
use crate::manifest::{check_config_type, check_layer_type};

/// The annotation of a manifest that says when the artifact was made (RFC 3339).
pub const CREATED: &str = "org.opencontainers.image.created";

/// The annotation of a blob that says what the file is called.
pub const TITLE: &str = "org.opencontainers.image.title";

/// Whether a manifest is a container image's, which is no artifact: its config is an image's, and so is every
/// layer. Signatures and the like have such a config as well.
pub fn is_image(manifest: &ImageManifest) -> bool {
    let config = check_config_type(manifest.config().media_type().as_ref());
    let layer = |media_type: &str| check_layer_type(media_type).is_ok();
    manifest.artifact_type().is_none()
        && config.is_ok()
        && manifest
            .layers()
            .iter()
            .all(|descriptor| layer(descriptor.media_type().as_ref()))
}

/// Says of a blob that an artifact needs and that is not here what it is, and the way out.
pub fn missing(error: Error) -> Error {
    match error {
        Error::NotFound(blob) => Error::Invalid(format!(
            "{blob} of the artifact is missing on this machine: kelp system check says what can be repaired"
        )),
        other => other,
    }
}

/// Refuses a manifest that is no artifact's, or that can't be used as one.
pub(crate) fn check(name: &str, manifest: &ImageManifest) -> Result<(), Error> {
    if is_image(manifest) {
        return Err(Error::Invalid(format!(
            "{name} is a container image and no artifact: use kelp pull {name}"
        )));
    }
    let encrypted = |media_type: &str| media_type.ends_with("+encrypted");
    if manifest
        .layers()
        .iter()
        .any(|descriptor| encrypted(descriptor.media_type().as_ref()))
    {
        return Err(Error::Invalid(format!(
            "{name}: the artifact's files are encrypted, and kelp has no keys"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn manifest(config: &str, layer: &str, artifact_type: Option<&str>) -> ImageManifest {
        let digest = format!("sha256:{}", "0".repeat(64));
        let mut text = json!({
            "schemaVersion": 2,
            "config": {"mediaType": config, "digest": digest, "size": 2},
            "layers": [{"mediaType": layer, "digest": digest, "size": 2}],
        });
        if let Some(artifact_type) = artifact_type {
            text["artifactType"] = artifact_type.into();
        }
        serde_json::from_value(text).unwrap()
    }

    #[test]
    fn an_image_is_what_can_be_run() {
        let (oci, docker) = (
            "application/vnd.oci.image.config.v1+json",
            "application/vnd.docker.container.image.v1+json",
        );
        let layer = "application/vnd.oci.image.layer.v1.tar+gzip";
        for (config, layer, artifact_type, image) in [
            (oci, layer, None, true),
            (
                docker,
                "application/vnd.docker.image.rootfs.diff.tar.gzip",
                None,
                true,
            ),
            (oci, layer, Some("application/x"), false),
            // As cosign keeps signatures.
            (
                oci,
                "application/vnd.dev.cosign.simplesigning.v1+json",
                None,
                false,
            ),
            ("application/vnd.oci.empty.v1+json", layer, None, false),
            (
                "application/vnd.cncf.helm.config.v1+json",
                "text/plain",
                None,
                false,
            ),
        ] {
            let manifest = manifest(config, layer, artifact_type);
            assert_eq!(is_image(&manifest), image, "{config} {layer}");
        }
    }

    #[test]
    fn what_can_not_be_used_is_refused_with_the_way_out() {
        let config = "application/vnd.oci.empty.v1+json";
        let encrypted = manifest(config, "text/plain+encrypted", None);
        let error = check("h/a", &encrypted).unwrap_err().to_string();
        assert_eq!(
            error,
            "h/a: the artifact's files are encrypted, and kelp has no keys"
        );
        let image = manifest(
            "application/vnd.oci.image.config.v1+json",
            "application/vnd.oci.image.layer.v1.tar",
            None,
        );
        let error = check("h/a", &image).unwrap_err().to_string();
        assert_eq!(
            error,
            "h/a is a container image and no artifact: use kelp pull h/a"
        );
    }
}
