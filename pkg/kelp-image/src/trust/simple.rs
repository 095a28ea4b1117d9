//! Simple signing: an OpenPGP message around a claim, kept beside the registry.
//!
//! Keys and signatures are sequoia's, by its standard policy: SHA-1 and short RSA keys sign nothing.

use std::fmt;
use std::io::{Read, Write};

use sequoia_openpgp::cert::prelude::*;
use sequoia_openpgp::crypto::{KeyPair, Password};
use sequoia_openpgp::parse::Parse;
use sequoia_openpgp::parse::stream::{
    GoodChecksum, MessageLayer, MessageStructure, VerificationHelper, VerificationResult,
    VerifierBuilder,
};
use sequoia_openpgp::policy::StandardPolicy;
use sequoia_openpgp::serialize::stream::{LiteralWriter, Message, Signer};
use sequoia_openpgp::{Cert, KeyHandle};

use super::claim;
use super::cosign::attachment::SIZE_LIMIT;
use super::identity::SignedIdentity;
use crate::Error;
use crate::reference::Reference;

/// Public keys, any of which may sign.
pub struct Keys(Vec<Cert>);

impl Keys {
    /// Parses files or data: each holds one key or several, armored or not.
    pub fn parse(sources: &[Vec<u8>]) -> Result<Self, String> {
        let mut keys = Vec::new();
        for source in sources {
            for key in parse(source)? {
                keys.push(key.strip_secret_key_material());
            }
        }
        if keys.is_empty() {
            return Err("no OpenPGP key is there".to_owned());
        }
        Ok(Self(keys))
    }

    /// The addresses that the keys are for, or their fingerprints where they have none.
    pub fn owners(&self) -> Vec<String> {
        let mut owners = Vec::new();
        for key in &self.0 {
            let before = owners.len();
            for id in key.userids() {
                let id = id.userid();
                let address = id.email().ok().flatten().map(str::to_owned);
                owners.push(address.unwrap_or_else(|| String::from_utf8_lossy(id.value()).into()));
            }
            if owners.len() == before {
                owners.push(key.fingerprint().to_hex());
            }
        }
        owners
    }
}

fn parse(source: &[u8]) -> Result<Vec<Cert>, String> {
    let words = |error| format!("no OpenPGP key: {}", one_line(&error));
    let keys = CertParser::from_bytes(source).map_err(words)?;
    keys.map(|key| key.map_err(words)).collect()
}

fn one_line(error: &impl fmt::Display) -> String {
    error.to_string().replace('\n', " ")
}

/// Whether a signature is by one of the keys, and about this manifest under a name that fits; else why
/// not.
pub(super) fn verify(
    signature: &[u8],
    keys: &Keys,
    manifest: &[u8],
    image: Option<&Reference>,
    identity: &SignedIdentity,
) -> Result<(), String> {
    let signed = signed(signature, keys)?;
    claim::check(claim::SIMPLE, &signed, manifest, image, identity)
}

/// What one of the keys has signed.
pub(super) fn signed(signature: &[u8], keys: &Keys) -> Result<Vec<u8>, String> {
    let policy = StandardPolicy::new();
    let words = |error| format!("the signature is not good: {}", one_line(&error));
    let mut verifier = VerifierBuilder::from_bytes(signature)
        .map_err(words)?
        .with_policy(&policy, None, Check(keys))
        .map_err(words)?;
    let mut signed = Vec::new();
    // What is small may unpack to what is large; only at the end is it known to be good.
    verifier
        .by_ref()
        .take(SIZE_LIMIT as u64 + 1)
        .read_to_end(&mut signed)
        .map_err(|error| format!("the signature is not good: {}", one_line(&error)))?;
    if signed.len() > SIZE_LIMIT {
        return Err("the signature is not good: it is too large".to_owned());
    }
    Ok(signed)
}

/// Exactly one signature, and a good one, by a key that is known.
struct Check<'a>(&'a Keys);

impl VerificationHelper for Check<'_> {
    fn get_certs(&mut self, _: &[KeyHandle]) -> sequoia_openpgp::Result<Vec<Cert>> {
        Ok(self.0.0.clone())
    }

    fn check(&mut self, structure: MessageStructure<'_>) -> sequoia_openpgp::Result<()> {
        let mut good = 0;
        for layer in structure {
            match layer {
                MessageLayer::Compression { .. } => {}
                MessageLayer::SignatureGroup { results } => {
                    for result in results {
                        by_known_key(result)?;
                        good += 1;
                    }
                }
                MessageLayer::Encryption { .. } => {
                    return refused("it is encrypted");
                }
            }
        }
        match good {
            1 => Ok(()),
            0 => refused("nothing is signed"),
            _ => refused("it is signed more than once"),
        }
    }
}

