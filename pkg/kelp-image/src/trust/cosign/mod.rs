//! sigstore signatures as cosign lays them out: a claim, signed by a key, beside the image in its
//! repository under the tag `sha256-<hex>.sig`.
//!
//! The signature itself is checked by ring, which is here for TLS anyway; so is the chain of a
//! certificate, by webpki. The `sigstore` crate would bring a second of each: it works on aws-lc or
//! OpenSSL alone, and its part for cosign has its own registry client.

pub mod attachment;
mod certificate;
mod encrypted;
mod key;
mod log;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use super::claim;
use super::policy::{SigstoreSigned, SigstoreSigner};
use crate::Error;
use crate::reference::Reference;
use crate::role::one_line;

pub use key::{PublicKey, SigningKey, generate};

/// The media type of a signature among what is attached to an image.
pub const MEDIA_TYPE: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const LOG_ENTRY: &str = "dev.sigstore.cosign/bundle";
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const CHAIN: &str = "dev.sigstore.cosign/chain";

/// One signature: what is signed, and what is said about it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    /// [`MEDIA_TYPE`], unless it is something else that is attached.
    #[serde(rename = "mimeType")]
    pub media_type: String,
    /// The claim that is signed.
    #[serde(with = "base64_bytes")]
    pub payload: Vec<u8>,
    /// The signature, the log's entry, the certificate.
    pub annotations: BTreeMap<String, String>,
}

mod base64_bytes {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map_err(D::Error::custom)
    }
}

/// What a rule needs to have read before it looks at signatures.
pub(super) struct Roots {
    keys: Vec<PublicKey>,
    log: Option<Vec<PublicKey>>,
    authority: Option<certificate::Authority>,
}

impl Roots {
    /// Reads keys and certificates; any that is none is an error, though another would do.
    pub(super) fn load(rule: &SigstoreSigned) -> Result<Self, String> {
        let keys_of = |source: &super::policy::KeySource| -> Result<Vec<PublicKey>, String> {
            let sources = source.load().map_err(|error| one_line(&error))?;
            sources.iter().map(|pem| PublicKey::from_pem(pem)).collect()
        };
        let (keys, authority) = match &rule.signer {
            SigstoreSigner::Keys(source) => (keys_of(source)?, None),
            SigstoreSigner::Fulcio {
                authority,
                issuer,
                email,
            } => {
                let sources = authority.load().map_err(|error| one_line(&error))?;
                let authority = certificate::Authority::parse(&sources, issuer, email)?;
                (Vec::new(), Some(authority))
            }
            SigstoreSigner::Pki => {
                return Err("pki is not supported by kelp: use keyPath or fulcio".to_owned());
            }
        };
        let log = rule.log.as_ref().map(keys_of).transpose()?;
        if let Some(log) = &log
            && log.iter().any(|key| !key.is_ecdsa())
        {
            return Err("the log's public key is not an ECDSA key".to_owned());
        }
        Ok(Self {
            keys,
            log,
            authority,
        })
    }
}

/// Whether a signature is by whom the rule asks for, and about this manifest under a name that fits;
/// else why not.
pub(super) fn verify(
    attachment: &Attachment,
    roots: &Roots,
    rule: &SigstoreSigned,
    manifest: &[u8],
    image: Option<&Reference>,
) -> Result<(), String> {
    let text = attachment
        .annotations
        .get(SIGNATURE)
        .ok_or("it has no signature")?;
    let signature = STANDARD
        .decode(text)
        .map_err(|error| format!("the signature is not base64: {error}"))?;
    let signed = Signed {
        payload: &attachment.payload,
        signature: &signature,
    };
    let keys = signers(attachment, roots, &signed)?;
    if !keys
        .iter()
        .any(|key| key.verifies(signed.payload, signed.signature))
    {
        return Err("the signature is not by a key of the rule, or was changed".to_owned());
    }
    claim::check(
        claim::COSIGN,
        signed.payload,
        manifest,
        image,
        &rule.identity,
    )
}

/// What the log and a key must agree on.
struct Signed<'a> {
    payload: &'a [u8],
    signature: &'a [u8],
}

/// The keys by any of which the signature must be, after the log and the certificate were checked.
fn signers(
    attachment: &Attachment,
    roots: &Roots,
    signed: &Signed<'_>,
) -> Result<Vec<PublicKey>, String> {
    let Some(log) = &roots.log else {
        return Ok(roots.keys.clone());
    };
    let annotation = |name: &str| attachment.annotations.get(name).map(String::as_str);
    let entry = annotation(LOG_ENTRY).ok_or("no transparency log has it")?;
    let entry = log::Entry::verified(entry, log)?;
    let Some(authority) = &roots.authority else {
        // The entry is about one key.
        let key = roots.keys.iter().find(|key| entry.is_by(key.spki()));
        let key = key.ok_or("the log's entry is for a key that is not the rule's")?;
        entry.check(signed)?;
        return Ok(vec![key.clone()]);
    };
    let certificate = annotation(CERTIFICATE).ok_or("it has no certificate")?;
    let leaf = certificate::leaf(certificate)?;
    if !entry.is_by(&leaf) {
        return Err("the log's entry is for another certificate".to_owned());
    }
    entry.check(signed)?;
    let chain = annotation(CHAIN).unwrap_or_default();
    let key = authority.key_of(&leaf, chain, entry.time())?;
    Ok(vec![key])
}

/// Signs a manifest under a name, by which the image will be pulled, with its tag.
///
/// [`attachment::attach`] makes of it what a registry keeps.
pub fn sign(key: &SigningKey, manifest: &[u8], name: &Reference) -> Result<Attachment, Error> {
    let payload = claim::write(claim::COSIGN, manifest, name)?;
    let signature = key.sign(&payload)?;
    Ok(Attachment {
        media_type: MEDIA_TYPE.to_owned(),
        annotations: BTreeMap::from([(SIGNATURE.to_owned(), STANDARD.encode(signature))]),
        payload,
    })
}

#[cfg(test)]
mod tests;
