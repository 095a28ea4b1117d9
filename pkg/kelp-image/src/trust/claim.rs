//! What a signature says: which manifest it is about, and by which name.
//!
//! Simple signing and cosign sign the same JSON but for its type (containers-signature(5)). It is read
//! only after the signature over it was found good, and strictly all the same.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::identity::SignedIdentity;
use crate::Error;
use crate::digest::{Digest, Hasher};
use crate::reference::Reference;

/// The type that simple signing writes.
pub(super) const SIMPLE: &str = "atomic container signature";

/// The type that cosign writes.
pub(super) const COSIGN: &str = "cosign container image signature";

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Claim {
    critical: Critical,
    // cosign writes null where there is nothing.
    optional: Option<Map<String, Value>>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Critical {
    identity: Identity,
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    #[serde(rename = "docker-reference")]
    reference: String,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: Digest,
}

/// What is signed of a manifest under a name.
pub(super) fn write(kind: &str, manifest: &[u8], name: &Reference) -> Result<Vec<u8>, Error> {
    let mut optional = Map::new();
    let creator = concat!("kelp ", env!("CARGO_PKG_VERSION"));
    optional.insert("creator".to_owned(), creator.into());
    if let Ok(now) = SystemTime::now().duration_since(UNIX_EPOCH) {
        optional.insert("timestamp".to_owned(), now.as_secs().into());
    }
    let claim = Claim {
        critical: Critical {
            identity: Identity {
                reference: name.to_string(),
            },
            image: Image {
                digest: Digest::of(manifest),
            },
            kind: kind.to_owned(),
        },
        optional: Some(optional),
    };
    serde_json::to_vec(&claim).map_err(Error::json("write what is signed"))
}

/// Whether signed words are about this manifest, and about a name that fits; else why not.
pub(super) fn check(
    kind: &str,
    signed: &[u8],
    manifest: &[u8],
    image: Option<&Reference>,
    identity: &SignedIdentity,
) -> Result<(), String> {
    let claim: Claim = serde_json::from_slice(signed)
        .map_err(|error| format!("what is signed is not what a signature says: {error}"))?;
    if claim.critical.kind != kind {
        return Err(format!(
            "what is signed is of the type {:?}",
            claim.critical.kind
        ));
    }
    let digest = claim.critical.image.digest;
    let mut hasher = Hasher::new(digest.algorithm());
    hasher.update(manifest);
    if hasher.finish() != digest {
        return Err(format!("the signature is for another manifest, {digest}"));
    }
    let name = claim.critical.identity.reference;
    if !identity.fits(image, &name) {
        return Err(format!("the signature is for another name, {name:?}"));
    }
    Ok(())
}
