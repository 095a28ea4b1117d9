//! Published ports: choosing those on the host, and finding out beforehand that one can't be had.
//!
//! A check here binds the port for a moment. Somebody may take it between the check and pasta's own
//! bind; then pasta fails, and the error is the same.

use std::fmt;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};

use serde::{Deserialize, Serialize};

use crate::Error;

/// How often a run of free ports is looked for.
const ATTEMPTS: u32 = 64;

/// A transport protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl fmt::Display for Protocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// A run of consecutive ports of the host that lead to as many of the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PublishedPort {
    /// The host's address; every one if none is given.
    pub host_ip: Option<IpAddr>,
    /// The first port on the host; a free one is chosen if none is given.
    pub host_port: Option<u16>,
    /// The first port in the container.
    pub container_port: u16,
    /// The protocol.
    pub protocol: Protocol,
    /// How many ports, at least 1.
    pub range: u16,
}

impl PublishedPort {
    /// One port of the container on a port of the host that is chosen.
    pub fn random(container_port: u16, protocol: Protocol) -> Self {
        Self {
            host_ip: None,
            host_port: None,
            container_port,
            protocol,
            range: 1,
        }
    }

    fn address(&self) -> IpAddr {
        self.host_ip.unwrap_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED))
    }

    fn same_place(&self, other: &Self) -> bool {
        self.protocol == other.protocol
            && (self.address() == other.address()
                || self.address().is_unspecified()
                || other.address().is_unspecified())
    }
}

/// Ports that an image exposes: `80`, `80/tcp`, `53/udp`, `8000-8010/tcp`.
///
/// An image's author writes this, so anything else is an error, and nothing is guessed.
pub fn exposed(text: &str) -> Result<PublishedPort, Error> {
    let invalid = || Error::Invalid(format!("the image exposes {text:?}, which is not a port"));
    let (ports, protocol) = match text.split_once('/') {
        None | Some((_, "tcp")) => (text.trim_end_matches("/tcp"), Protocol::Tcp),
        Some((ports, "udp")) => (ports, Protocol::Udp),
        Some((_, "sctp")) => {
            return Err(Error::Invalid(format!(
                "the image exposes {text}: sctp can't be published, only tcp and udp"
            )));
        }
        Some(_) => return Err(invalid()),
    };
    let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
    let number = |text: &str| -> Option<u16> {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().ok()).flatten()
    };
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first > 0 && first <= last => Ok(PublishedPort {
            range: last - first + 1,
            ..PublishedPort::random(first, protocol)
        }),
        _ => Err(invalid()),
    }
}

/// For `--publish-all`: the image's exposed ports that `published` does not cover yet, each on a
/// port to be chosen.
pub fn publish_all<'a>(
    exposed_ports: impl IntoIterator<Item = &'a str>,
    published: &[PublishedPort],
) -> Result<Vec<PublishedPort>, Error> {
    let mut added = Vec::new();
    for text in exposed_ports {
        let all = exposed(text)?;
        for offset in 0..all.range {
            let port = all.container_port + offset;
            let covered = published.iter().chain(&added).any(|other: &PublishedPort| {
                other.protocol == all.protocol
                    && (other.container_port..=last(other.container_port, other.range))
                        .contains(&port)
            });
            if !covered {
                added.push(PublishedPort::random(port, all.protocol));
            }
        }
    }
    Ok(added)
}

/// Checks every port and chooses those that were left open. Every port of the result has a
/// `host_port`.
///
/// Nobody is kept from taking a chosen port afterwards, so this comes right before the start.
pub fn allocate(ports: &[PublishedPort]) -> Result<Vec<PublishedPort>, Error> {
    validate(ports)?;
    let floor = fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start")
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(1024);
    // Held until all are chosen, so that none is chosen twice.
    let mut held = Vec::new();
    let mut result = Vec::with_capacity(ports.len());
    for port in ports.iter().filter(|port| port.host_port.is_some()) {
        check(port, floor, &mut held)?;
    }
    for port in ports {
        let host_port = match port.host_port {
            Some(host_port) => host_port,
            None => choose(port, &mut held)?,
        };
        result.push(PublishedPort {
            host_port: Some(host_port),
            ..*port
        });
    }
    Ok(result)
}

