//! What a value looks like: what a check says of one that can't be right.
//!
//! A value with a specifier (`%i`) or a variable is known to systemd alone, and is let pass.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::key::boolean;
use crate::suggest;

/// What a value looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Anything.
    Any,
    /// A boolean of systemd's.
    Boolean,
    /// A boolean, or `healthy`.
    Notify,
    /// One of these.
    Choice(&'static [&'static str]),
    /// One of these, or one of them and `:` and more, or anything that is a path or a name there.
    Mode(&'static [&'static str]),
    /// `registry` or `local`, with a container's name and a slash before it or not.
    AutoUpdate,
    /// A whole number, -1 included.
    Integer,
    /// A whole number from 0.
    Unsigned,
    /// A span of time: `1h2m3s`, `500ms`.
    Duration,
    /// A span of time, or `disable`.
    Interval,
    /// A number of bytes with a unit: `100m`.
    Bytes,
    /// A port or a range of ports, and a protocol.
    Port,
    /// `[[ip:][hostPort]:]containerPort[/protocol]`.
    Publish,
    /// An IPv4 address.
    Ip4,
    /// An IPv6 address.
    Ip6,
    /// An address of either.
    Ip,
    /// An address of either, or `none`.
    Dns,
    /// `ADDRESS/PREFIX`.
    Subnet,
    /// `ADDRESS/PREFIX`, or `FIRST-LAST`.
    Range,
    /// A path that begins with a slash.
    Absolute,
    /// A path.
    Path,
    /// A capability, or `all`.
    Capability,
    /// A signal, by name or number.
    Signal,
    /// `NAME:ADDRESS`.
    Host,
    /// `NAME=VALUE`.
    Pair,
    /// A name as containers, pods, volumes and networks have.
    Name,
    /// A systemd unit's name without `.service`.
    ServiceName,
    /// `[FLAGS]CONTAINER_ID[:HOST_ID[:AMOUNT]]`.
    IdMap,
    /// `NAME=SOFT[:HARD]`, or `host`.
    Ulimit,
    /// `/path[:options]`.
    Tmpfs,
    /// `[[SOURCE:]/path[:OPTIONS]]`.
    Volume,
}

