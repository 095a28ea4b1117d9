//! Which network a container has, and the three verbs: validate, set up, tear down.
//!
//! A network that containers share (a hub for each user, with bridges) will be one more mode here,
//! and one more kind of plan; the verbs stay.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::Error;
use crate::pasta::{PastaOptions, PastaPlan, Running};
use crate::ports::{self, PublishedPort};

/// The network of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// The host's.
    Host,
    /// Its own, with a loopback interface and nothing else.
    None,
    /// Its own, with a pasta to the host's.
    Pasta(PastaOptions),
    /// Another container's, by its id.
    Container(String),
    /// That of a file.
    Path(PathBuf),
}

/// A network that was found possible; part of what a container is started from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Plan {
    /// The namespace is all there is to it.
    Namespace,
    /// A pasta.
    Pasta(PastaPlan),
}

impl Plan {
    /// Says that the user has no id in the container's user namespace: whatever runs for the network
    /// has to be that namespace's root.
    pub fn run_as_root(&mut self) {
        if let Self::Pasta(plan) = self {
            plan.as_root = true;
        }
    }
}

/// What runs for a network. Dropping it ends it.
#[derive(Debug)]
pub struct Network {
    pasta: Option<Running>,
}

impl Mode {
    /// Whether the container gets a network namespace of its own.
    pub fn creates_namespace(&self) -> bool {
        matches!(self, Self::None | Self::Pasta(_))
    }

    /// Checks that the host can give this network with these ports. The ports have to be those
    /// that [`ports::allocate`] returned.
    pub fn validate(&self, published: &[PublishedPort]) -> Result<Plan, Error> {
        ports::validate(published)?;
        match self {
            Self::Pasta(options) => Ok(Plan::Pasta(options.plan(published)?)),
            _ if published.is_empty() => Ok(Plan::Namespace),
            // What listens there is on the host's port already.
            Self::Host => match published.iter().find(|port| !is_direct(port)) {
                None => Ok(Plan::Namespace),
                Some(port) => Err(Error::Invalid(format!(
                    "port {} can't be published with --network host: the container's ports are \
                     the host's own",
                    port.container_port
                ))),
            },
            Self::None => Err(Error::Invalid(
                "ports can't be published with --network none: use --network pasta".to_owned(),
            )),
            Self::Container(_) | Self::Path(_) => Err(Error::Invalid(
                "ports can't be published for a network that is joined: publish them where it was \
                 made"
                    .to_owned(),
            )),
        }
    }

    /// The container's own address, for its `/etc/hosts`.
    ///
    /// pasta gives the container the address of the host's interface with the default route. The
    /// kernel names the same one when a datagram socket is connected, which sends nothing.
    pub fn address(&self) -> Option<IpAddr> {
        match self {
            Self::Pasta(_) => source_address(
                (Ipv4Addr::UNSPECIFIED, 0).into(),
                (Ipv4Addr::new(192, 0, 2, 1), 9).into(),
            )
            .or_else(|| {
                source_address(
                    (Ipv6Addr::UNSPECIFIED, 0).into(),
                    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1), 9).into(),
                )
            }),
            Self::None => Some(Ipv4Addr::LOCALHOST.into()),
            Self::Host | Self::Container(_) | Self::Path(_) => None,
        }
    }
}

fn is_direct(port: &PublishedPort) -> bool {
    port.host_ip.is_none() && port.host_port == Some(port.container_port)
}

fn source_address(local: std::net::SocketAddr, remote: std::net::SocketAddr) -> Option<IpAddr> {
    let socket = UdpSocket::bind(local).ok()?;
    socket.connect(remote).ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified())
}

impl Plan {
    /// Makes the network of this namespace; see [`PastaPlan::start`] for who may call it.
    pub fn set_up(&self, netns: BorrowedFd<'_>) -> Result<Network, Error> {
        Ok(Network {
            pasta: match self {
                Self::Namespace => None,
                Self::Pasta(pasta) => Some(pasta.start(netns)?),
            },
        })
    }

    /// The address inside that is the host: `host.containers.internal`.
    pub fn host(&self) -> Option<IpAddr> {
        match self {
            Self::Namespace => None,
            Self::Pasta(pasta) => pasta.host,
        }
    }

    /// The address inside that answers name queries.
    pub fn forwarder(&self) -> Option<IpAddr> {
        match self {
            Self::Namespace => None,
            Self::Pasta(pasta) => pasta.forwarder,
        }
    }
}

impl Network {
    /// The process that carries it, if one does: readable once that has ended.
    pub fn pidfd(&self) -> Option<BorrowedFd<'_>> {
        self.pasta.as_ref().map(Running::pidfd)
    }

    /// Ends what runs for it; its ports are free afterwards.
    pub fn tear_down(self) -> Result<(), Error> {
        self.pasta.map_or(Ok(()), Running::tear_down)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::Protocol;

    #[test]
    fn ports_need_a_network_that_has_them() {
        let shifted = PublishedPort {
            host_port: Some(8080),
            ..PublishedPort::random(80, Protocol::Tcp)
        };
        let direct = PublishedPort {
            container_port: 8080,
            ..shifted
        };
        for (mode, port, fits) in [
            (Mode::Host, shifted, false),
            (Mode::Host, direct, true),
            (Mode::None, direct, false),
            (Mode::Container("c".to_owned()), direct, false),
            (Mode::Path("/run/netns/a".into()), direct, false),
        ] {
            assert_eq!(mode.validate(&[port]).is_ok(), fits, "{mode:?} {port:?}");
            assert_eq!(mode.validate(&[]).unwrap(), Plan::Namespace);
        }
    }

    #[test]
    fn modes_keep_their_spelling_in_records() {
        for (mode, expected) in [
            (Mode::Host, r#""host""#),
            (Mode::Container("ab".to_owned()), r#"{"container":"ab"}"#),
        ] {
            let text = serde_json::to_string(&mode).unwrap();
            assert_eq!(text, expected);
            assert_eq!(serde_json::from_str::<Mode>(&text).unwrap(), mode);
        }
    }
}
