//! The rules for each part of a name; an error is the rule that it breaks.

/// The longest tag, in bytes.
const TAG_MAX: usize = 128;

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

pub(super) fn strip_transport(name: &str) -> Result<&str, &'static str> {
    if let Some(rest) = name.strip_prefix("docker://") {
        return Ok(rest);
    }
    // `dir:tag` and `oci:tag` could be short names, but podman reads transports there as well.
    if OTHER_TRANSPORTS
        .iter()
        .any(|transport| name.starts_with(transport))
    {
        return Err("only the transport docker:// can be used here");
    }
    if name.contains("://") {
        return Err("an image name is not a URL: leave out what stands before ://");
    }
    Ok(name)
}

pub(super) fn is_image_id(name: &str) -> bool {
    name.len() == 64
        && name
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

pub(super) struct Parts<'a> {
    pub(super) name: &'a str,
    pub(super) tag: Option<&'a str>,
    pub(super) digest: Option<&'a str>,
}

impl<'a> Parts<'a> {
    pub(super) fn split(text: &'a str) -> Result<Self, &'static str> {
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
pub(super) fn split_registry(name: &str) -> (Option<&str>, &str) {
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

pub(super) fn check_path(path: &str) -> Result<(), &'static str> {
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

pub(super) fn check_tag(tag: &str) -> Result<(), &'static str> {
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
