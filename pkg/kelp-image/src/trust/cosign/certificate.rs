//! Fulcio's certificates: a person's key for ten minutes, vouched for by an authority.

use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_cert::Certificate;
use x509_cert::der::asn1::{ObjectIdentifier, Utf8StringRef};
use x509_cert::der::{Decode, Encode};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use super::PublicKey;

/// Code signing, id-kp 3 of RFC 5280, in DER.
const CODE_SIGNING: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 3];

/// Fulcio's extensions for who vouches for the person: a bare text, and later one in DER.
const ISSUER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.1");
const ISSUER_IN_DER: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.57264.1.8");

/// An authority, and whom it must have vouched for.
pub(super) struct Authority {
    anchors: Vec<TrustAnchor<'static>>,
    issuer: String,
    email: String,
}

impl Authority {
    /// Reads the authority's certificates.
    pub(super) fn parse(sources: &[Vec<u8>], issuer: &str, email: &str) -> Result<Self, String> {
        let mut anchors = Vec::new();
        for source in sources {
            for certificate in certificates(source)? {
                let anchor = anchor_from_trusted_cert(&certificate)
                    .map_err(|error| format!("fulcio's certificate: {error}"))?;
                anchors.push(anchor.to_owned());
            }
        }
        if anchors.is_empty() {
            return Err("fulcio's file has no certificate".to_owned());
        }
        Ok(Self {
            anchors,
            issuer: issuer.to_owned(),
            email: email.to_owned(),
        })
    }

    /// The key of a certificate that this authority gave the person who is meant, and that was valid
    /// at a time (seconds since 1970).
    pub(super) fn key_of(&self, leaf: &[u8], chain: &str, time: u64) -> Result<PublicKey, String> {
        let words = |error: &dyn std::fmt::Display| format!("the certificate is not good: {error}");
        // The root at the end of what comes with a signature is the rule's to name.
        let mut intermediates = certificates(chain.as_bytes())?;
        intermediates.pop();
        let der = CertificateDer::from(leaf);
        EndEntityCert::try_from(&der)
            .and_then(|certificate| {
                certificate
                    .verify_for_usage(
                        ALL_VERIFICATION_ALGS,
                        &self.anchors,
                        &intermediates,
                        UnixTime::since_unix_epoch(Duration::from_secs(time)),
                        KeyUsage::required(CODE_SIGNING),
                        None,
                        None,
                    )
                    .map(drop)
            })
            .map_err(|error| words(&error))?;
        let certificate = Certificate::from_der(leaf).map_err(|error| words(&error))?;
        let said = issuer(&certificate)?;
        if said != self.issuer {
            return Err(format!("the certificate was issued by way of {said:?}"));
        }
        let emails = emails(&certificate)?;
        if !emails.contains(&self.email) {
            return Err(format!(
                "the certificate is for {}",
                if emails.is_empty() {
                    "no address".to_owned()
                } else {
                    emails.join(", ")
                }
            ));
        }
        let spki = certificate
            .tbs_certificate()
            .subject_public_key_info()
            .to_der()
            .map_err(|error| words(&error))?;
        PublicKey::from_spki(&spki)
    }
}

/// The only certificate of a PEM text, in DER.
pub(super) fn leaf(text: &str) -> Result<Vec<u8>, String> {
    match certificates(text.as_bytes())?.as_slice() {
        [one] => Ok(one.to_vec()),
        other => Err(format!("it has {} certificates for one", other.len())),
    }
}

fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    CertificateDer::pem_slice_iter(text)
        .map(|certificate| certificate.map_err(|error| format!("a certificate: {error}")))
        .collect()
}

fn issuer(certificate: &Certificate) -> Result<String, String> {
    let extensions = certificate.tbs_certificate().extensions();
    let values = |id: ObjectIdentifier| {
        extensions
            .into_iter()
            .flatten()
            .filter(move |extension| extension.extn_id == id)
            .map(|extension| extension.extn_value.as_bytes())
    };
    let text = |bytes: &[u8]| {
        String::from_utf8(bytes.to_owned())
            .map_err(|_| "the certificate's issuer is no text".to_owned())
    };
    let mut said = Vec::new();
    for value in values(ISSUER) {
        said.push(text(value)?);
    }
    for value in values(ISSUER_IN_DER) {
        let value = Utf8StringRef::from_der(value)
            .map_err(|error| format!("the certificate's issuer: {error}"))?;
        said.push(value.to_string());
    }
    match said.as_slice() {
        [] => Err("the certificate does not say who vouches for its holder".to_owned()),
        [first, others @ ..] if others.iter().all(|other| other == first) => Ok(first.clone()),
        _ => Err("the certificate says twice who vouches for its holder".to_owned()),
    }
}

fn emails(certificate: &Certificate) -> Result<Vec<String>, String> {
    let names = certificate
        .tbs_certificate()
        .get_extension::<SubjectAltName>()
        .map_err(|error| format!("the certificate's names: {error}"))?;
    let names = names.into_iter().flat_map(|(_, names)| names.0);
    Ok(names
        .filter_map(|name| match name {
            GeneralName::Rfc822Name(email) => Some(email.to_string()),
            _ => None,
        })
        .collect())
}
