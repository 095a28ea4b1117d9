//! Host names to addresses, without the C library.
//!
//! getaddrinfo(3) in a static binary loads shared objects of the machine's own C library, which may
//! be another version, or none. So: `localhost` and /etc/hosts are answered here, and hickory asks
//! the name servers of /etc/resolv.conf. Where that file names none, other names fail; nobody else's
//! server is asked instead.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{LookupIpStrategy, ResolveHosts};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Why a name has no address.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum LookupError {
    /// The name servers say so.
    #[error("no such host")]
    NoSuchHost,
    /// The name servers could not be asked.
    #[error("name lookup failed: {0}")]
    Failed(String),
}

/// Looks names up for the HTTP client.
#[derive(Clone, Default)]
pub(crate) struct Resolver {
    // Made at the first name that needs it: reading resolv.conf must not fail a pull from loopback.
    servers: Arc<OnceLock<Result<TokioResolver, String>>>,
}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let resolver = self.clone();
        Box::pin(async move {
            let addresses = resolver.lookup(name.as_str()).await?;
            let sockets = addresses
                .into_iter()
                .map(|address| SocketAddr::new(address, 0));
            Ok(Box::new(sockets) as Addrs)
        })
    }
}

impl Resolver {
    async fn lookup(&self, name: &str) -> Result<Vec<IpAddr>, LookupError> {
        let hosts = fs::read_to_string("/etc/hosts").unwrap_or_default();
        let known = lookup_local(name, &hosts);
        if !known.is_empty() {
            return Ok(known);
        }
        let servers = self
            .servers
            .get_or_init(|| name_servers().map_err(|error| error.to_string()));
        let servers = match servers {
            Ok(servers) => servers,
            Err(error) => {
                return Err(LookupError::Failed(format!(
                    "no usable name server in /etc/resolv.conf: {error}"
                )));
            }
        };
        match servers.lookup_ip(name).await {
            Ok(found) => Ok(found.iter().collect()),
            Err(error) if error.is_nx_domain() || error.is_no_records_found() => {
                Err(LookupError::NoSuchHost)
            }
            Err(error) => Err(LookupError::Failed(error.to_string())),
        }
    }
}

fn name_servers() -> Result<TokioResolver, hickory_resolver::net::NetError> {
    let mut builder = TokioResolver::builder_tokio()?;
    let options = builder.options_mut();
    options.ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
    options.use_hosts_file = ResolveHosts::Never;
    builder.build()
}

/// What is known without asking anybody: `localhost` (RFC 6761) and the text of hosts(5).
fn lookup_local(name: &str, hosts: &str) -> Vec<IpAddr> {
    let name = name.trim_end_matches('.');
    let mut found = Vec::new();
    for line in hosts.lines() {
        let line = line.split('#').next().unwrap_or_default();
        let mut words = line.split_whitespace();
        if let Some(Ok(address)) = words.next().map(str::parse::<IpAddr>)
            && words.any(|word| word.eq_ignore_ascii_case(name))
            && !found.contains(&address)
        {
            found.push(address);
        }
    }
    let is_localhost = name
        .rsplit('.')
        .next()
        .is_some_and(|label| label.eq_ignore_ascii_case("localhost"));
    if found.is_empty() && is_localhost {
        found.push(Ipv4Addr::LOCALHOST.into());
        found.push(Ipv6Addr::LOCALHOST.into());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_localhost_need_no_server() {
        let hosts = "# comment\n127.0.0.1 localhost\n::1 localhost ip6-localhost\n\
                     10.1.2.3 registry.lan Registry # also\nnonsense x\n";
        for (name, hosts, expected) in [
            ("localhost", hosts, &["127.0.0.1", "::1"][..]),
            ("localhost", "", &["127.0.0.1", "::1"]),
            ("a.localhost", hosts, &["127.0.0.1", "::1"]),
            ("registry.lan", hosts, &["10.1.2.3"]),
            ("registry.lan.", hosts, &["10.1.2.3"]),
            ("REGISTRY", hosts, &["10.1.2.3"]),
            ("also", hosts, &[]),
            ("x", hosts, &[]),
            ("notlocalhost", "", &[]),
        ] {
            let found: Vec<String> = lookup_local(name, hosts)
                .iter()
                .map(IpAddr::to_string)
                .collect();
            assert_eq!(found, expected, "{name}");
        }
    }
}
