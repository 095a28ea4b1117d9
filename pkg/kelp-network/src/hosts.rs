//! /etc/hosts and /etc/hostname of a container.
//!
//! As podman writes them: what was asked for first, then the base file, then what neither of them
//! names: localhost, the host, the container itself.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Error;

/// The names of the host inside.
pub const HOST_NAMES: [&str; 2] = ["host.containers.internal", "host.docker.internal"];

/// Where the first lines of /etc/hosts come from: `base_hosts_file` of containers.conf.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Base {
    /// The host's /etc/hosts.
    #[default]
    Host,
    /// The image's.
    Image,
    /// Nowhere.
    None,
    /// This file of the host.
    File(PathBuf),
}

impl Base {
    /// Reads the setting: empty, `none`, `image`, or an absolute path.
    pub fn parse(text: &str) -> Result<Self, Error> {
        match text {
            "" => Ok(Self::Host),
            "none" => Ok(Self::None),
            "image" => Ok(Self::Image),
            path if path.starts_with('/') => Ok(Self::File(path.into())),
            other => Err(Error::Invalid(format!(
                "base_hosts_file {other:?} is neither image, none nor an absolute path"
            ))),
        }
    }
}

/// An entry that was asked for: `--add-host name:address`, or `name;name:address`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddedHost {
    /// Its names, at least one.
    pub names: Vec<String>,
    /// Its address; none for `host-gateway`, the host's.
    pub address: Option<IpAddr>,
}

impl AddedHost {
    /// Reads the option's value.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let invalid = |what: &str| {
            Error::Invalid(format!("--add-host {text:?}: {what}, as in name:10.0.0.1"))
        };
        let (names, address) = text
            .split_once(':')
            .ok_or_else(|| invalid("give names and an address"))?;
        let names: Vec<String> = names.split(';').map(str::to_owned).collect();
        if !names.iter().all(|name| is_name(name)) {
            return Err(invalid("a name is empty or has a space in it"));
        }
        let address = match address {
            "host-gateway" => None,
            literal => Some(
                literal
                    .trim_start_matches('[')
                    .trim_end_matches(']')
                    .parse()
                    .map_err(|_| invalid("no such address"))?,
            ),
        };
        Ok(Self { names, address })
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || c.is_control() || c == '#')
}

/// What /etc/hosts is made of.
#[derive(Clone, Debug, Default)]
pub struct Hosts<'a> {
    /// The text of the base file.
    pub base: &'a str,
    /// What was asked for.
    pub added: &'a [AddedHost],
    /// The host's address as the container reaches it.
    pub host: Option<IpAddr>,
    /// The container's own address.
    pub own_address: Option<IpAddr>,
    /// The container's own names: host name, name, network aliases.
    pub own_names: &'a [&'a str],
}

/// Writes /etc/hosts.
///
/// # Errors
/// `host-gateway` was asked for and the network has no address for the host.
pub fn hosts(from: &Hosts<'_>) -> Result<String, Error> {
    let mut entries: Vec<(IpAddr, Vec<&str>)> = Vec::new();
    for added in from.added {
        let address = added.address.or(from.host).ok_or_else(|| {
            Error::Unavailable(format!(
                "{}:host-gateway: this network has no address for the host: use passt of \
                 2024-08-21 or later, or --network host",
                added.names.join(";")
            ))
        })?;
        entries.push((address, added.names.iter().map(String::as_str).collect()));
    }
    entries.extend(from.base.lines().filter_map(entry));
    add_missing(&mut entries, Ipv4Addr::LOCALHOST.into(), &["localhost"]);
    // Of localhost both addresses are wanted, and the one just added must not hide the other.
    let has_v6 = entries
        .iter()
        .any(|(ip, _)| *ip == IpAddr::V6(Ipv6Addr::LOCALHOST));
    if !has_v6 {
        entries.push((Ipv6Addr::LOCALHOST.into(), vec!["localhost"]));
    }
    if let Some(host) = from.host {
        add_missing(&mut entries, host, &HOST_NAMES);
    }
    if let Some(own) = from.own_address {
        add_missing(&mut entries, own, from.own_names);
    }
    let mut text = String::new();
    for (address, names) in entries {
        let _ = writeln!(text, "{address}\t{}", names.join(" "));
    }
    Ok(text)
}

