//! The transparency log's word that it has a signature: Rekor's signed entry timestamp, which is
//! checked without asking the log.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use x509_cert::der::pem;

use super::{PublicKey, Signed};
use crate::digest::Digest;

/// Integers up to this are the same in every JSON (RFC 8785).
const EXACT: u64 = 1 << 53;

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "PascalCase")]
struct Bundle {
    signed_entry_timestamp: String,
    payload: Payload,
}

/// What the log has signed, in the order of RFC 8785.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Payload {
    body: String,
    #[serde(rename = "integratedTime")]
    time: u64,
    #[serde(rename = "logID")]
    log: String,
    #[serde(rename = "logIndex")]
    index: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Body {
    kind: String,
    api_version: String,
    spec: Spec,
}

#[derive(Deserialize)]
struct Spec {
    data: Data,
    signature: LoggedSignature,
}

#[derive(Deserialize)]
struct Data {
    hash: Hash,
}

#[derive(Deserialize)]
struct Hash {
    algorithm: String,
    value: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LoggedSignature {
    content: String,
    public_key: LoggedKey,
}

#[derive(Deserialize)]
struct LoggedKey {
    content: String,
}

/// An entry that the log has signed for.
pub(super) struct Entry {
    time: u64,
    payload: Digest,
    signature: Vec<u8>,
    /// The public key or the certificate, in DER.
    signer: Vec<u8>,
}

impl Entry {
    /// Reads what cosign keeps beside a signature, signed by one of these keys.
    pub(super) fn verified(bundle: &str, keys: &[PublicKey]) -> Result<Self, String> {
        let words = |error: serde_json::Error| format!("the log's entry: {error}");
        let bundle: Bundle = serde_json::from_str(bundle).map_err(words)?;
        let payload = canonical(&bundle.payload)?;
        let signature = decode(&bundle.signed_entry_timestamp)?;
        if !keys.iter().any(|key| key.verifies(&payload, &signature)) {
            return Err("the log's entry is not signed by the log".to_owned());
        }
        let body: Body = serde_json::from_slice(&decode(&bundle.payload.body)?).map_err(words)?;
        if body.kind != "hashedrekord" || body.api_version != "0.0.1" {
            return Err(format!(
                "the log's entry is a {} {}, which is not supported",
                body.kind, body.api_version
            ));
        }
        let hash = body.spec.data.hash;
        let payload = Some(hash.value)
            .filter(|_| hash.algorithm == "sha256")
            .and_then(|hex| Digest::from_sha256_hex(&hex))
            .ok_or("the log's entry is not for a SHA-256 digest")?;
        let signer = decode(&body.spec.signature.public_key.content)?;
        let (_, signer) = pem::decode_vec(signer.trim_ascii())
            .map_err(|error| format!("the log's entry: its public key: {error}"))?;
        Ok(Self {
            time: bundle.payload.time,
            payload,
            signature: decode(&body.spec.signature.content)?,
            signer,
        })
    }

    /// Whether it is about a signature of this key or certificate.
    pub(super) fn is_by(&self, signer: &[u8]) -> bool {
        self.signer == signer
    }

    /// Whether it is about this signature.
    pub(super) fn check(&self, signed: &Signed<'_>) -> Result<(), String> {
        if self.signature == signed.signature && self.payload == Digest::of(signed.payload) {
            Ok(())
        } else {
            Err("the log's entry is for another signature".to_owned())
        }
    }

    /// When the log got it, in seconds since 1970.
    pub(super) fn time(&self) -> u64 {
        self.time
    }
}

/// The JSON that is signed. Every value is one that has a single form there.
fn canonical(payload: &Payload) -> Result<Vec<u8>, String> {
    let plain = |text: &str| {
        text.bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/' | b'=' | b'-'))
    };
    let exact = payload.time < EXACT && payload.index < EXACT;
    if !(exact && plain(&payload.body) && plain(&payload.log)) {
        return Err("the log's entry has values that are none of a log's".to_owned());
    }
    serde_json::to_vec(payload).map_err(|error| error.to_string())
}

fn decode(text: &str) -> Result<Vec<u8>, String> {
    STANDARD
        .decode(text)
        .map_err(|error| format!("the log's entry: base64: {error}"))
}
