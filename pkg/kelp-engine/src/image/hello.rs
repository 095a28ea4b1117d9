//! The embedded image: kelp itself as the only file, made when it is first asked for.
//!
//! It needs no network and no registry, and is an image like any other from then on: blobs, a layer
//! and a record in the store.

use std::fs::File;
use std::io::Read;

use kelp_image::Digest;
use kelp_image::blob::BlobStore;
use serde_json::json;

use crate::Error;

/// The names that it answers to, where no other image has them.
pub const NAMES: &[&str] = &[
    "hello",
    "hello:latest",
    "localhost/hello",
    "localhost/hello:latest",
];

/// Its full name.
pub const NAME: &str = "localhost/hello:latest";

/// Writes the blobs of the embedded image; the digest of its manifest.
pub(crate) fn write_blobs(blobs: &BlobStore) -> Result<Digest, Error> {
    write_image(blobs, "hello")
}

/// Writes the blobs of an image whose only file is kelp, and whose program is this hidden role.
pub(super) fn write_image(blobs: &BlobStore, role: &str) -> Result<Digest, Error> {
    let (layer, size) = write_layer(blobs)?;
    // Deterministic but for the binary itself: no date of making.
    let config = json!({
        "created": "1970-01-01T00:00:00Z",
        "architecture": architecture(),
        "os": "linux",
        "config": {
            "Entrypoint": ["/kelp", "internal", role],
            "Env": ["PATH=/"],
            "Labels": {
                "org.opencontainers.image.title": role,
                "org.opencontainers.image.version": env!("CARGO_PKG_VERSION"),
            },
        },
        "rootfs": { "type": "layers", "diff_ids": [layer.to_string()] },
        "history": [{ "created": "1970-01-01T00:00:00Z", "created_by": "kelp" }],
    })
    .to_string();
    let config_digest = blobs.put(config.as_bytes(), None)?;
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": config_digest.to_string(),
            "size": config.len(),
        },
        "layers": [{
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": layer.to_string(),
            "size": size,
        }],
    });
    Ok(blobs.put(manifest.to_string().as_bytes(), None)?)
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// An archive with one file, not compressed: the digest of the blob is the layer's diff id as well.
fn write_layer(blobs: &BlobStore) -> Result<(Digest, u64), Error> {
    let what = "read kelp's own binary";
    let mut binary = Vec::new();
    File::open("/proc/self/exe")
        .and_then(|mut file| file.read_to_end(&mut binary))
        .map_err(Error::io(what))?;
    let mut archive = Vec::with_capacity(binary.len() + 4096);
    archive.extend_from_slice(&header("kelp", 0o755, binary.len() as u64));
    archive.extend_from_slice(&binary);
    archive.resize(archive.len().next_multiple_of(512) + 1024, 0);
    Ok((blobs.put(&archive, None)?, archive.len() as u64))
}

/// A ustar header for a regular file of root's (tar(5)).
fn header(name: &str, mode: u32, size: u64) -> [u8; 512] {
    let mut header = [0; 512];
    let mut put = |at: usize, text: &str| {
        header[at..at + text.len()].copy_from_slice(text.as_bytes());
    };
    put(0, name);
    put(100, &format!("{mode:07o}"));
    put(108, "0000000");
    put(116, "0000000");
    put(124, &format!("{size:011o}"));
    put(136, "00000000000");
    put(148, "        ");
    put(156, "0");
    put(257, "ustar");
    put(263, "00");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_is_one_that_tar_reads() {
        let header = header("kelp", 0o755, 4_260_920);
        assert_eq!(&header[..4], b"kelp");
        assert_eq!(&header[124..135], b"00020202070");
        let sum: u32 = header
            .iter()
            .enumerate()
            .map(|(at, &byte)| {
                if (148..156).contains(&at) {
                    32
                } else {
                    u32::from(byte)
                }
            })
            .sum();
        assert_eq!(&header[148..154], format!("{sum:06o}").as_bytes());
    }
}