fn by_known_key(result: VerificationResult<'_>) -> sequoia_openpgp::Result<()> {
    use sequoia_openpgp::parse::stream::VerificationError as E;
    match result {
        Ok(GoodChecksum { .. }) => Ok(()),
        Err(E::MissingKey { sig }) => {
            let keys: Vec<String> = sig.get_issuers().iter().map(KeyHandle::to_hex).collect();
            refused(&format!(
                "it is by a key that is not among those of the rule, {}",
                keys.join(", ")
            ))
        }
        Err(E::BadSignature { .. }) => refused("it is not what the key has signed"),
        Err(other) => refused(&one_line(&other)),
    }
}

fn refused<T>(reason: &str) -> sequoia_openpgp::Result<T> {
    Err(std::io::Error::other(reason.to_owned()).into())
}

/// A secret key that signs.
pub struct SigningKey {
    pair: KeyPair,
    fingerprint: String,
}

impl SigningKey {
    /// Takes a key out of what `gpg --export-secret-keys` writes: the one that `wanted` means (a
    /// fingerprint, a key id, an address or a part of a user's name), or the only one.
    pub fn parse(
        source: &[u8],
        wanted: Option<&str>,
        passphrase: Option<&str>,
    ) -> Result<Self, Error> {
        let keys = parse(source).map_err(Error::Invalid)?;
        let mut keys = keys
            .iter()
            .filter(|key| wanted.is_none_or(|wanted| is_meant(key, wanted)));
        let meant = wanted.unwrap_or("any");
        let key = keys
            .next()
            .ok_or_else(|| Error::Invalid(format!("no key {meant} is there")))?;
        if keys.next().is_some() {
            return Err(Error::Invalid(format!(
                "several keys are there that {meant} could mean: give a fingerprint"
            )));
        }
        Self::of(key, passphrase)
    }

    fn of(cert: &Cert, passphrase: Option<&str>) -> Result<Self, Error> {
        let policy = StandardPolicy::new();
        let name = cert.fingerprint().to_hex();
        let invalid = |reason: &str| Error::Invalid(format!("key {name}: {reason}"));
        let key = cert
            .keys()
            .with_policy(&policy, None)
            .supported()
            .alive()
            .revoked(false)
            .for_signing()
            .secret()
            .next()
            .ok_or_else(|| {
                invalid(
                    "no secret key that may sign now is there: export one with gpg --armor \
                     --export-secret-keys",
                )
            })?;
        let mut secret = key.key().clone();
        if !secret.has_unencrypted_secret() {
            let passphrase = passphrase.ok_or_else(|| {
                invalid("it has a passphrase: put that into a file for --sign-passphrase-file")
            })?;
            secret = secret
                .decrypt_secret(&Password::from(passphrase))
                .map_err(|error| invalid(&one_line(&error)))?;
        }
        let pair = secret
            .into_keypair()
            .map_err(|error| invalid(&one_line(&error)))?;
        Ok(Self {
            pair,
            fingerprint: name,
        })
    }

    /// The fingerprint of the key, as gpg shows it.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }
}

fn is_meant(key: &Cert, wanted: &str) -> bool {
    let digits: String = wanted.chars().filter(|c| !c.is_whitespace()).collect();
    let digits = digits.to_ascii_uppercase();
    let digits = digits.strip_prefix("0X").unwrap_or(&digits);
    let is_id = digits.len() >= 8 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_id {
        return key
            .keys()
            .any(|key| key.key().fingerprint().to_hex().ends_with(digits));
    }
    let wanted = wanted.to_lowercase();
    key.userids().any(|id| {
        String::from_utf8_lossy(id.userid().value())
            .to_lowercase()
            .contains(&wanted)
    })
}

/// Signs a manifest under a name: what a lookaside directory keeps as `signature-N`.
///
/// The name is the one that the image will be pulled by, with its tag.
pub fn sign(key: &SigningKey, manifest: &[u8], name: &Reference) -> Result<Vec<u8>, Error> {
    let claim = claim::write(claim::SIMPLE, manifest, name)?;
    let mut signature = Vec::new();
    write(&mut signature, key, &claim).map_err(|error| {
        Error::Invalid(format!(
            "sign with key {}: {}",
            key.fingerprint,
            one_line(&error)
        ))
    })?;
    Ok(signature)
}

fn write(sink: &mut Vec<u8>, key: &SigningKey, claim: &[u8]) -> sequoia_openpgp::Result<()> {
    let message = Message::new(sink);
    let message = Signer::new(message, key.pair.clone())?.build()?;
    let mut message = LiteralWriter::new(message).build()?;
    message.write_all(claim)?;
    message.finalize()
}
