//! What a signature must say that it is about.

use serde::Deserialize;

use crate::reference::{ImageName, Reference, check_registry};

/// `signedIdentity` of a requirement.
// No variant is a unit: serde would let such a one have any member.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(
    tag = "type",
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum SignedIdentity {
    /// Exactly the image's name.
    MatchExact {},
    /// Exactly the image's name, or its repository where the name has a digest.
    MatchRepoDigestOrExact {},
    /// The image's repository.
    MatchRepository {},
    /// Exactly this name.
    ExactReference {
        /// With a tag or a digest.
        docker_reference: ExactName,
    },
    /// This repository.
    ExactRepository {
        /// Its tag, if it has one, means nothing.
        docker_repository: Name,
    },
    /// As usual, once the image's name has another beginning.
    RemapIdentity {
        /// What it begins with.
        prefix: Prefix,
        /// What takes the place of that.
        signed_prefix: Prefix,
    },
}

impl Default for SignedIdentity {
    fn default() -> Self {
        Self::MatchRepoDigestOrExact {}
    }
}

/// A full name in a policy.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Name(Reference);

impl TryFrom<String> for Name {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let name = named(&text).ok_or_else(|| format!("{text:?} is no image's name"))?;
        Ok(Self(name))
    }
}

/// A full name with a tag or a digest.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ExactName(Reference);

impl TryFrom<String> for ExactName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let Name(name) = Name::try_from(text)?;
        if is_bare(&name) {
            return Err(format!("{name} has neither a tag nor a digest"));
        }
        Ok(Self(name))
    }
}

/// A registry, with or without a path.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Prefix(String);

impl TryFrom<String> for Prefix {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let is_repository = || {
            Reference::parse(&text).is_ok_and(|reference| {
                reference.tag().is_none()
                    && reference.digest().is_none()
                    && reference.name() == text
            })
        };
        if check_registry(&text).is_ok() || is_repository() {
            Ok(Self(text))
        } else {
            Err(format!("{text:?} is no registry and no repository"))
        }
    }
}

/// A name as docker reads it, for that is what signatures have.
fn named(text: &str) -> Option<Reference> {
    // A transport is no part of it.
    if text.contains("://") {
        return None;
    }
    Some(ImageName::parse(text).ok()?.on_docker_hub())
}

impl SignedIdentity {
    /// Whether what a signature says fits an image. An image that has no name can only be met by an
    /// exact name.
    pub(super) fn fits(&self, image: Option<&Reference>, signed: &str) -> bool {
        let Some(signed) = named(signed) else {
            return false;
        };
        match self {
            Self::MatchExact {} => image.is_some_and(|image| exactly(image, &signed)),
            Self::MatchRepoDigestOrExact {} => image.is_some_and(|image| usually(image, &signed)),
            Self::MatchRepository {} => image.is_some_and(|image| image.name() == signed.name()),
            Self::ExactReference { docker_reference } => exactly(&docker_reference.0, &signed),
            Self::ExactRepository { docker_repository } => {
                docker_repository.0.name() == signed.name()
            }
            Self::RemapIdentity {
                prefix,
                signed_prefix,
            } => image
                .and_then(|image| remapped(image, &prefix.0, &signed_prefix.0))
                .is_some_and(|image| usually(&image, &signed)),
        }
    }
}

fn is_bare(reference: &Reference) -> bool {
    reference.tag().is_none() && reference.digest().is_none()
}

fn exactly(image: &Reference, signed: &Reference) -> bool {
    !is_bare(image) && image == signed
}

/// `matchRepoDigestOrExact`. That the image has the digest of its name was checked before.
fn usually(image: &Reference, signed: &Reference) -> bool {
    match (image.tag(), image.digest()) {
        (None, None) => false,
        (None, Some(_)) => !is_bare(signed) && image.name() == signed.name(),
        (Some(_), _) => exactly(image, signed),
    }
}

/// The image's name with another beginning, where it has the one that is replaced.
fn remapped(image: &Reference, prefix: &str, signed_prefix: &str) -> Option<Reference> {
    let name = image.name();
    match name.strip_prefix(prefix) {
        Some(rest) if rest.is_empty() || rest.starts_with('/') => {
            image.with_name(&format!("{signed_prefix}{rest}")).ok()
        }
        _ => Some(image.clone()),
    }
}
