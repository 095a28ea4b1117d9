//! policy.json: which images are accepted, by where they come from.
//!
//! The format is containers-policy.json(5). It is read strictly: what is unknown, said twice or of
//! another type makes the whole file an error, because a rule that is not understood must not be
//! taken for a lax one. What is understood and can't be checked here (an X.509 key type, `pki`)
//! refuses the images that it is about, by its name.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::identity::SignedIdentity;
use super::parse;
use super::subject::Subject;
use crate::Error;
use crate::config_paths::ConfigPaths;

/// The name of the file in each directory that has one.
pub(super) const FILE: &str = "policy.json";

/// The rules of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Where no rule of a transport fits.
    pub default: Vec<Requirement>,
    /// By transport, then by scope; the scope `""` is for all of a transport's images.
    pub transports: BTreeMap<String, BTreeMap<String, Vec<Requirement>>>,
}

/// What an image must meet: all of a rule's requirements.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirement {
    /// Every image does.
    InsecureAcceptAnything,
    /// No image does.
    Reject,
    /// A signature of its base layers, which nobody has ever made.
    SignedBaseLayer,
    /// A simple signing signature.
    SignedBy(SignedBy),
    /// A sigstore signature.
    SigstoreSigned(Box<SigstoreSigned>),
}

impl Requirement {
    /// As the file calls it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::InsecureAcceptAnything => "insecureAcceptAnything",
            Self::Reject => "reject",
            Self::SignedBaseLayer => "signedBaseLayer",
            Self::SignedBy(_) => "signedBy",
            Self::SigstoreSigned(_) => "sigstoreSigned",
        }
    }

    /// Whether signatures are looked at.
    pub(super) fn wants_signatures(&self) -> bool {
        matches!(self, Self::SignedBy(_) | Self::SigstoreSigned(_))
    }
}

/// `signedBy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedBy {
    /// What the keys are.
    pub key_type: KeyType,
    /// The keys, any of which will do.
    pub keys: KeySource,
    /// What the signature must be about.
    pub identity: SignedIdentity,
}

/// What a key file of `signedBy` holds. Of these only the first was ever made by anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
pub enum KeyType {
    /// OpenPGP keys.
    #[serde(rename = "GPGKeys")]
    GpgKeys,
    /// Keys signed by OpenPGP keys.
    #[serde(rename = "signedByGPGKeys")]
    SignedByGpgKeys,
    /// Certificates.
    #[serde(rename = "X509Certificates")]
    X509Certificates,
    /// Certificates signed by authorities.
    #[serde(rename = "signedByX509CAs")]
    SignedByX509Cas,
}

/// `sigstoreSigned`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigstoreSigned {
    /// Who must have signed.
    pub signer: SigstoreSigner,
    /// The keys of the transparency log, if it must have the signature.
    pub log: Option<KeySource>,
    /// What the signature must be about.
    pub identity: SignedIdentity,
}

/// Who must have made a sigstore signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SigstoreSigner {
    /// The holder of any of these keys.
    Keys(KeySource),
    /// A person whom Fulcio gave a certificate.
    Fulcio {
        /// The authority's certificates.
        authority: KeySource,
        /// Who vouches for the person.
        issuer: String,
        /// The person's address.
        email: String,
    },
    /// The holder of a certificate of another authority.
    Pki,
}

/// Where keys are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// In files.
    Files(Vec<PathBuf>),
    /// In the policy itself.
    Data(Vec<Vec<u8>>),
}

impl KeySource {
    /// Reads them.
    pub fn load(&self) -> Result<Vec<Vec<u8>>, Error> {
        match self {
            Self::Data(data) => Ok(data.clone()),
            Self::Files(files) => files
                .iter()
                .map(|file| {
                    fs::read(file).map_err(Error::io(format!("read the key {}", file.display())))
                })
                .collect(),
        }
    }
}

/// The rule that an image falls under.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule<'a> {
    pub(super) requirements: &'a [Requirement],
    /// The transport and scope; `None` for the file's default.
    pub(super) place: Option<(&'a str, &'a str)>,
}

impl Policy {
    /// Parses a file's text.
    pub fn parse(text: &[u8]) -> Result<Self, String> {
        parse::policy(text)
    }

    /// Reads a file that must be there.
    pub fn read(file: &Path) -> Result<Self, Error> {
        let text = fs::read(file).map_err(Error::io(format!("read {}", file.display())))?;
        Self::parse(&text).map_err(|reason| {
            Error::Invalid(format!(
                "{}: {reason}; nothing is pulled by a policy that is not understood \
                 (containers-policy.json(5))",
                file.display()
            ))
        })
    }

    /// Finds the file as podman does: the one that was named, the user's, the machine's. `None` where
    /// there is none.
    pub fn find(paths: &ConfigPaths, named: Option<&Path>) -> Result<Option<PathBuf>, Error> {
        if let Some(named) = named {
            return Ok(Some(named.to_owned()));
        }
        let user = paths.user_containers(FILE);
        for file in user.into_iter().chain([paths.system_containers(FILE)]) {
            match fs::metadata(&file) {
                Ok(_) => return Ok(Some(file)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                // One that can't be looked at may well forbid what is asked for.
                Err(error) => return Err(Error::io(format!("read {}", file.display()))(error)),
            }
        }
        Ok(None)
    }

    /// The most specific rule for an image.
    pub(super) fn rule(&self, subject: &Subject) -> Rule<'_> {
        if let Some((transport, scopes)) = self.transports.get_key_value(subject.transport) {
            let wanted = subject.scopes.iter().map(String::as_str).chain([""]);
            for scope in wanted {
                if let Some((scope, requirements)) = scopes.get_key_value(scope) {
                    return Rule {
                        requirements,
                        place: Some((transport, scope)),
                    };
                }
            }
        }
        Rule {
            requirements: &self.default,
            place: None,
        }
    }
}