/// Adds those names that no entry has.
fn add_missing<'a>(entries: &mut Vec<(IpAddr, Vec<&'a str>)>, ip: IpAddr, names: &[&'a str]) {
    let mut missing: Vec<&str> = Vec::new();
    for &name in names {
        let known = entries.iter().any(|(_, known)| known.contains(&name));
        if !known && !missing.contains(&name) && is_name(name) {
            missing.push(name);
        }
    }
    if !missing.is_empty() {
        entries.push((ip, missing));
    }
}

/// A line of hosts(5): an address, names, a comment. Anything else is left out.
fn entry(line: &str) -> Option<(IpAddr, Vec<&str>)> {
    let line = line.split('#').next()?;
    let mut words = line.split_whitespace();
    // A scoped address (fe80::1%lo0) names an interface that the container does not have.
    let address = words.next()?.parse().ok()?;
    let names: Vec<&str> = words.collect();
    (!names.is_empty()).then_some((address, names))
}

/// Writes /etc/hostname.
pub fn hostname(name: &str) -> String {
    format!("{name}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_file_has_what_was_asked_for_the_base_and_the_rest() {
        let added = [
            AddedHost::parse("db;store:10.0.0.5").unwrap(),
            AddedHost::parse("gate:host-gateway").unwrap(),
        ];
        let text = hosts(&Hosts {
            base: "127.0.0.1 localhost\n# a comment\n127.0.1.1\tlaptop # mine\n\nnonsense line\n\
                   fe80::1%lo0 scoped\n10.9.9.9\n",
            added: &added,
            host: Some(ip("169.254.1.2")),
            own_address: Some(ip("192.0.2.2")),
            own_names: &["web", "0123456789ab", "web"],
        })
        .unwrap();
        assert_eq!(
            text,
            "10.0.0.5\tdb store\n\
             169.254.1.2\tgate\n\
             127.0.0.1\tlocalhost\n\
             127.0.1.1\tlaptop\n\
             ::1\tlocalhost\n\
             169.254.1.2\thost.containers.internal host.docker.internal\n\
             192.0.2.2\tweb 0123456789ab\n"
        );
    }

    #[test]
    fn what_was_asked_for_wins_over_what_is_added() {
        let added = [AddedHost::parse("host.docker.internal:10.0.0.9").unwrap()];
        let text = hosts(&Hosts {
            base: "127.0.0.1 localhost web\n::1 localhost\n",
            added: &added,
            host: Some(ip("169.254.1.2")),
            own_address: Some(ip("192.0.2.2")),
            own_names: &["web"],
        })
        .unwrap();
        assert_eq!(
            text,
            "10.0.0.9\thost.docker.internal\n\
             127.0.0.1\tlocalhost web\n\
             ::1\tlocalhost\n\
             169.254.1.2\thost.containers.internal\n"
        );
    }

    #[test]
    fn added_hosts_have_a_grammar() {
        for (text, expected) in [
            ("a:1.2.3.4", Some((vec!["a"], Some(ip("1.2.3.4"))))),
            ("a;b:::1", Some((vec!["a", "b"], Some(ip("::1"))))),
            ("a:[::1]", Some((vec!["a"], Some(ip("::1"))))),
            ("a:host-gateway", Some((vec!["a"], None))),
            ("a", None),
            ("a:", None),
            (":1.2.3.4", None),
            ("a;:1.2.3.4", None),
            ("a b:1.2.3.4", None),
            ("a\nb:1.2.3.4", None),
            ("a:1.2.3", None),
        ] {
            let found = AddedHost::parse(text).ok();
            let expected = expected.map(|(names, address)| AddedHost {
                names: names.iter().map(|&name| name.to_owned()).collect(),
                address,
            });
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn a_host_gateway_without_an_address_is_an_error() {
        let added = [AddedHost::parse("gate:host-gateway").unwrap()];
        let error = hosts(&Hosts {
            added: &added,
            ..Hosts::default()
        })
        .unwrap_err();
        assert!(
            error.to_string().starts_with("gate:host-gateway"),
            "{error}"
        );
    }

    #[test]
    fn the_base_has_four_spellings() {
        for (text, expected) in [
            ("", Some(Base::Host)),
            ("none", Some(Base::None)),
            ("image", Some(Base::Image)),
            ("/etc/h", Some(Base::File("/etc/h".into()))),
            ("etc/h", None),
        ] {
            assert_eq!(Base::parse(text).ok(), expected, "{text}");
        }
    }
}