impl Shape {
    /// What is wrong with a value; nothing if it may be right.
    pub fn problem(self, value: &str) -> Option<String> {
        let open = match self {
            Self::Boolean | Self::Notify | Self::ServiceName => false,
            _ => value.contains(['%', '$']),
        };
        if open || value.is_empty() {
            return None;
        }
        match self {
            Self::Any => None,
            Self::Boolean => wrong(boolean(value).is_some(), value, "true or false"),
            Self::Notify => {
                let right = boolean(value).is_some() || value.eq_ignore_ascii_case("healthy");
                wrong(right, value, "true, false or healthy")
            }
            Self::Choice(words) => choice(words.contains(&value), value, words),
            Self::Mode(words) => {
                let mode = value.split([':', ',']).next().unwrap_or_default();
                choice(words.contains(&mode) || value.contains('/'), value, words)
            }
            Self::AutoUpdate => {
                let mode = value.rsplit('/').next().unwrap_or_default();
                choice(
                    matches!(mode, "registry" | "local"),
                    value,
                    &["registry", "local"],
                )
            }
            Self::Integer => wrong(value.parse::<i64>().is_ok(), value, "a whole number"),
            Self::Unsigned => wrong(value.parse::<u64>().is_ok(), value, "a number from 0"),
            Self::Duration => wrong(is_duration(value), value, "a time as 30s or 1h15m"),
            Self::Interval => {
                let right = is_duration(value) || value == "disable";
                wrong(right, value, "a time as 30s or 1h15m, or disable")
            }
            Self::Bytes => wrong(is_bytes(value), value, "a size as 512m or 2g"),
            Self::Port => wrong(
                is_port(value),
                value,
                "PORT or FIRST-LAST, then /tcp or /udp",
            ),
            Self::Publish => publish(value),
            Self::Ip4 => wrong(value.parse::<Ipv4Addr>().is_ok(), value, "an IPv4 address"),
            Self::Ip6 => wrong(value.parse::<Ipv6Addr>().is_ok(), value, "an IPv6 address"),
            Self::Ip => wrong(value.parse::<IpAddr>().is_ok(), value, "an IP address"),
            Self::Dns => {
                let right = value.parse::<IpAddr>().is_ok() || value == "none";
                wrong(right, value, "an IP address, or none")
            }
            Self::Subnet => wrong(is_subnet(value), value, "a subnet as 10.89.0.0/24"),
            Self::Range => {
                let ends = value.split_once('-');
                let ends = ends.is_some_and(|(first, last)| {
                    first.parse::<IpAddr>().is_ok() && last.parse::<IpAddr>().is_ok()
                });
                wrong(ends || is_subnet(value), value, "a subnet, or FIRST-LAST")
            }
            Self::Absolute => wrong(
                value.starts_with('/'),
                value,
                "a path that begins with a slash",
            ),
            Self::Path => wrong(
                !value.starts_with("-/"),
                value,
                "a path: a dash before it means nothing here",
            ),
            Self::Capability => capability(value),
            Self::Signal => wrong(is_signal(value), value, "a signal as SIGTERM or 15"),
            Self::Host => {
                let right = value.split_once([':', '=']).is_some_and(|(name, address)| {
                    let address = address.trim_matches(['[', ']']);
                    !name.is_empty()
                        && (address == "host-gateway" || address.parse::<IpAddr>().is_ok())
                });
                wrong(right, value, "NAME:ADDRESS")
            }
            Self::Pair => {
                let right = value
                    .split_once('=')
                    .is_some_and(|(name, _)| !name.is_empty());
                wrong(right, value, "NAME=VALUE")
            }
            Self::Name => {
                let first = value.starts_with(|char: char| char.is_ascii_alphanumeric());
                let rest = |char: char| char.is_ascii_alphanumeric() || "_.-".contains(char);
                let right = first && value.chars().all(rest);
                wrong(
                    right,
                    value,
                    "letters, digits and _.-, a letter or digit first",
                )
            }
            Self::ServiceName => service_name(value),
            Self::IdMap => {
                let ids = value.trim_start_matches(['+', 'u', 'g']);
                let number = |id: &str| id.trim_start_matches('@').parse::<u32>().is_ok();
                let right = (1..=3).contains(&ids.split(':').count()) && ids.split(':').all(number);
                wrong(right, value, "CONTAINER:HOST:AMOUNT")
            }
            Self::Ulimit => {
                let right = value == "host"
                    || value.split_once('=').is_some_and(|(name, limits)| {
                        let number =
                            |limit: &str| limit.parse::<i64>().is_ok() || limit == "unlimited";
                        !name.is_empty() && limits.splitn(2, ':').all(number)
                    });
                wrong(right, value, "NAME=SOFT:HARD, or host")
            }
            Self::Tmpfs => wrong(value.starts_with('/'), value, "/PATH or /PATH:OPTIONS"),
            Self::Volume => {
                let mut parts = value.splitn(3, ':');
                let (first, second) = (parts.next().unwrap_or_default(), parts.next());
                let inside = second.unwrap_or(first);
                wrong(
                    inside.starts_with('/'),
                    value,
                    "SOURCE:/PATH:OPTIONS, the path inside with a slash first",
                )
            }
        }
    }
}

fn wrong(right: bool, value: &str, what: &str) -> Option<String> {
    (!right).then(|| format!("{value:?} is not {what}"))
}

fn choice(right: bool, value: &str, words: &[&str]) -> Option<String> {
    if right {
        return None;
    }
    let nearest = suggest::nearest(value, words.iter().copied());
    let nearest = nearest.map(|word| format!("; did you mean {word}?"));
    let words = words.join(", ");
    Some(format!(
        "{value:?} is not one of {words}{}",
        nearest.unwrap_or_default()
    ))
}

/// Spans as podman's flags have them: Go's, or a number of seconds.
fn is_duration(text: &str) -> bool {
    if text.parse::<u64>().is_ok() {
        return true;
    }
    let mut rest = text;
    while !rest.is_empty() {
        let after = rest.trim_start_matches(|char: char| char.is_ascii_digit() || char == '.');
        if after.len() == rest.len() {
            return false;
        }
        let units = ["ns", "us", "µs", "ms", "s", "m", "h"];
        let Some(unit) = units
            .iter()
            .filter(|unit| after.starts_with(*unit))
            .max_by_key(|unit| unit.len())
        else {
            return false;
        };
        rest = &after[unit.len()..];
    }
    !text.is_empty()
}

