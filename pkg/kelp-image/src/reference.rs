//! Names of images: what a user may write, taken apart strictly.
//!
//! The grammar is that of the distribution project's `reference` package, which podman and docker
//! share: `[registry[:port]/]path[:tag][@digest]`. A name without a registry is a [`ShortName`],
//! and which registry it means is decided elsewhere (see [`crate::short_name`]); a [`Reference`]
//! always has one. Both hold only what was checked, so that nothing in them needs escaping in a
//! URL or leads out of a directory.

use std::fmt;
use std::str::FromStr;

use crate::digest::Digest;

/// The registry that docker means where a name has none.
pub const DOCKER_HUB: &str = "docker.io";

/// The name of the docker hub's client API, which is not the name people write.
const DOCKER_HUB_OLD: &str = "index.docker.io";

/// The longest registry and path together, in bytes.
const NAME_MAX: usize = 255;

/// The longest tag, in bytes.
const TAG_MAX: usize = 128;

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

/// Transports of podman's that kelp does not pull from.
const OTHER_TRANSPORTS: [&str; 11] = [
    "atomic:",
    "containers-storage:",
    "dir:",
    "docker-archive:",
    "docker-daemon:",
    "oci-archive:",
    "oci:",
    "openshift:",
    "ostree:",
    "sif:",
    "tarball:",
];

fn strip_transport(name: &str) -> Result<&str, &'static str> {
    if let Some(rest) = name.strip_prefix("docker://") {
        return Ok(rest);
    }
    // `dir:tag` and `oci:tag` could be short names, but podman reads transports there as well.
    if OTHER_TRANSPORTS
        .iter()
        .any(|transport| name.starts_with(transport))
    {
        return Err("only the transport docker:// can be used here (archives: `kelp load`)");
    }
    if name.contains("://") {
        return Err("an image name is not a URL: leave out what stands before ://");
    }
    Ok(name)
}

fn is_image_id(name: &str) -> bool {
    name.len() == 64
        && name
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

struct Parts<'a> {
    name: &'a str,
    tag: Option<&'a str>,
    digest: Option<&'a str>,
}

impl<'a> Parts<'a> {
    fn split(text: &'a str) -> Result<Self, &'static str> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        // A colon before the last slash belongs to a port or an IPv6 address.
        let last = rest.rfind('/').map_or(0, |slash| slash + 1);
        let (name, tag) = match rest[last..].find(':') {
            Some(colon) => (&rest[..last + colon], Some(&rest[last + colon + 1..])),
            None => (rest, None),
        };
        if name.is_empty() {
            return Err("the repository is missing");
        }
        Ok(Self { name, tag, digest })
    }
}

/// The first component is a registry if it can't be a path: it has a dot, a colon or an upper-case
/// letter, or is `localhost`.
fn split_registry(name: &str) -> (Option<&str>, &str) {
    match name.split_once('/') {
        Some((first, rest))
            if first == "localhost"
                || first.contains(['.', ':', '['])
                || first.bytes().any(|byte| byte.is_ascii_uppercase()) =>
        {
            (Some(first), rest)
        }
        _ => (None, name),
    }
}

/// Checks `host[:port]`, where a host is a name, an IPv4 address, or an IPv6 address in brackets.
pub fn check_registry(registry: &str) -> Result<(), &'static str> {
    let (host, port) = if let Some(rest) = registry.strip_prefix('[') {
        let (address, after) = rest
            .split_once(']')
            .ok_or("the registry's address lacks its closing bracket")?;
        if address.parse::<std::net::Ipv6Addr>().is_err() {
            return Err("the registry's address in brackets is not an IPv6 address");
        }
        let port = match after.strip_prefix(':') {
            Some(port) => Some(port),
            None if after.is_empty() => None,
            None => return Err("after the registry's address comes a port or a slash"),
        };
        (None, port)
    } else {
        match registry.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(registry), None),
        }
    };
    if let Some(port) = port
        && (port.is_empty()
            || !port.bytes().all(|byte| byte.is_ascii_digit())
            || port.parse::<u16>().is_err())
    {
        return Err("the registry's port is not a number below 65536");
    }
    let valid_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    };
    match host {
        Some(host) if !host.split('.').all(valid_label) => {
            Err("the registry is not a host name (letters, digits, - and dots between)")
        }
        _ => Ok(()),
    }
}

