//! `--publish`: ports of the host that lead to ports of the container.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Error, scalar};

/// A run of consecutive ports of the host that lead to as many of the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Publish {
    /// The host's address; every one where none is given.
    pub host_ip: Option<IpAddr>,
    /// The protocol.
    pub protocol: Protocol,
    /// The first port in the container.
    pub container_port: u16,
    /// The first port on the host; free ones are chosen where none is given.
    pub host_port: Option<u16>,
    /// How many ports, at least one.
    pub range: u16,
}

/// A transport protocol.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl FromStr for Protocol {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text.to_ascii_lowercase().as_str() {
            "tcp" => Ok(Self::Tcp),
            "udp" => Ok(Self::Udp),
            "sctp" => Ok(Self::Sctp),
            _ => Err(Error::invalid("protocol", text, "use tcp, udp or sctp")),
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        })
    }
}

impl FromStr for Publish {
    type Err = Error;

    /// `[[IP:][HOST_PORT]:]CONTAINER_PORT[/PROTOCOL]`: a port may be a range, an IPv6 address is in
    /// brackets, and a host port that is empty or 0 is chosen.
    fn from_str(text: &str) -> Result<Self, Error> {
        let invalid = |hint: &str| Error::invalid("port", text, hint);
        let (ports, protocol) = match text.split_once('/') {
            Some((ports, protocol)) => (ports, protocol.parse()?),
            None => (text, Protocol::Tcp),
        };
        let (host_ip, ports) = address(ports).map_err(invalid)?;
        let (host, container) = match ports.split_once(':') {
            Some((host, container)) => (host, container),
            // With an address there is a colon, though nothing may stand before it.
            None if host_ip.is_none() => ("", ports),
            None => return Err(invalid("a container port is missing after the address")),
        };
        let (container_port, last) = range(container)
            .filter(|(first, _)| *first > 0)
            .ok_or_else(|| {
                invalid(
                    "use [[IP:][HOST_PORT]:]CONTAINER_PORT[/PROTOCOL] with ports from 1 to 65535, \
                     and brackets around IPv6",
                )
            })?;
        let range_of_container = last - container_port + 1;
        let host_port = match host {
            "" | "0" => None,
            _ => {
                let (first, last) = range(host)
                    .filter(|(first, _)| *first > 0)
                    .ok_or_else(|| invalid("a host port is a number from 1 to 65535"))?;
                if last - first + 1 != range_of_container {
                    return Err(invalid(
                        "host and container have not the same number of ports",
                    ));
                }
                Some(first)
            }
        };
        Ok(Self {
            host_ip,
            protocol,
            container_port,
            host_port,
            range: range_of_container,
        })
    }
}

/// The address in front, if there is one, and the rest after its colon.
fn address(text: &str) -> Result<(Option<IpAddr>, &str), &'static str> {
    const NO_ADDRESS: &str = "the host's address is no IP address";
    if let Some(rest) = text.strip_prefix('[') {
        let (address, rest) = rest.split_once(']').ok_or("a bracket is not closed")?;
        let rest = rest.strip_prefix(':').ok_or("a colon is missing after ]")?;
        let address = address.parse().map_err(|_| NO_ADDRESS)?;
        return Ok((Some(IpAddr::V6(address)), rest));
    }
    match text.matches(':').count() {
        0 | 1 => Ok((None, text)),
        2 => {
            let (address, rest) = text.split_once(':').unwrap_or_default();
            if address.is_empty() {
                return Ok((None, rest));
            }
            let address = address.parse::<Ipv4Addr>().map_err(|_| NO_ADDRESS)?;
            Ok((Some(IpAddr::V4(address)), rest))
        }
        _ => Err("an IPv6 address must be in brackets"),
    }
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (scalar::number(first)?, scalar::number(last)?);
    // All of 0-65535 would be one too many to count.
    (first <= last && (first, last) != (0, u16::MAX)).then_some((first, last))
}

/// As in the PORTS column: `0.0.0.0:8080->80/tcp`; a host port that is still to be chosen is left
/// out.
impl fmt::Display for Publish {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(host_port) = self.host_port {
            match self.host_ip {
                None => formatter.write_str("0.0.0.0")?,
                Some(IpAddr::V4(address)) => address.fmt(formatter)?,
                Some(IpAddr::V6(address)) => write!(formatter, "[{address}]")?,
            }
            write!(formatter, ":{}->", Ports(host_port, self.range))?;
        }
        let ports = Ports(self.container_port, self.range);
        write!(formatter, "{ports}/{}", self.protocol)
    }
}

/// The first port and how many.
struct Ports(u16, u16);

impl fmt::Display for Ports {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(first, range) = *self;
        match range {
            0 | 1 => first.fmt(formatter),
            _ => write!(formatter, "{first}-{}", first.saturating_add(range - 1)),
        }
    }
}

