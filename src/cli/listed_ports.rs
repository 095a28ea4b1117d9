//! The ports of a container as lists show and filter them: published, or only served.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use kelp_engine::Engine;
use kelp_engine::container::list::Summary;
use kelp_engine::network::PublishedPort;
use kelp_engine::pod::{Membership, Shared};
use serde::Serialize;

/// Ports of one protocol: `80`, `80/udp`, `8000-8010/tcp`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The first one.
    pub first: u16,
    /// The last one.
    pub last: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
}

impl Ports {
    /// Reads them; what is no port is none.
    pub fn parse(text: &str) -> Option<Self> {
        let (numbers, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let (first, last) = numbers.split_once('-').unwrap_or((numbers, numbers));
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        let is_protocol = matches!(protocol, "tcp" | "udp" | "sctp");
        (is_protocol && first <= last).then(|| Self {
            first,
            last,
            protocol: protocol.to_owned(),
        })
    }

    /// Whether one port is of both.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.protocol == other.protocol && self.first <= other.last && other.first <= self.last
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(formatter, "{}/{}", self.first, self.protocol)
        } else {
            write!(formatter, "{}-{}/{}", self.first, self.last, self.protocol)
        }
    }
}

/// The ports of a container that has the network of its pod: those of the infra container.
pub fn of_pod(engine: &Engine, pod: Option<&Membership>) -> Option<Vec<PublishedPort>> {
    let infra = pod?.infra_with(Shared::Net)?;
    Some(engine.config(infra).ok()?.options.publish)
}

/// The ports that are published.
pub fn published(list: &[PublishedPort]) -> Vec<Ports> {
    list.iter()
        .map(|port| Ports {
            first: port.container_port,
            last: port.container_port + (port.range.max(1) - 1),
            protocol: port.protocol.to_string(),
        })
        .collect()
}

/// The ports that are served, published or not: an image's author writes them, so what is no port is
/// left out.
pub fn exposed(texts: &[String]) -> Vec<Ports> {
    texts.iter().filter_map(|text| Ports::parse(text)).collect()
}

/// The protocols of each port that is served, as podman tells them.
pub fn exposed_protocols(summary: &Summary) -> BTreeMap<u16, Vec<String>> {
    let mut ports: BTreeMap<u16, Vec<String>> = BTreeMap::new();
    for (protocol, port) in exposed_one_by_one(summary) {
        ports.entry(port).or_default().push(protocol);
    }
    ports
}

/// By protocol and number.
fn exposed_one_by_one(summary: &Summary) -> BTreeSet<(String, u16)> {
    let mut ports = BTreeSet::new();
    for run in exposed(&summary.exposed) {
        ports.extend((run.first..=run.last).map(|port| (run.protocol.clone(), port)));
    }
    ports
}

/// `0.0.0.0:8080->80/tcp, 443/tcp`: published ports, then those that are only served; runs of them as
/// `8000-8002->80-82/tcp` and `9000-9002/udp`.
pub fn text(summary: &Summary) -> String {
    let list = &summary.options.publish;
    let mut texts: Vec<_> = list.iter().map(published_text).collect();
    let published = published(list);
    let mut runs: Vec<Ports> = Vec::new();
    for (protocol, port) in exposed_one_by_one(summary) {
        let one = Ports {
            first: port,
            last: port,
            protocol,
        };
        if published.iter().any(|published| published.overlaps(&one)) {
            continue;
        }
        match runs.last_mut() {
            Some(run) if run.protocol == one.protocol && run.last + 1 == port => run.last = port,
            _ => runs.push(one),
        }
    }
    texts.extend(runs.iter().map(ToString::to_string));
    texts.join(", ")
}

fn published_text(port: &PublishedPort) -> String {
    let host = port.host_port.unwrap_or(port.container_port);
    let host_ip = port
        .host_ip
        .map_or_else(|| "0.0.0.0".to_owned(), |ip| ip.to_string());
    let run = |first: u16| match port.range {
        0 | 1 => first.to_string(),
        range => format!("{first}-{}", u32::from(first) + u32::from(range) - 1),
    };
    format!(
        "{host_ip}:{}->{}/{}",
        run(host),
        run(port.container_port),
        port.protocol
    )
}

/// A published port in JSON.
#[derive(Serialize)]
pub struct PortObject {
    host_ip: String,
    #[serde(rename = "container_port")]
    inside: u16,
    #[serde(rename = "host_port")]
    outside: u16,
    range: u16,
    protocol: String,
}

/// Published ports in JSON.
pub fn objects(published: &[PublishedPort]) -> Option<Vec<PortObject>> {
    let objects: Vec<_> = published
        .iter()
        .map(|port| PortObject {
            host_ip: port.host_ip.map(|ip| ip.to_string()).unwrap_or_default(),
            inside: port.container_port,
            outside: port.host_port.unwrap_or(port.container_port),
            range: port.range,
            protocol: port.protocol.to_string(),
        })
        .collect();
    (!objects.is_empty()).then_some(objects)
}

#[cfg(test)]
mod tests {
    use kelp_engine::network::ports::Protocol;
    use serde_json::json;

    use super::*;

    fn summary(publish: Vec<PublishedPort>, exposed: &[&str]) -> Summary {
        let mut summary: Summary = serde_json::from_value(json!({
            "id": "a".repeat(64),
            "name": "web",
            "created": { "secs_since_epoch": 0, "nanos_since_epoch": 0 },
            "image_name": "a",
            "image_id": "",
            "command": [],
        }))
        .unwrap();
        // A record of an older version has none.
        assert!(summary.exposed.is_empty());
        summary.options.publish = publish;
        summary.exposed = exposed.iter().map(|&text| text.to_owned()).collect();
        summary
    }

    #[test]
    fn ports_overlap_within_a_protocol() {
        let ports = |text| Ports::parse(text).unwrap();
        assert!(ports("80-90").overlaps(&ports("90/tcp")));
        assert!(!ports("80-90").overlaps(&ports("91")));
        assert!(!ports("80").overlaps(&ports("80/udp")));
    }

    #[test]
    fn ports_are_podmans_words() {
        let port = |host_ip: Option<&str>, range| PublishedPort {
            host_ip: host_ip.map(|ip| ip.parse().unwrap()),
            host_port: Some(8080),
            container_port: 80,
            protocol: Protocol::Tcp,
            range,
        };
        for (publish, exposed, expected) in [
            (vec![], &[][..], ""),
            (
                vec![port(None, 1), port(Some("127.0.0.1"), 3)],
                &[],
                "0.0.0.0:8080->80/tcp, 127.0.0.1:8080-8082->80-82/tcp",
            ),
            (
                vec![port(None, 1)],
                &["443", "80/tcp", "http"],
                "0.0.0.0:8080->80/tcp, 443/tcp",
            ),
            (
                vec![port(None, 3)],
                &["79-84/tcp", "53/udp", "54/udp", "80/udp", "65535/tcp"],
                "0.0.0.0:8080-8082->80-82/tcp, 79/tcp, 83-84/tcp, 65535/tcp, 53-54/udp, 80/udp",
            ),
        ] {
            assert_eq!(text(&summary(publish, exposed)), expected);
        }
        let protocols = exposed_protocols(&summary(vec![], &["53/udp", "53", "80"]));
        assert_eq!(
            serde_json::to_value(&protocols).unwrap(),
            json!({ "53": ["tcp", "udp"], "80": ["tcp"] })
        );
    }
}
