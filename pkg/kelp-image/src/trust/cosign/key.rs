//! Keys of sigstore signatures: PEM in, signatures in and out.

use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA256_ASN1, ED25519,
    EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256,
    RsaKeyPair, UnparsedPublicKey, VerificationAlgorithm,
};
use x509_cert::der::asn1::ObjectIdentifier;
use x509_cert::der::pem::{self, LineEnding};
use x509_cert::der::{Decode, Encode};
use x509_cert::spki::SubjectPublicKeyInfoOwned;

use super::encrypted;
use crate::Error;

// RFC 3279, RFC 5480 and RFC 8410.
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const ED: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// The label of an encrypted key; both names have the same content.
const ENCRYPTED: [&str; 2] = [
    "ENCRYPTED COSIGN PRIVATE KEY",
    "ENCRYPTED SIGSTORE PRIVATE KEY",
];

/// A key that signatures are checked by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicKey {
    kind: Kind,
    key: Vec<u8>,
    spki: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    P256,
    P384,
    Rsa,
    Ed25519,
}

impl PublicKey {
    /// Parses `-----BEGIN PUBLIC KEY-----`.
    pub fn from_pem(text: &[u8]) -> Result<Self, String> {
        let (label, der) = decode(text).map_err(|error| format!("no public key: {error}"))?;
        if label != "PUBLIC KEY" {
            return Err(format!("no public key, but a {label}"));
        }
        Self::from_spki(&der)
    }

    /// Parses a SubjectPublicKeyInfo (RFC 5280).
    pub(super) fn from_spki(der: &[u8]) -> Result<Self, String> {
        let info = SubjectPublicKeyInfoOwned::from_der(der)
            .map_err(|error| format!("no public key: {error}"))?;
        let curve = || {
            let parameters = info.algorithm.parameters.as_ref();
            parameters.and_then(|any| any.decode_as::<ObjectIdentifier>().ok())
        };
        let kind = match info.algorithm.oid {
            EC if curve() == Some(P256) => Kind::P256,
            EC if curve() == Some(P384) => Kind::P384,
            RSA => Kind::Rsa,
            ED => Kind::Ed25519,
            other => {
                return Err(format!(
                    "the public key is of a kind ({other}) that is not supported: use ECDSA P-256 \
                     or P-384, RSA or Ed25519"
                ));
            }
        };
        let key = info.subject_public_key.as_bytes();
        Ok(Self {
            kind,
            key: key
                .ok_or("no public key: an odd number of bits")?
                .to_owned(),
            spki: der.to_owned(),
        })
    }

    /// As in a certificate.
    pub(super) fn spki(&self) -> &[u8] {
        &self.spki
    }

    pub(super) fn is_ecdsa(&self) -> bool {
        matches!(self.kind, Kind::P256 | Kind::P384)
    }

    /// Whether this key has signed a message.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        // cosign hashes with SHA-256 whatever the curve.
        let algorithm: &dyn VerificationAlgorithm = match self.kind {
            Kind::P256 => &ECDSA_P256_SHA256_ASN1,
            Kind::P384 => &ECDSA_P384_SHA256_ASN1,
            Kind::Rsa => &RSA_PKCS1_2048_8192_SHA256,
            Kind::Ed25519 => &ED25519,
        };
        UnparsedPublicKey::new(algorithm, &self.key)
            .verify(message, signature)
            .is_ok()
    }
}

/// A key that signs.
pub struct SigningKey(Secret);