/// What is wrong with the ports whatever the host's state.
pub fn validate(ports: &[PublishedPort]) -> Result<(), Error> {
    for (index, port) in ports.iter().enumerate() {
        if port.range == 0 || port.container_port == 0 || port.host_port == Some(0) {
            return Err(Error::Invalid("0 is not a port to publish".to_owned()));
        }
        let fits = |first: u16| u32::from(first) + u32::from(port.range) - 1 <= 65535;
        if !fits(port.container_port) || !port.host_port.is_none_or(fits) {
            return Err(Error::Invalid(format!(
                "{} ports from {} on end after 65535",
                port.range,
                port.host_port.unwrap_or(port.container_port)
            )));
        }
        for other in &ports[..index] {
            if let (Some(first), Some(second)) = (other.host_port, port.host_port)
                && other.same_place(port)
                && first <= last(second, port.range)
                && second <= last(first, other.range)
            {
                return Err(Error::Invalid(format!(
                    "port {} ({}) is published twice",
                    first.max(second),
                    port.protocol
                )));
            }
        }
    }
    Ok(())
}

/// The first of these ports that somebody has by now, as an error.
pub(crate) fn find_taken(ports: &[PublishedPort]) -> Option<Error> {
    let mut held = Vec::new();
    ports
        .iter()
        .filter(|port| port.host_port.is_some())
        .find_map(|port| check(port, 0, &mut held).err())
}

fn last(first: u16, range: u16) -> u16 {
    first.saturating_add(range.saturating_sub(1))
}

enum Held {
    Tcp(#[expect(dead_code, reason = "an open socket is what keeps the port")] TcpListener),
    Udp(#[expect(dead_code, reason = "an open socket is what keeps the port")] UdpSocket),
}

fn check(port: &PublishedPort, floor: u16, held: &mut Vec<Held>) -> Result<(), Error> {
    let first = port.host_port.unwrap_or_default();
    if first < floor {
        return Err(Error::Unavailable(format!(
            "port {first} is below {floor}, and an ordinary user may not have it: publish a higher \
             port, or set the sysctl net.ipv4.ip_unprivileged_port_start={first}"
        )));
    }
    for number in first..=last(first, port.range) {
        let address = SocketAddr::new(port.address(), number);
        match bind(address, port) {
            Ok((socket, _)) => held.push(socket),
            Err(error) => return Err(cannot_bind(port, number, error)),
        }
    }
    Ok(())
}

fn cannot_bind(port: &PublishedPort, number: u16, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::AddrInUse => Error::PortInUse {
            address: match port.host_ip {
                Some(ip) => SocketAddr::new(ip, number).to_string(),
                None => number.to_string(),
            },
            protocol: port.protocol,
            hint: String::new(),
        },
        io::ErrorKind::AddrNotAvailable => Error::Invalid(format!(
            "{} is not an address of this host, so no port can be published on it",
            port.address()
        )),
        _ => Error::io(format!("bind port {number} ({})", port.protocol))(error),
    }
}

fn choose(port: &PublishedPort, held: &mut Vec<Held>) -> Result<u16, Error> {
    'attempt: for _ in 0..ATTEMPTS {
        let (socket, first) = bind(SocketAddr::new(port.address(), 0), port)
            .map_err(|error| cannot_bind(port, 0, error))?;
        if u32::from(first) + u32::from(port.range) - 1 > 65535 {
            continue;
        }
        let mut run = vec![socket];
        for number in first + 1..=last(first, port.range) {
            match bind(SocketAddr::new(port.address(), number), port) {
                Ok((socket, _)) => run.push(socket),
                Err(_) => continue 'attempt,
            }
        }
        held.append(&mut run);
        return Ok(first);
    }
    Err(Error::Unavailable(format!(
        "no run of {} free ports was found in {ATTEMPTS} attempts: name the first one",
        port.range
    )))
}

fn bind(address: SocketAddr, port: &PublishedPort) -> io::Result<(Held, u16)> {
    let result = bind_exactly(address, port.protocol);
    match result {
        // A host without IPv6 has no wildcard for both; there the older one is all there is.
        Err(error) if port.host_ip.is_none() && error.kind() != io::ErrorKind::AddrInUse => {
            let address = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port());
            bind_exactly(address, port.protocol)
        }
        result => result,
    }
}