fn is_bytes(text: &str) -> bool {
    let unit = text.trim_start_matches(|char: char| char.is_ascii_digit() || char == '.');
    let units = [
        "", "b", "k", "kb", "kib", "m", "mb", "mib", "g", "gb", "gib", "t", "tb", "tib", "p", "pb",
        "pib",
    ];
    text == "-1" || (unit.len() < text.len() && units.contains(&unit.to_ascii_lowercase().as_str()))
}

/// `80`, `80-90`, `80/udp`.
pub(crate) fn is_port(text: &str) -> bool {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    matches!(protocol, "tcp" | "udp" | "sctp") && port_count(ports).is_some()
}

/// How many ports a range is; nothing if it is none.
fn port_count(text: &str) -> Option<u32> {
    let port = |text: &str| {
        let digits = text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse::<u16>().ok().filter(|port| digits && *port > 0)
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (port(first)?, port(last)?);
    (first <= last).then(|| u32::from(last - first) + 1)
}

fn publish(value: &str) -> Option<String> {
    let what = "[[ADDRESS:]HOST_PORT:]PORT[/PROTOCOL], a port being from 1 to 65535";
    let (ports, protocol) = value.split_once('/').unwrap_or((value, "tcp"));
    if !matches!(protocol, "tcp" | "udp" | "sctp") {
        return Some(format!("{protocol:?} is not tcp, udp or sctp"));
    }
    let (address, ports) = match ports.strip_prefix('[') {
        Some(rest) => match rest.split_once("]:") {
            Some((address, ports)) => (Some(address), ports),
            None => return wrong(false, value, what),
        },
        None => (None, ports),
    };
    let parts: Vec<_> = ports.split(':').collect();
    let (address, host, inside) = match (address, &parts[..]) {
        (None, [inside]) => ("", "", *inside),
        (None, [host, inside]) => ("", *host, *inside),
        (Some(address), [host, inside]) => (address, *host, *inside),
        (None, [address, host, inside]) => (*address, *host, *inside),
        _ => return wrong(false, value, what),
    };
    if !address.is_empty() && address.parse::<IpAddr>().is_err() {
        return Some(format!("{address:?} is not an IP address"));
    }
    let count = port_count(inside);
    let host_count = if matches!(host, "" | "0") {
        count
    } else {
        port_count(host)
    };
    match (count, host_count) {
        (Some(count), Some(host)) if count == host || count == 1 => None,
        (Some(_), Some(_)) => Some(format!("{host} and {inside} are not as many ports")),
        _ => wrong(false, value, what),
    }
}

fn is_subnet(text: &str) -> bool {
    text.split_once('/').is_some_and(|(address, prefix)| {
        let longest = match address.parse::<IpAddr>() {
            Ok(IpAddr::V4(_)) => 32,
            Ok(IpAddr::V6(_)) => 128,
            Err(_) => return false,
        };
        prefix.parse::<u8>().is_ok_and(|prefix| prefix <= longest)
    })
}

fn is_signal(text: &str) -> bool {
    let name = text.to_ascii_uppercase();
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let real_time = name
        .strip_prefix("RTM")
        .is_some_and(|rest| rest.starts_with("IN") || rest.starts_with("AX"));
    text.parse::<u8>()
        .is_ok_and(|number| (1..=64).contains(&number))
        || SIGNALS.contains(&name)
        || real_time
}

/// signal(7), without SIG.
const SIGNALS: &[&str] = &[
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "IOT", "BUS", "FPE", "KILL", "USR1", "SEGV",
    "USR2", "PIPE", "ALRM", "TERM", "STKFLT", "CHLD", "CLD", "CONT", "STOP", "TSTP", "TTIN",
    "TTOU", "URG", "XCPU", "XFSZ", "VTALRM", "PROF", "WINCH", "IO", "POLL", "PWR", "SYS",
];

/// capabilities(7), without CAP_.
const CAPABILITIES: &[&str] = &[
    "ALL",
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "SYSLOG",
    "WAKE_ALARM",
];

fn capability(value: &str) -> Option<String> {
    let name = value.to_ascii_uppercase();
    let name = name.strip_prefix("CAP_").unwrap_or(&name);
    if CAPABILITIES.contains(&name) {
        return None;
    }
    let nearest = suggest::nearest(name, CAPABILITIES.iter().copied());
    let nearest = nearest.map(|name| format!("; did you mean CAP_{name}?"));
    Some(format!(
        "{value:?} is no capability{}",
        nearest.unwrap_or_default()
    ))
}

/// What is wrong with the name of a service, which is without `.service`.
pub(crate) fn service_name(name: &str) -> Option<String> {
    name_of(name, name, ".service")
}

/// What is wrong with a service's name, with `.service`, in which systemd replaces specifiers yet.
pub(crate) fn service_with_specifiers(name: &str) -> Option<String> {
    let stem = name.strip_suffix(".service").unwrap_or(name);
    name_of(&stem.replace('%', ""), name, ".service")
}

/// What is wrong with the name of a unit: which is then no path that leads elsewhere either.
pub(crate) fn unit_name(name: &str) -> Option<String> {
    match name.rsplit_once('.') {
        Some((stem, kind)) if UNITS.contains(&kind) => name_of(stem, name, kind),
        _ => Some(format!(
            "{name:?} is no unit: its name ends in .target, .service or the like"
        )),
    }
}

/// What the names of units end in (systemd.unit(5)).
const UNITS: &[&str] = &[
    "service",
    "socket",
    "device",
    "mount",
    "automount",
    "swap",
    "target",
    "path",
    "timer",
    "slice",
    "scope",
];

/// What is wrong with a name that is shown as this, before what it ends in.
fn name_of(name: &str, shown: &str, end: &str) -> Option<String> {
    let allowed = |char: char| char.is_ascii_alphanumeric() || ":-_.\\@".contains(char);
    if let Some(char) = name.chars().find(|char| !allowed(*char)) {
        let what = "a unit's name has letters, digits and :-_.\\@ (systemd.unit(5))";
        return Some(format!("{char:?} can't be in {shown:?}: {what}"));
    }
    if name.starts_with('@') {
        return Some(format!("{shown:?} is no name: nothing stands before the @"));
    }
    let long = name.len() + end.len() > 255;
    (long || name.is_empty())
        .then(|| format!("{shown:?} can't be a unit's name: systemd takes 1 to 255 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn right_values_pass_and_wrong_ones_do_not() {
        for (shape, right, wrong) in [
            (
                Shape::Boolean,
                &["yes", "OFF", "1", "true"][..],
                &["y", "enabled"][..],
            ),
            (Shape::Notify, &["healthy", "Healthy", "no"], &["container"]),
            (Shape::Choice(&["a", "b"]), &["a", "%i", ""], &["c"]),
            (
                Shape::Mode(&["host", "none"]),
                &["host", "none:x", "/run/x"],
                &["hots"],
            ),
            (
                Shape::AutoUpdate,
                &["local", "web/registry"],
                &["web", "local/"],
            ),
            (Shape::Integer, &["-1", "10"], &["ten", "1.5"]),
            (Shape::Unsigned, &["0", "10"], &["-1", "x"]),
            (
                Shape::Duration,
                &["30", "30s", "1h2m3.5s", "500ms"],
                &["s", "1x", "1 s"],
            ),
            (Shape::Interval, &["disable", "5m"], &["disabled"]),
            (
                Shape::Bytes,
                &["10", "1.5g", "100Mb", "-1"],
                &["m", "10x", "1 g"],
            ),
            (
                Shape::Port,
                &["80", "1-2/udp", "5/tcp"],
                &["0", "5-", "9-1", "80/icmp", "70000", "+1"],
            ),
            (
                Shape::Publish,
                &[
                    "80",
                    "8080:80",
                    "127.0.0.1::80",
                    "1.2.3.4:1:2/udp",
                    "[::1]:8080:80",
                    "10-12:20-22",
                    "10-12:80",
                ],
                &[
                    "a:80",
                    "1:2:3",
                    "[::1]:80",
                    "10-12:20-23",
                    "80/foo",
                    "1:2:3:4",
                    "[::1:80",
                ],
            ),
            (Shape::Ip4, &["1.2.3.4"], &["::1", "1.2.3"]),
            (Shape::Ip6, &["::1"], &["1.2.3.4"]),
            (Shape::Ip, &["::1", "1.2.3.4"], &["x"]),
            (Shape::Dns, &["none", "1.1.1.1"], &["no"]),
            (
                Shape::Subnet,
                &["10.0.0.0/8", "fd00::/64"],
                &["10.0.0.0", "10.0.0.0/33", "x/8"],
            ),
            (
                Shape::Range,
                &["10.0.0.1-10.0.0.9", "10.0.0.0/28"],
                &["10.0.0.1-", "1"],
            ),
            (Shape::Absolute, &["/x", "%h/x"], &["x", "./x"]),
            (Shape::Path, &["/x", "x"], &["-/x"]),
            (
                Shape::Capability,
                &["CAP_NET_RAW", "net_raw", "all"],
                &["CAP_NET", "NETRAW"],
            ),
            (
                Shape::Signal,
                &["SIGTERM", "hup", "9", "RTMIN+3"],
                &["SIGFOO", "0", "65"],
            ),
            (
                Shape::Host,
                &["a:1.2.3.4", "a:[::1]", "a:host-gateway", "a:::1"],
                &["a", ":1.2.3.4", "a:b"],
            ),
            (Shape::Pair, &["a=b", "a="], &["a", "=b"]),
            (Shape::Name, &["a", "a_b.c-1", "x%i"], &["-a", "a b", "a/b"]),
            (
                Shape::ServiceName,
                &["a", "a@b", "x:y"],
                &["a b", "a/b", "a%i", "@x"],
            ),
            (Shape::IdMap, &["0:1:2", "+g1:@2", "5"], &["a", "1:2:3:4"]),
            (
                Shape::Ulimit,
                &["nofile=1:2", "host", "core=-1"],
                &["nofile", "=1", "a=b"],
            ),
            (Shape::Tmpfs, &["/x", "/x:rw"], &["x"]),
            (
                Shape::Volume,
                &["/x", "a:/x", "./a:/b:ro", "a.volume:/b"],
                &["a", "a:b", "a.volume"],
            ),
        ] {
            for value in right {
                assert_eq!(shape.problem(value), None, "{shape:?} {value}");
            }
            for value in wrong {
                assert!(shape.problem(value).is_some(), "{shape:?} {value}");
            }
        }
    }

    #[test]
    fn a_unit_is_known_by_its_whole_name() {
        for (name, right) in [
            ("a.target", true),
            ("a@b.service", true),
            ("dev-a\\x2db.device", true),
            ("a..service", true),
            ("a", false),
            (".service", false),
            ("a.wants", false),
            ("a.container", false),
            ("../a.service", false),
            ("a/b.service", false),
            ("a.service/..", false),
            ("a./../b", false),
            ("a b.target", false),
            ("a\nb.target", false),
        ] {
            assert_eq!(unit_name(name).is_none(), right, "{name}");
        }
        assert_eq!(service_with_specifiers("a@%i.service"), None);
        assert_eq!(
            service_with_specifiers("a@b c.service").as_deref(),
            Some(
                "' ' can't be in \"a@b c.service\": a unit's name has letters, digits and :-_.\\@ (systemd.unit(5))"
            )
        );
    }

    #[test]
    fn what_is_meant_is_told() {
        for (shape, value, said) in [
            (Shape::Boolean, "ja", "\"ja\" is not true or false"),
            (
                Shape::Choice(&["always", "never"]),
                "nevr",
                "\"nevr\" is not one of always, never; did you mean never?",
            ),
            (
                Shape::Capability,
                "CAP_NET_ADMN",
                "\"CAP_NET_ADMN\" is no capability; did you mean CAP_NET_ADMIN?",
            ),
            (
                Shape::Publish,
                "1-2:1-3",
                "1-2 and 1-3 are not as many ports",
            ),
        ] {
            assert_eq!(shape.problem(value).as_deref(), Some(said));
        }
    }
}
