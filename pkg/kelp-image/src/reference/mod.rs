//! Names of images: what a user may write, taken apart strictly.
//!
//! The grammar is that of the distribution project's `reference` package, which podman and docker
//! share: `[registry[:port]/]path[:tag][@digest]`. A name without a registry is a [`ShortName`],
//! and which registry it means is decided elsewhere (see [`crate::short_name`]); a [`Reference`]
//! always has one. Both hold only what was checked, so that nothing in them needs escaping in a
//! URL or leads out of a directory.

mod grammar;

use std::fmt;
use std::str::FromStr;

use crate::digest::Digest;
use grammar::{Parts, check_path, check_tag, is_image_id, split_registry, strip_transport};

pub use grammar::check_registry;

/// The registry that docker means where a name has none.
pub const DOCKER_HUB: &str = "docker.io";

/// The name of the docker hub's client API, which is not the name people write.
const DOCKER_HUB_OLD: &str = "index.docker.io";

/// The longest registry and path together, in bytes.
const NAME_MAX: usize = 255;

/// What is wrong with a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid image name {name:?}: {reason}")]
pub struct ReferenceError {
    /// The name as it was written.
    pub name: String,
    /// The rule that it breaks.
    pub reason: &'static str,
}

/// A name with its registry: `registry/repository[:tag][@digest]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// A name without a registry: `alpine`, `library/alpine:3.20`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ShortName {
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// A name as a user wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ImageName {
    /// It says its registry.
    Full(Reference),
    /// It doesn't.
    Short(ShortName),
}

impl ImageName {
    /// Takes a name apart; `docker://` in front of it is allowed and means nothing.
    pub fn parse(name: &str) -> Result<Self, ReferenceError> {
        let err = |reason| ReferenceError {
            name: name.to_owned(),
            reason,
        };
        let bare = strip_transport(name).map_err(err)?;
        if bare.is_empty() {
            return Err(err("it is empty"));
        }
        if is_image_id(bare) {
            return Err(err("64 hexadecimal digits are an image's id"));
        }
        let parts = Parts::split(bare).map_err(err)?;
        let (registry, path) = split_registry(parts.name);
        if let Some(registry) = registry {
            check_registry(registry).map_err(err)?;
        }
        check_path(path).map_err(err)?;
        if parts.name.len() > NAME_MAX {
            return Err(err("it is longer than 255 characters"));
        }
        if let Some(tag) = parts.tag {
            check_tag(tag).map_err(err)?;
        }
        let digest = parts
            .digest
            .map(|digest| {
                digest
                    .parse::<Digest>()
                    .map_err(|_| err("the digest is not sha256: and 64 hexadecimal digits"))
            })
            .transpose()?;
        let short = ShortName {
            path: path.to_owned(),
            tag: parts.tag.map(str::to_owned),
            digest,
        };
        Ok(match registry {
            Some(registry) => Self::Full(short.in_registry(registry)),
            None => Self::Short(short),
        })
    }

    /// The name as docker reads it: without a registry, the docker hub is meant.
    pub fn on_docker_hub(self) -> Reference {
        match self {
            Self::Full(reference) => reference,
            Self::Short(short) => short.in_registry(DOCKER_HUB),
        }
    }
}

impl FromStr for ImageName {
    type Err = ReferenceError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::parse(name)
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(reference) => reference.fmt(f),
            Self::Short(short) => short.fmt(f),
        }
    }
}

impl ShortName {
    /// The path without tag and digest: what registries.conf's aliases are keyed by.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, if one was written.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was written.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// The name in a registry. `registry` was checked by its own parser; the docker hub's
    /// official images get their `library/`.
    pub fn in_registry(&self, registry: &str) -> Reference {
        let registry = match registry {
            DOCKER_HUB_OLD => DOCKER_HUB,
            other => other,
        };
        let repository = if registry == DOCKER_HUB && !self.path.contains('/') {
            format!("library/{}", self.path)
        } else {
            self.path.clone()
        };
        Reference {
            registry: registry.to_owned(),
            repository,
            tag: self.tag.clone(),
            digest: self.digest.clone(),
        }
    }

    /// The name beneath `prefix`, which is a registry or a registry with a path, as
    /// `unqualified-search-registries` lists them.
    pub fn beneath(&self, prefix: &str) -> Result<Reference, ReferenceError> {
        Reference::parse(&format!("{prefix}/{self}"))
    }

    /// The same tag and digest in the repository that an alias names.
    pub fn with_repository_of(&self, alias: &Reference) -> Reference {
        Reference {
            registry: alias.registry.clone(),
            repository: alias.repository.clone(),
            tag: self.tag.clone(),
            digest: self.digest.clone(),
        }
    }
}

impl fmt::Display for ShortName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        write_suffix(f, self.tag.as_deref(), self.digest.as_ref())
    }
}

impl Reference {
    /// Takes apart a name that must say its registry.
    pub fn parse(name: &str) -> Result<Self, ReferenceError> {
        match ImageName::parse(name)? {
            ImageName::Full(reference) => Ok(reference),
            ImageName::Short(_) => Err(ReferenceError {
                name: name.to_owned(),
                reason: "it has no registry",
            }),
        }
    }

    /// The registry's host, with its port if one was written: `quay.io`, `localhost:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The path within the registry: `library/alpine`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if one was written.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if one was written.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Registry and repository: `docker.io/library/alpine`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// With the tag `latest` where neither tag nor digest was written.
    #[must_use]
    pub fn or_latest(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some("latest".to_owned());
        }
        self
    }

    /// Without the tag where there is a digest too: only the digest says what is fetched.
    #[must_use]
    pub fn digest_over_tag(mut self) -> Self {
        if self.digest.is_some() {
            self.tag = None;
        }
        self
    }

    /// The same repository by digest.
    #[must_use]
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self {
            registry: self.registry.clone(),
            repository: self.repository.clone(),
            tag: None,
            digest: Some(digest),
        }
    }

    /// The same tag and digest of another repository, `registry/path`.
    pub fn with_name(&self, name: &str) -> Result<Self, ReferenceError> {
        let other = Self::parse(name)?;
        if other.tag.is_some() || other.digest.is_some() {
            return Err(ReferenceError {
                name: name.to_owned(),
                reason: "a repository has neither tag nor digest",
            });
        }
        Ok(Self {
            tag: self.tag.clone(),
            digest: self.digest.clone(),
            ..other
        })
    }

    /// As docker prints it: without `docker.io/` and `library/`.
    pub fn familiar(&self) -> String {
        let name = self.name();
        let short = if self.registry == DOCKER_HUB {
            self.repository
                .strip_prefix("library/")
                .unwrap_or(&self.repository)
        } else {
            &name
        };
        let mut text = short.to_owned();
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(&digest.to_string());
        }
        text
    }

    /// What a registry's URL for a manifest ends in: the digest, else the tag, else `latest`.
    pub fn manifest_name(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::parse(name)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        write_suffix(f, self.tag.as_deref(), self.digest.as_ref())
    }
}

fn write_suffix(
    f: &mut fmt::Formatter<'_>,
    tag: Option<&str>,
    digest: Option<&Digest>,
) -> fmt::Result {
    if let Some(tag) = tag {
        write!(f, ":{tag}")?;
    }
    if let Some(digest) = digest {
        write!(f, "@{digest}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