fn bind_exactly(address: SocketAddr, protocol: Protocol) -> io::Result<(Held, u16)> {
    match protocol {
        Protocol::Tcp => {
            let socket = TcpListener::bind(address)?;
            let number = socket.local_addr()?.port();
            Ok((Held::Tcp(socket), number))
        }
        Protocol::Udp => {
            let socket = UdpSocket::bind(address)?;
            let number = socket.local_addr()?.port();
            Ok((Held::Udp(socket), number))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn on_loopback(host_port: Option<u16>, range: u16) -> PublishedPort {
        PublishedPort {
            host_ip: Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            host_port,
            container_port: 80,
            protocol: Protocol::Tcp,
            range,
        }
    }

    #[test]
    fn exposed_ports_have_a_grammar() {
        for (text, expected) in [
            ("80", Some((80, Protocol::Tcp, 1))),
            ("80/tcp", Some((80, Protocol::Tcp, 1))),
            ("53/udp", Some((53, Protocol::Udp, 1))),
            ("8000-8002/tcp", Some((8000, Protocol::Tcp, 3))),
            ("1-65535", Some((1, Protocol::Tcp, 65535))),
            ("0", None),
            ("80/sctp", None),
            ("80/tcp/tcp", None),
            ("80/TCP", None),
            ("+80", None),
            ("65536", None),
            ("90-80", None),
            ("", None),
            ("/tcp", None),
            ("-", None),
        ] {
            let found = exposed(text)
                .ok()
                .map(|port| (port.container_port, port.protocol, port.range));
            assert_eq!(found, expected, "{text}");
        }
    }

    #[test]
    fn publish_all_leaves_out_what_is_published() {
        let published = [on_loopback(Some(8080), 1)];
        let added = publish_all(["80/tcp", "443", "443/tcp", "53/udp"], &published).unwrap();
        assert_eq!(
            added,
            [
                PublishedPort::random(443, Protocol::Tcp),
                PublishedPort::random(53, Protocol::Udp)
            ]
        );
    }

    #[test]
    fn a_taken_port_is_named() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let number = taken.local_addr().unwrap().port();
        let error = allocate(&[on_loopback(Some(number), 1)]).unwrap_err();
        assert!(matches!(error, Error::PortInUse { .. }));
        assert!(
            error
                .to_string()
                .starts_with(&format!("port 127.0.0.1:{number} (tcp) is in use")),
            "{error}"
        );
        // The wildcard conflicts with a single address as well.
        let everywhere = PublishedPort {
            host_ip: None,
            ..on_loopback(Some(number), 1)
        };
        let error = allocate(&[everywhere]).unwrap_err();
        assert!(matches!(error, Error::PortInUse { .. }), "{error}");
    }

    #[test]
    fn chosen_ports_are_free_and_differ() {
        let chosen = allocate(&[on_loopback(None, 1), on_loopback(None, 4)]).unwrap();
        let (first, run) = (chosen[0].host_port.unwrap(), chosen[1].host_port.unwrap());
        assert!(first != 0 && run != 0);
        assert!(first < run || first > run + 3);
        for number in run..run + 4 {
            TcpListener::bind((Ipv4Addr::LOCALHOST, number)).unwrap();
        }
    }

    #[test]
    fn privileged_ports_name_the_sysctl() {
        let mut held = Vec::new();
        let error = check(&on_loopback(Some(80), 1), 1024, &mut held).unwrap_err();
        assert!(
            error
                .to_string()
                .contains("net.ipv4.ip_unprivileged_port_start=80"),
            "{error}"
        );
    }

    #[test]
    fn impossible_ports_are_refused() {
        for ports in [
            vec![on_loopback(Some(0), 1)],
            vec![on_loopback(Some(8080), 0)],
            vec![on_loopback(Some(65535), 2)],
            vec![on_loopback(Some(8080), 4), on_loopback(Some(8083), 1)],
            vec![
                on_loopback(Some(8080), 1),
                PublishedPort {
                    host_ip: None,
                    ..on_loopback(Some(8080), 1)
                },
            ],
        ] {
            assert!(
                matches!(validate(&ports), Err(Error::Invalid(_))),
                "{ports:?}"
            );
        }
        let udp = PublishedPort {
            protocol: Protocol::Udp,
            ..on_loopback(Some(8080), 1)
        };
        validate(&[on_loopback(Some(8080), 1), udp]).unwrap();
    }
}