fn check_path(path: &str) -> Result<(), &'static str> {
    if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err("the repository must be lower case");
    }
    if path.split('/').all(valid_component) {
        Ok(())
    } else {
        Err(
            "the repository has characters other than lower-case letters, digits and single \
             separators (. _ __ -) between them",
        )
    }
}

/// `[a-z0-9]+` joined by `.`, `_`, `__` or any number of `-`.
fn valid_component(component: &str) -> bool {
    let is_alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = component.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    if !is_alphanumeric(*first) || !is_alphanumeric(*last) {
        return false;
    }
    bytes
        .split(|byte| is_alphanumeric(*byte))
        .all(|separator| match separator {
            [] | b"." | b"_" | b"__" => true,
            dashes => dashes.iter().all(|byte| *byte == b'-'),
        })
}

fn check_tag(tag: &str) -> Result<(), &'static str> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if tag.len() > TAG_MAX {
        return Err("the tag is longer than 128 characters");
    }
    let mut bytes = tag.bytes();
    if bytes.next().is_some_and(is_word)
        && bytes.all(|byte| is_word(byte) || byte == b'.' || byte == b'-')
    {
        Ok(())
    } else {
        Err("the tag has characters other than letters, digits, _ . and -")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "6c3c624b58dbbcd3c0dd82b4c53f04194d1247c6eebdaab7c610cf7d66709b3b";

    #[test]
    fn names_with_a_registry_are_taken_apart() {
        let digest = format!("sha256:{HEX}");
        for (text, registry, repository, tag, familiar) in [
            (
                "docker.io/alpine",
                "docker.io",
                "library/alpine",
                None,
                "alpine",
            ),
            (
                "docker.io/library/alpine:3",
                "docker.io",
                "library/alpine",
                Some("3"),
                "alpine:3",
            ),
            (
                "index.docker.io/alpine",
                "docker.io",
                "library/alpine",
                None,
                "alpine",
            ),
            (
                "docker.io/bitnami/redis",
                "docker.io",
                "bitnami/redis",
                None,
                "bitnami/redis",
            ),
            (
                "docker://quay.io/a/b:t",
                "quay.io",
                "a/b",
                Some("t"),
                "quay.io/a/b:t",
            ),
            ("localhost/foo", "localhost", "foo", None, "localhost/foo"),
            (
                "localhost:5000/foo:1",
                "localhost:5000",
                "foo",
                Some("1"),
                "localhost:5000/foo:1",
            ),
            (
                "host:5000/a/b/c",
                "host:5000",
                "a/b/c",
                None,
                "host:5000/a/b/c",
            ),
            ("HOST/foo", "HOST", "foo", None, "HOST/foo"),
            (
                "[::1]:5000/foo",
                "[::1]:5000",
                "foo",
                None,
                "[::1]:5000/foo",
            ),
            (
                "[2001:db8::1]/foo:a",
                "[2001:db8::1]",
                "foo",
                Some("a"),
                "[2001:db8::1]/foo:a",
            ),
            (
                "127.0.0.1:5000/a.b/c_d/e__f/g---h",
                "127.0.0.1:5000",
                "a.b/c_d/e__f/g---h",
                None,
                "127.0.0.1:5000/a.b/c_d/e__f/g---h",
            ),
        ] {
            let reference = Reference::parse(text).unwrap();
            assert_eq!(reference.registry(), registry, "{text}");
            assert_eq!(reference.repository(), repository, "{text}");
            assert_eq!(reference.tag(), tag, "{text}");
            assert_eq!(reference.digest(), None, "{text}");
            assert_eq!(reference.familiar(), familiar, "{text}");

            let with_digest = Reference::parse(&format!("{text}@{digest}")).unwrap();
            assert_eq!(with_digest.tag(), tag, "{text}");
            assert_eq!(with_digest.digest().unwrap().to_string(), digest);
            assert_eq!(with_digest.manifest_name(), digest);
            assert_eq!(
                Reference::parse(&with_digest.to_string()).unwrap(),
                with_digest
            );
        }
    }

    #[test]
    fn names_without_a_registry_are_short() {
        for (text, path, tag, hub) in [
            ("alpine", "alpine", None, "docker.io/library/alpine"),
            (
                "alpine:3.20",
                "alpine",
                Some("3.20"),
                "docker.io/library/alpine:3.20",
            ),
            ("a/b", "a/b", None, "docker.io/a/b"),
            (
                "docker://library/alpine",
                "library/alpine",
                None,
                "docker.io/library/alpine",
            ),
            (
                "localhost",
                "localhost",
                None,
                "docker.io/library/localhost",
            ),
            (
                "foo:5000",
                "foo",
                Some("5000"),
                "docker.io/library/foo:5000",
            ),
        ] {
            let name = ImageName::parse(text).unwrap();
            let ImageName::Short(short) = &name else {
                panic!("{text} is short");
            };
            assert_eq!(short.path(), path);
            assert_eq!(short.tag(), tag);
            assert_eq!(name.on_docker_hub().to_string(), hub);
            assert!(Reference::parse(text).is_err());
        }
    }

    #[test]
    fn what_breaks_the_grammar_is_refused() {
        let long_tag = format!("a:{}", "t".repeat(129));
        let long_name = format!("host.example/{}", "n".repeat(243));
        for (text, reason) in [
            ("", "empty"),
            ("docker://", "empty"),
            (HEX, "image's id"),
            (":tag", "repository is missing"),
            ("@sha256:00", "repository is missing"),
            ("a:", "the tag"),
            ("a:-x", "the tag"),
            ("a:b c", "the tag"),
            ("a:b/../c", "registry's port"),
            (long_tag.as_str(), "longer than 128"),
            (long_name.as_str(), "longer than 255"),
            ("a@sha256:00", "the digest"),
            ("a@sha256:../../etc/passwd", "the digest"),
            ("a@b@c", "the digest"),
            ("A", "lower case"),
            ("quay.io/Foo", "lower case"),
            ("a//b", "characters"),
            ("a/", "characters"),
            ("/a", "characters"),
            ("a/../b", "characters"),
            ("../a", "registry is not"),
            ("a..b", "characters"),
            ("a___b", "characters"),
            ("a._b", "characters"),
            ("-a", "characters"),
            ("a b", "characters"),
            ("a%2fb", "characters"),
            ("é", "characters"),
            ("host:99999/a", "registry's port"),
            ("host:/a", "registry's port"),
            ("host:+1/a", "registry's port"),
            ("-host.com/a", "host name"),
            ("ho_st.com/a", "host name"),
            ("user@host.com/a", "the digest"),
            ("[::1/a", "bracket"),
            ("[zz]/a", "IPv6"),
            ("[::1]x/a", "after the registry's address"),
            ("oci-archive:/tmp/x", "transport"),
            ("dir:/tmp", "transport"),
            ("https://quay.io/a", "URL"),
        ] {
            let error = ImageName::parse(text).unwrap_err();
            assert!(error.reason.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn a_digest_outranks_the_tag() {
        let text = format!("quay.io/a:t@sha256:{HEX}");
        let reference = Reference::parse(&text).unwrap();
        assert_eq!(
            reference.clone().digest_over_tag().to_string(),
            format!("quay.io/a@sha256:{HEX}")
        );
        assert_eq!(reference.clone().or_latest(), reference);
        let bare = Reference::parse("quay.io/a").unwrap();
        assert_eq!(bare.manifest_name(), "latest");
        assert_eq!(bare.or_latest().to_string(), "quay.io/a:latest");
    }

    #[test]
    fn another_name_keeps_tag_and_digest() {
        let reference = Reference::parse("quay.io/a/b:t").unwrap();
        assert_eq!(
            reference.with_name("mirror.example:5000/x/b").unwrap(),
            Reference::parse("mirror.example:5000/x/b:t").unwrap()
        );
        assert!(reference.with_name("mirror.example/x:t").is_err());
        assert!(reference.with_name("x").is_err());
    }
}