/// Sorts, and joins neighbours to one range.
pub fn merge(ports: &[Publish]) -> Vec<Publish> {
    let mut sorted = ports.to_vec();
    sorted.sort_unstable();
    let mut merged: Vec<Publish> = Vec::with_capacity(sorted.len());
    for port in sorted {
        match merged.last_mut() {
            Some(last) if follows(last, &port) => last.range += port.range,
            _ => merged.push(port),
        }
    }
    merged
}

fn follows(last: &Publish, next: &Publish) -> bool {
    let (Some(last_host), Some(next_host)) = (last.host_port, next.host_port) else {
        return false;
    };
    last.host_ip == next.host_ip
        && last.protocol == next.protocol
        && last.container_port.checked_add(last.range) == Some(next.container_port)
        && last_host.checked_add(last.range) == Some(next_host)
}

/// The PORTS column of a container: ranges where there are some, commas between them.
pub fn column(ports: &[Publish]) -> String {
    let shown: Vec<_> = merge(ports).iter().map(Publish::to_string).collect();
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_read_in_every_form() {
        for (text, shown) in [
            ("80", "80/tcp"),
            ("80/UDP", "80/udp"),
            (":80", "80/tcp"),
            ("0:80", "80/tcp"),
            ("::80", "80/tcp"),
            (":8080:80", "0.0.0.0:8080->80/tcp"),
            ("8080:80", "0.0.0.0:8080->80/tcp"),
            ("8080:80/sctp", "0.0.0.0:8080->80/sctp"),
            ("127.0.0.1:8080:80", "127.0.0.1:8080->80/tcp"),
            ("[::1]:8080:80", "[::1]:8080->80/tcp"),
            ("8000-8005:9000-9005", "0.0.0.0:8000-8005->9000-9005/tcp"),
            ("8000-8000:80", "0.0.0.0:8000->80/tcp"),
            ("9000-9005/udp", "9000-9005/udp"),
            ("1-65535:1-65535", "0.0.0.0:1-65535->1-65535/tcp"),
        ] {
            assert_eq!(
                text.parse::<Publish>().unwrap().to_string(),
                shown,
                "{text}"
            );
        }
        let port: Publish = "127.0.0.1::80".parse().unwrap();
        assert_eq!(port.host_ip, Some(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        assert_eq!((port.host_port, port.container_port), (None, 80));
    }

    #[test]
    fn what_is_no_port_says_what_is() {
        let forms = "use [[IP:][HOST_PORT]:]CONTAINER_PORT[/PROTOCOL] with ports from 1 to 65535, \
                     and brackets around IPv6";
        for (text, hint) in [
            ("", forms),
            ("x", forms),
            ("80:", forms),
            ("0", forms),
            ("65536", forms),
            ("90-80", forms),
            ("0-65535", forms),
            ("80-", forms),
            ("8080:80 ", forms),
            ("x:80", "a host port is a number from 1 to 65535"),
            ("-1:80", "a host port is a number from 1 to 65535"),
            (
                "8000-8001:80",
                "host and container have not the same number of ports",
            ),
            ("localhost:80:80", "the host's address is no IP address"),
            ("::1:80:80", "an IPv6 address must be in brackets"),
            ("[::1:80", "a bracket is not closed"),
            ("[::1]80", "a colon is missing after ]"),
            ("[::1]:80", "a container port is missing after the address"),
            ("[1.2.3.4]:80:80", "the host's address is no IP address"),
        ] {
            assert_eq!(
                text.parse::<Publish>().unwrap_err().to_string(),
                format!("invalid port {text:?}: {hint}")
            );
        }
        assert_eq!(
            "80/icmp".parse::<Publish>().unwrap_err().to_string(),
            "invalid protocol \"icmp\": use tcp, udp or sctp"
        );
    }

    #[test]
    fn neighbours_are_one_range() {
        for (ports, shown) in [
            (&[][..], ""),
            (
                &["8002:8002", "8000:8000", "8001:8001"],
                "0.0.0.0:8000-8002->8000-8002/tcp",
            ),
            (
                &["8000:80", "8001:82"],
                "0.0.0.0:8000->80/tcp, 0.0.0.0:8001->82/tcp",
            ),
            (
                &["53:53", "53:53/udp", "54:54"],
                "0.0.0.0:53-54->53-54/tcp, 0.0.0.0:53->53/udp",
            ),
            (
                &["80:80", "127.0.0.1:81:81"],
                "0.0.0.0:80->80/tcp, 127.0.0.1:81->81/tcp",
            ),
            (&["65535:65535"], "0.0.0.0:65535->65535/tcp"),
        ] {
            let ports: Vec<_> = ports.iter().map(|text| text.parse().unwrap()).collect();
            assert_eq!(column(&ports), shown);
        }
    }
}