enum Secret {
    P256(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
    Rsa(Box<RsaKeyPair>),
}

impl SigningKey {
    /// Parses a private key as cosign and skopeo write it, encrypted by a passphrase, or in PKCS #8
    /// without one.
    pub fn from_pem(text: &[u8], passphrase: Option<&str>) -> Result<Self, Error> {
        let (label, bytes) =
            decode(text).map_err(|error| Error::Invalid(format!("no private key: {error}")))?;
        if label == "PRIVATE KEY" {
            return Self::from_pkcs8(&bytes);
        }
        if !ENCRYPTED.contains(&label.as_str()) {
            return Err(Error::Invalid(format!(
                "no sigstore private key, but a {label}: make one with cosign generate-key-pair, \
                 or kelp image trust generate-sigstore-key"
            )));
        }
        let passphrase = passphrase.ok_or_else(|| {
            Error::Invalid(
                "the private key has a passphrase: put that into a file for \
                 --sign-passphrase-file"
                    .to_owned(),
            )
        })?;
        Self::from_pkcs8(&encrypted::open(&bytes, passphrase)?)
    }

    fn from_pkcs8(der: &[u8]) -> Result<Self, Error> {
        let random = SystemRandom::new();
        let ecdsa = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, der, &random);
        if let Ok(key) = ecdsa {
            return Ok(Self(Secret::P256(key)));
        }
        if let Ok(key) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
            return Ok(Self(Secret::Ed25519(key)));
        }
        if let Ok(key) = RsaKeyPair::from_pkcs8(der) {
            return Ok(Self(Secret::Rsa(Box::new(key))));
        }
        Err(Error::Invalid(
            "the private key is of a kind that is not supported: use ECDSA P-256, Ed25519, or RSA \
             of 2048 bits or more"
                .to_owned(),
        ))
    }

    pub(super) fn sign(&self, message: &[u8]) -> Result<Vec<u8>, Error> {
        let random = SystemRandom::new();
        let failed = |_| Error::Invalid("the private key can't sign".to_owned());
        match &self.0 {
            Secret::P256(key) => {
                let made = key.sign(&random, message).map_err(failed)?;
                Ok(made.as_ref().to_owned())
            }
            Secret::Ed25519(key) => Ok(key.sign(message).as_ref().to_owned()),
            Secret::Rsa(key) => {
                let mut made = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut made)
                    .map_err(failed)?;
                Ok(made)
            }
        }
    }
}

/// A new ECDSA P-256 key pair in PEM: the private key, encrypted by a passphrase, and the public key.
pub fn generate(passphrase: &str) -> Result<(String, String), Error> {
    let random = SystemRandom::new();
    let failed = || Error::Invalid("make a key".to_owned());
    let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, &random)
        .map_err(|_| failed())?;
    let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8.as_ref(), &random)
        .map_err(|_| failed())?;
    let sealed = encrypted::seal(pkcs8.as_ref(), passphrase)?;
    let private = encode(ENCRYPTED[0], &sealed)?;
    let public = encode("PUBLIC KEY", &p256_spki(pair.public_key().as_ref())?)?;
    Ok((private, public))
}

fn p256_spki(point: &[u8]) -> Result<Vec<u8>, Error> {
    use x509_cert::der::Any;
    use x509_cert::der::asn1::BitString;
    use x509_cert::spki::{AlgorithmIdentifier, SubjectPublicKeyInfo};
    let info = || -> x509_cert::der::Result<Vec<u8>> {
        SubjectPublicKeyInfo {
            algorithm: AlgorithmIdentifier {
                oid: EC,
                parameters: Some(Any::encode_from(&P256)?),
            },
            subject_public_key: BitString::from_bytes(point)?,
        }
        .to_der()
    };
    info().map_err(|error| Error::Invalid(format!("write the public key: {error}")))
}

/// The label and content of the only section of a PEM text.
fn decode(text: &[u8]) -> Result<(String, Vec<u8>), String> {
    let (label, bytes) = pem::decode_vec(text.trim_ascii()).map_err(|error| error.to_string())?;
    Ok((label.to_owned(), bytes))
}

fn encode(label: &str, bytes: &[u8]) -> Result<String, Error> {
    pem::encode_string(label, LineEnding::LF, bytes)
        .map_err(|error| Error::Invalid(format!("write a key: {error}")))
}
