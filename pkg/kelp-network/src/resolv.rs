//! /etc/resolv.conf of a container.
//!
//! A resolver on the host's loopback (systemd-resolved has 127.0.0.53) is out of a container's
//! reach. Where pasta forwards queries, its address comes first, and asks whatever the host asks;
//! elsewhere the real servers are taken from systemd-resolved's own file.

use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{Error, text};

/// The file of the host.
const HOST_FILE: &str = "/etc/resolv.conf";
/// Where systemd-resolved writes the servers that it asks itself.
const RESOLVED_FILE: &str = "/run/systemd/resolve/resolv.conf";

/// What was asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsOptions {
    /// `--dns none`: the image's file stays as it is.
    pub keep_image_file: bool,
    /// `--dns`: these servers and no others.
    pub servers: Vec<IpAddr>,
    /// `--dns-search`: these domains and no others; a single `.` for none.
    pub search: Vec<String>,
    /// `--dns-option`: these options and no others.
    pub options: Vec<String>,
}

impl DnsOptions {
    /// Reads the values of the three options.
    pub fn parse(dns: &[String], search: &[String], options: &[String]) -> Result<Self, Error> {
        let word = |flag: &str, word: &String| {
            let plain = !word.is_empty() && !word.contains(|c: char| c.is_whitespace() || c == '#');
            plain.then(|| word.clone()).ok_or_else(|| {
                Error::Invalid(format!("--{flag} {word:?} is empty or has a space in it"))
            })
        };
        let keep_image_file = dns.iter().any(|value| value == "none");
        if keep_image_file && dns.len() + search.len() + options.len() > 1 {
            return Err(Error::Invalid(
                "--dns none leaves the image's file as it is: no other --dns, --dns-search or \
                 --dns-option goes with it"
                    .to_owned(),
            ));
        }
        let servers = dns
            .iter()
            .filter(|value| *value != "none")
            .map(|value| {
                value.parse().map_err(|_| {
                    Error::Invalid(format!("--dns {value:?} is not an address of a server"))
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self {
            keep_image_file,
            servers,
            search: search
                .iter()
                .map(|value| word("dns-search", value))
                .collect::<Result<_, _>>()?,
            options: options
                .iter()
                .map(|value| word("dns-option", value))
                .collect::<Result<_, _>>()?,
        })
    }
}

/// Which servers a container can reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// All that the host can: it has the host's network.
    Host,
    /// None on the host's loopback; queries to this address, if there is one, are forwarded.
    Outside(Option<IpAddr>),
}

/// What a resolv.conf says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct File {
    servers: Vec<IpAddr>,
    search: Vec<String>,
    options: Vec<String>,
}

/// The texts of the host's files.
#[derive(Clone, Debug, Default)]
pub struct HostFiles {
    /// /etc/resolv.conf.
    pub own: String,
    /// systemd-resolved's.
    pub resolved: String,
}

impl HostFiles {
    /// Reads them; the second one only if the first needs it.
    pub fn read() -> io::Result<Self> {
        let own = text::read(Path::new(HOST_FILE))?;
        let resolved = if parse(&own).servers.iter().any(IpAddr::is_loopback) {
            text::read(Path::new(RESOLVED_FILE))?
        } else {
            String::new()
        };
        Ok(Self { own, resolved })
    }
}

/// Writes /etc/resolv.conf, or nothing if the image's is to stay.
pub fn resolv(asked: &DnsOptions, host: &HostFiles, reach: Reach) -> Option<String> {
    if asked.keep_image_file {
        return None;
    }
    let own = parse(&host.own);
    let servers = match (asked.servers.as_slice(), reach) {
        ([], Reach::Host) => own.servers.clone(),
        ([], Reach::Outside(forwarder)) => reachable(&own, host, forwarder),
        (servers, _) => servers.to_vec(),
    };
    let search = match asked.search.as_slice() {
        [] => own.search,
        [root] if root == "." => Vec::new(),
        domains => domains.to_vec(),
    };
    let options = match asked.options.as_slice() {
        [] => own.options,
        options => options.to_vec(),
    };
    let mut text = String::new();
    if !search.is_empty() {
        let _ = writeln!(text, "search {}", search.join(" "));
    }
    for server in servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    if !options.is_empty() {
        let _ = writeln!(text, "options {}", options.join(" "));
    }
    Some(text)
}

fn reachable(own: &File, host: &HostFiles, forwarder: Option<IpAddr>) -> Vec<IpAddr> {
    // Without a server of its own the host has none to forward to.
    let forwarder = forwarder.filter(|_| !own.servers.is_empty());
    let mut servers: Vec<IpAddr> = forwarder.into_iter().collect();
    let outside = |file: &File| -> Vec<IpAddr> {
        let servers = file.servers.iter().copied();
        servers.filter(|ip| !ip.is_loopback()).collect()
    };
    let mut rest = outside(own);
    if rest.is_empty() {
        rest = outside(&parse(&host.resolved));
    }
    servers.extend(rest);
    servers
}

/// Reads resolv.conf(5) as a resolver does: what it does not know it skips, and the last `search`
/// or `domain` counts.
fn parse(text: &str) -> File {
    let mut file = File::default();
    for line in text.lines() {
        let line = line.split(['#', ';']).next().unwrap_or_default();
        let mut words = line.split_whitespace();
        match words.next() {
            // A scoped address names an interface that the container does not have.
            Some("nameserver") => {
                let address: Option<IpAddr> = words.next().and_then(|word| word.parse().ok());
                file.servers.extend(address);
            }
            Some("search") => file.search = words.map(str::to_owned).collect(),
            Some("domain") => file.search = words.take(1).map(str::to_owned).collect(),
            Some("options") => file.options.extend(words.map(str::to_owned)),
            _ => {}
        }
    }
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORWARDED: Reach = Reach::Outside(Some(crate::pasta::FORWARDER));

    fn host(own: &str, resolved: &str) -> HostFiles {
        HostFiles {
            own: own.to_owned(),
            resolved: resolved.to_owned(),
        }
    }

    #[test]
    fn the_hosts_servers_are_those_a_container_can_reach() {
        let plain = host(
            "# made by hand\ndomain old.example\nsearch a.example b.example\nnameserver 10.0.0.1\n\
             nameserver fe80::1%eth0\nnameserver 127.0.0.1 ; local\noptions ndots:2 edns0\n",
            "nameserver 10.0.0.7\n",
        );
        let stub = host(
            "nameserver 127.0.0.53\noptions edns0\n",
            "nameserver 10.0.0.7\nnameserver ::1\nnameserver fd00::7\nsearch lan\n",
        );
        let nothing = DnsOptions::default();
        for (files, reach, expected) in [
            (
                &plain,
                FORWARDED,
                "search a.example b.example\nnameserver 169.254.1.1\nnameserver 10.0.0.1\noptions \
                 ndots:2 edns0\n",
            ),
            (
                &plain,
                Reach::Host,
                "search a.example b.example\nnameserver 10.0.0.1\nnameserver 127.0.0.1\noptions \
                 ndots:2 edns0\n",
            ),
            (
                &stub,
                FORWARDED,
                "nameserver 169.254.1.1\nnameserver 10.0.0.7\nnameserver fd00::7\noptions edns0\n",
            ),
            (
                &stub,
                Reach::Outside(None),
                "nameserver 10.0.0.7\nnameserver fd00::7\noptions edns0\n",
            ),
            (&host("", ""), FORWARDED, ""),
        ] {
            assert_eq!(resolv(&nothing, files, reach).unwrap(), expected);
        }
    }

    #[test]
    fn what_was_asked_for_replaces_what_the_host_has() {
        let strings =
            |words: &[&str]| -> Vec<String> { words.iter().map(|&word| word.to_owned()).collect() };
        let files = host("search lan\nnameserver 10.0.0.1\noptions edns0\n", "");
        let asked = DnsOptions::parse(
            &strings(&["9.9.9.9", "::9"]),
            &strings(&["."]),
            &strings(&["ndots:1", "rotate"]),
        )
        .unwrap();
        assert_eq!(
            resolv(&asked, &files, FORWARDED).unwrap(),
            "nameserver 9.9.9.9\nnameserver ::9\noptions ndots:1 rotate\n"
        );
        let asked = DnsOptions::parse(&strings(&["none"]), &[], &[]).unwrap();
        assert_eq!(resolv(&asked, &files, FORWARDED), None);
    }

    #[test]
    fn values_that_would_be_another_line_are_refused() {
        let bad = |dns: &str, search: &str, option: &str| {
            let one = |word: &str| -> Vec<String> {
                let words = Some(word.to_owned()).filter(|word| word != "-");
                words.into_iter().collect()
            };
            DnsOptions::parse(&one(dns), &one(search), &one(option)).is_err()
        };
        assert!(bad("dns.example", "-", "-"));
        assert!(bad("1.1.1.1\nnameserver 2.2.2.2", "-", "-"));
        assert!(bad("-", "lan\nnameserver 2.2.2.2", "-"));
        assert!(bad("-", "-", "a b"));
        assert!(bad("-", "", "-"));
        assert!(bad("none", "lan", "-"));
        assert!(!bad("1.1.1.1", "lan", "edns0"));
    }
}
