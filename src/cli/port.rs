//! `kelp port`: the published ports of containers.

use kelp_engine::container::Config;
use kelp_engine::network::ports::{Protocol, PublishedPort};
use kelp_engine::{Engine, Status};

use super::{listed_ports, output};

/// List port mappings of a container
#[derive(clap::Args)]
pub struct Args {
    /// Show the ports of every running container
    #[arg(short, long)]
    all: bool,
    /// Use the container that was created last
    #[arg(short, long)]
    latest: bool,
    /// The container, and one port of it: PORT[/PROTOCOL]
    #[arg(value_name = "CONTAINER [PORT]", num_args = 0..=2)]
    words: Vec<String>,
}

/// Runs it; the exit code.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    if args.all {
        anyhow::ensure!(
            args.words.is_empty(),
            "no additional arguments can be used with --all"
        );
        for config in engine.containers() {
            if engine.status(&config.id)? == Status::Running {
                for line in lines(&published(engine, &config)) {
                    output::line(format_args!("{}\t{line}", config.id.short()))?;
                }
            }
        }
        return Ok(0);
    }
    let mut words = args.words.iter();
    let id = if args.latest {
        engine.latest_container()?
    } else {
        let name = words.next();
        let name =
            name.ok_or_else(|| anyhow::anyhow!("you must supply a running container name or id"))?;
        engine.find_container(name)?
    };
    let published = published(engine, &engine.config(&id)?);
    let Some(wanted) = words.next() else {
        for line in lines(&published) {
            output::line(line)?;
        }
        return Ok(0);
    };
    let places = places(&published, wanted)?;
    if places.is_empty() {
        anyhow::bail!("failed to find published port \"{wanted}\"");
    }
    for place in places {
        output::line(place)?;
    }
    Ok(0)
}

/// The ports of a container; of one that has its pod's network, those of that.
fn published(engine: &Engine, config: &Config) -> Vec<PublishedPort> {
    let options = &config.options;
    listed_ports::of_pod(engine, options.pod.as_ref()).unwrap_or_else(|| options.publish.clone())
}

/// Every port with its place on the host: `80/tcp -> 0.0.0.0:8080`.
fn lines(published: &[PublishedPort]) -> Vec<String> {
    published
        .iter()
        .flat_map(|port| {
            (0..port.range).map(|offset| {
                let inside = port.container_port + offset;
                format!("{inside}/{} -> {}", port.protocol, place(port, offset))
            })
        })
        .collect()
}

/// Where on the host the port `wanted` (`80` or `80/udp`) is.
fn places(published: &[PublishedPort], wanted: &str) -> anyhow::Result<Vec<String>> {
    let (number, protocol) = wanted.split_once('/').unwrap_or((wanted, "tcp"));
    let number: u16 = number
        .parse()
        .map_err(|_| anyhow::anyhow!("invalid port number {number:?}"))?;
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        _ => anyhow::bail!("invalid port protocol {protocol:?}"),
    };
    let covers = |port: &&PublishedPort| {
        port.protocol == protocol
            && number
                .checked_sub(port.container_port)
                .is_some_and(|offset| offset < port.range)
    };
    Ok(published
        .iter()
        .filter(covers)
        .map(|port| place(port, number - port.container_port))
        .collect())
}

fn place(port: &PublishedPort, offset: u16) -> String {
    let number = port.host_port.unwrap_or(port.container_port) + offset;
    match port.host_ip {
        None => format!("0.0.0.0:{number}"),
        Some(ip) => std::net::SocketAddr::new(ip, number).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(host_ip: Option<&str>, host: u16, inside: u16, range: u16) -> PublishedPort {
        PublishedPort {
            host_ip: host_ip.map(|ip| ip.parse().unwrap()),
            host_port: Some(host),
            container_port: inside,
            protocol: Protocol::Tcp,
            range,
        }
    }

    #[test]
    fn ports_are_listed_one_by_one() {
        let published = [port(None, 8080, 80, 2), port(Some("::1"), 9000, 443, 1)];
        assert_eq!(
            lines(&published),
            [
                "80/tcp -> 0.0.0.0:8080",
                "81/tcp -> 0.0.0.0:8081",
                "443/tcp -> [::1]:9000"
            ]
        );
        assert_eq!(places(&published, "81").unwrap(), ["0.0.0.0:8081"]);
        assert_eq!(places(&published, "443/tcp").unwrap(), ["[::1]:9000"]);
        assert!(places(&published, "80/udp").unwrap().is_empty());
        assert!(places(&published, "82").unwrap().is_empty());
        assert!(places(&published, "x").is_err());
    }
}
