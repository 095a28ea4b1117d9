//! `--publish [[IP:][HOST-PORT]:]CONTAINER-PORT[/PROTOCOL]`.

use std::net::IpAddr;

/// A published port, or a range of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The host's address; all of them where none is given.
    pub host_ip: Option<IpAddr>,
    /// The host's first port; a free one where none is given.
    pub host_port: Option<u16>,
    /// The container's first port.
    pub container_port: u16,
    /// How many ports.
    pub count: u16,
    /// Whether it is UDP rather than TCP.
    pub udp: bool,
}

/// Parses a port.
pub fn parse(text: &str) -> Result<Port, String> {
    let bad = || {
        format!(
            "invalid port {text:?}: a port is [[IP:][HOST]:]CONTAINER[/tcp|/udp], each one or FIRST-LAST"
        )
    };
    let (ports, protocol) = text.rsplit_once('/').unwrap_or((text, "tcp"));
    let udp = match protocol.to_ascii_lowercase().as_str() {
        "tcp" => false,
        "udp" => true,
        "sctp" => {
            return Err(format!(
                "invalid port {text:?}: sctp can't be published without root"
            ));
        }
        _ => return Err(bad()),
    };
    let (host, container) = match ports.rsplit_once(':') {
        Some((host, container)) => (host, container),
        None => ("", ports),
    };
    let (ip, host_port) = match host.rsplit_once(':') {
        Some((ip, port)) => (ip, port),
        None => ("", host),
    };
    let bracketed = ip.strip_prefix('[').and_then(|ip| ip.strip_suffix(']'));
    if bracketed.is_none() && ip.contains(':') {
        return Err(bad());
    }
    let host_ip = match bracketed.unwrap_or(ip) {
        "" => None,
        ip => Some(ip.parse().map_err(|_| bad())?),
    };
    let (container_port, count) = range(container).ok_or_else(bad)?;
    let host_port = if host_port.is_empty() {
        None
    } else {
        let (first, host_count) = range(host_port).ok_or_else(bad)?;
        if host_count != count {
            return Err(format!(
                "invalid port {text:?}: the ranges differ in length"
            ));
        }
        Some(first)
    };
    Ok(Port {
        host_ip,
        host_port,
        container_port,
        count,
        udp,
    })
}

fn range(text: &str) -> Option<(u16, u16)> {
    let port = |text: &str| text.parse::<u16>().ok().filter(|&port| port != 0);
    match text.split_once('-') {
        None => Some((port(text)?, 1)),
        Some((first, last)) => {
            let (first, last) = (port(first)?, port(last)?);
            Some((first, last.checked_sub(first)?.checked_add(1)?))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_have_podmans_grammar() {
        let of = |text: &str| {
            let port = parse(text).unwrap();
            (
                port.host_ip.map(|ip| ip.to_string()),
                port.host_port,
                port.container_port,
                port.count,
                port.udp,
            )
        };
        assert_eq!(of("80"), (None, None, 80, 1, false));
        assert_eq!(of("8080:80"), (None, Some(8080), 80, 1, false));
        assert_eq!(of(":80"), (None, None, 80, 1, false));
        assert_eq!(
            of("127.0.0.1:8080:80/udp"),
            (Some("127.0.0.1".to_owned()), Some(8080), 80, 1, true)
        );
        assert_eq!(
            of("127.0.0.1::80"),
            (Some("127.0.0.1".to_owned()), None, 80, 1, false)
        );
        assert_eq!(
            of("[::1]:8080:80"),
            (Some("::1".to_owned()), Some(8080), 80, 1, false)
        );
        assert_eq!(
            of("8000-8005:9000-9005"),
            (None, Some(8000), 9000, 6, false)
        );
        for bad in [
            "",
            "0",
            "70000",
            "a:80",
            "80/x",
            "1-3:1-2",
            "3-1",
            "::1:80:80",
            "80/sctp",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
