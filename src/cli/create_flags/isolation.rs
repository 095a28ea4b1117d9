//! Flags about namespaces, network and privileges.

use std::path::Path;

use anyhow::{Context, bail};
use kelp_args::namespace::{self, Network, User};
use kelp_args::port;
use kelp_args::security::{Label, Seccomp, Unmask};
use kelp_args::{AddHost, IdMapping, SecurityOption, Sysctl};
use kelp_engine::container::CreateOptions;
use kelp_engine::container::config::{CgroupMode, Namespace, UserMode};
use kelp_engine::host::{self, Ids};
use kelp_engine::network::hosts::Base;
use kelp_engine::network::ports::exposed;
use kelp_engine::network::{Mode, PastaOptions, Protocol, PublishedPort};
use kelp_engine::pod::{Said, Shared};
use serde_json::Value;

use super::each;
use crate::cli::output;

/// The flags.
#[derive(clap::Args, Debug)]
pub struct IsolationFlags {
    /// The host's name inside
    #[arg(short = 'h', long)]
    hostname: Option<String>,
    /// The network: pasta, host, none, container:ID or ns:PATH
    #[arg(long, visible_alias = "net", value_name = "MODE")]
    network: Vec<String>,
    /// Publish a port: [[IP:][HOST]:]CONTAINER[/PROTOCOL]
    #[arg(short, long, value_name = "PORT")]
    publish: Vec<String>,
    /// Publish the image's ports on free ports
    #[arg(short = 'P', long)]
    publish_all: bool,
    /// Add a line to /etc/hosts: NAME:IP, or NAME:host-gateway
    #[arg(long, value_name = "NAME:IP")]
    pub(super) add_host: Vec<AddHost>,
    /// Leave the image's /etc/hosts as it is
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true", conflicts_with = "add_host")]
    pub(super) no_hosts: Option<bool>,
    /// What /etc/hosts is made from: a file, none or image
    #[arg(long, value_name = "FILE", conflicts_with = "no_hosts")]
    pub(super) hosts_file: Option<String>,
    /// A port that --publish-all publishes as well: PORT[-PORT][/PROTOCOL]
    #[arg(long, value_name = "PORT")]
    expose: Vec<String>,
    /// Leave the image's /etc/hostname as it is
    #[arg(long)]
    no_hostname: bool,
    /// A name server
    #[arg(long, value_name = "IP")]
    dns: Vec<String>,
    /// A domain to search for names
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// An option of the resolver
    #[arg(long, visible_alias = "dns-opt", value_name = "OPTION")]
    dns_option: Vec<String>,
    /// The process namespace: private, host, container:ID or ns:PATH
    #[arg(long, value_name = "MODE")]
    pub(super) pid: Option<String>,
    /// The IPC namespace: private, shareable, none, host, container:ID or ns:PATH
    #[arg(long, value_name = "MODE")]
    pub(super) ipc: Option<String>,
    /// The UTS namespace: private, host, container:ID or ns:PATH
    #[arg(long, value_name = "MODE")]
    pub(super) uts: Option<String>,
    /// The cgroup namespace: private, host, container:ID or ns:PATH
    #[arg(long, value_name = "MODE")]
    pub(super) cgroupns: Option<String>,
    /// Whether the container gets a cgroup: enabled, no-conmon or disabled
    #[arg(long, value_name = "HOW")]
    pub(super) cgroups: Option<String>,
    /// The user namespace: host, keep-id[:uid=N,gid=N], auto[:size=N], nomap, container:ID or ns:PATH
    #[arg(long, value_name = "MODE", conflicts_with_all = ["uidmap", "gidmap"])]
    pub(super) userns: Option<String>,
    /// A line of the user id map: INSIDE:OUTSIDE:COUNT
    #[arg(long, value_name = "MAP")]
    pub(super) uidmap: Vec<IdMapping>,
    /// A line of the group id map: INSIDE:OUTSIDE:COUNT
    #[arg(long, value_name = "MAP")]
    pub(super) gidmap: Vec<IdMapping>,
    /// Give every capability and mask nothing
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(super) privileged: Option<bool>,
    /// Add a capability
    #[arg(long, value_name = "CAP", value_delimiter = ',')]
    cap_add: Vec<String>,
    /// Take a capability away
    #[arg(long, value_name = "CAP", value_delimiter = ',')]
    cap_drop: Vec<String>,
    /// no-new-privileges, seccomp=FILE|unconfined, apparmor=PROFILE|unconfined, mask=PATHS,
    /// unmask=PATHS|ALL
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<SecurityOption>,
    /// Set a kernel parameter of the container's namespaces: NAME=VALUE
    #[arg(long, value_name = "NAME=VALUE")]
    sysctl: Vec<Sysctl>,
}

impl IsolationFlags {
    pub(super) fn apply(&self, options: &mut CreateOptions) -> anyhow::Result<()> {
        options.hostname.clone_from(&self.hostname);
        let names = &mut options.namespaces;
        names.pid = one("pid", self.pid.as_deref())?;
        (names.ipc, options.no_shm) = ipc(self.ipc.as_deref().unwrap_or_default())?;
        names.uts = one("uts", self.uts.as_deref())?;
        names.cgroup = one("cgroupns", self.cgroupns.as_deref())?;
        names.user = self.user()?;
        names.network = match self.network.as_slice() {
            [] => None,
            [text] => Some(network(text)?),
            _ => bail!("cannot set multiple networks without bridge network mode"),
        };
        options.publish = each(&self.publish, published)?;
        options.publish_all = self.publish_all;
        options.add_hosts = self.add_host.iter().flat_map(lines).collect();
        if let Some(text) = &self.hosts_file {
            options.hosts_base = Base::parse(text).ok().with_context(|| {
                format!("invalid hosts file {text:?}: use none, image or an absolute path")
            })?;
        }
        for port in &self.expose {
            if exposed(port).is_err() {
                bail!("invalid port {port:?} for --expose: it is PORT[-PORT][/tcp|udp]");
            }
        }
        options.expose.clone_from(&self.expose);
        if let Some(how) = &self.cgroups {
            options.cgroups.mode = cgroup_mode(how)?;
        }
        if options.cgroups.mode == CgroupMode::Disabled && self.cgroupns.is_some() {
            bail!("--cgroups=disabled and --cgroupns exclude each other");
        }
        options.no_hostname = self.no_hostname;
        options.dns.clone_from(&self.dns);
        options.dns_search.clone_from(&self.dns_search);
        options.dns_options.clone_from(&self.dns_option);
        options.cap_add.clone_from(&self.cap_add);
        options.cap_drop.clone_from(&self.cap_drop);
        let sysctls = self.sysctl.iter();
        options.sysctl = sysctls
            .map(|sysctl| (sysctl.name.clone(), sysctl.value.clone()))
            .collect();
        self.security(options)
    }

    /// What they say of what a pod has for its containers.
    pub(super) fn said(&self) -> Vec<Said> {
        let hosts = !self.add_host.is_empty() || self.hosts_file.is_some();
        let dns = [&self.dns, &self.dns_search, &self.dns_option];
        let ports = self.publish_all || !self.publish.is_empty() || !self.expose.is_empty();
        let user = [!self.uidmap.is_empty(), !self.gidmap.is_empty()];
        let all = [
            (Said::Namespace(Shared::Net), !self.network.is_empty()),
            (Said::Namespace(Shared::Pid), self.pid.is_some()),
            (Said::Namespace(Shared::Ipc), self.ipc.is_some()),
            (Said::Namespace(Shared::Uts), self.uts.is_some()),
            (Said::Namespace(Shared::Cgroup), self.cgroupns.is_some()),
            (Said::User, self.userns.is_some() || user.contains(&true)),
            (Said::Hostname, self.hostname.is_some()),
            (Said::Ports, ports),
            (Said::Hosts, hosts),
            (Said::Dns, dns.iter().any(|list| !list.is_empty())),
        ];
        all.into_iter()
            .filter_map(|(said, is)| is.then_some(said))
            .collect()
    }

    fn user(&self) -> anyhow::Result<UserMode> {
        if !self.uidmap.is_empty() || !self.gidmap.is_empty() {
            let uids = map_lines(&self.uidmap, Ids::Users)?;
            let gids = map_lines(&self.gidmap, Ids::Groups)?;
            // One of the two stands for both, as in podman.
            return Ok(match (uids.is_empty(), gids.is_empty()) {
                (true, _) => UserMode::Map(gids.clone(), gids),
                (_, true) => UserMode::Map(uids.clone(), uids),
                _ => UserMode::Map(uids, gids),
            });
        }
        user_mode(self.userns.as_deref().unwrap_or_default())
    }

    fn security(&self, options: &mut CreateOptions) -> anyhow::Result<()> {
        for option in &self.security_opt {
            match option {
                SecurityOption::NoNewPrivileges(yes) => options.no_new_privileges = *yes,
                // The last one counts.
                SecurityOption::Seccomp(Seccomp::Unconfined) => {
                    options.seccomp_unconfined = true;
                    (options.seccomp, options.seccomp_path) = (None, None);
                }
                SecurityOption::Seccomp(Seccomp::Profile(path)) => {
                    options.seccomp_unconfined = false;
                    options.seccomp = Some(seccomp_profile(path)?);
                    options.seccomp_path = Some(path.clone());
                }
                SecurityOption::Mask(paths) => {
                    let paths = paths.iter().map(|path| path.display().to_string());
                    options.mask.extend(paths);
                }
                SecurityOption::Unmask(Unmask::All) => options.unmask.push("ALL".to_owned()),
                SecurityOption::Unmask(Unmask::Paths(paths)) => {
                    options.unmask.extend(paths.iter().cloned());
                }
                // There is no SELinux confinement to take off.
                SecurityOption::Label(Label::Disable) => {}
                SecurityOption::AppArmor(profile) => {
                    options.apparmor = Some(profile.clone()).filter(|it| it != "unconfined");
                }
                SecurityOption::Label(_) => unsupported("label")?,
                SecurityOption::ProcOptions(_) => unsupported("proc-opts")?,
            }
        }
        Ok(())
    }
}

/// Reads `--cgroups`.
pub(super) fn cgroup_mode(how: &str) -> anyhow::Result<CgroupMode> {
    match how {
        "enabled" => Ok(CgroupMode::Enabled),
        // No other process of kelp's has a cgroup there.
        "no-conmon" => Ok(CgroupMode::Cgroupfs),
        "disabled" => Ok(CgroupMode::Disabled),
        "split" => Ok(CgroupMode::Split),
        _ => bail!("invalid --cgroups {how:?}: use enabled, no-conmon, split or disabled"),
    }
}

/// Reads `--userns`.
pub(super) fn user_mode(text: &str) -> anyhow::Result<UserMode> {
    Ok(match namespace::user(text).map_err(anyhow::Error::msg)? {
        User::Host => UserMode::Host,
        User::KeepId(uid, gid) => UserMode::KeepId { uid, gid },
        User::NoMap => UserMode::NoMap,
        User::Auto(auto) => UserMode::Auto {
            size: auto.size,
            uids: map_lines(&auto.uids, Ids::Users)?,
            gids: map_lines(&auto.gids, Ids::Groups)?,
        },
        User::Container(id) => UserMode::Container(id),
        User::Path(path) => UserMode::Path(path.into()),
    })
}

/// Reads a profile.
pub(super) fn seccomp_profile(path: &Path) -> anyhow::Result<Value> {
    let what = || format!("seccomp profile {}", path.display());
    let text = std::fs::read(path).with_context(|| format!("read {}", what()))?;
    serde_json::from_slice(&text).with_context(what)
}

/// Reads `--ipc`: the namespace, and whether there is no shared memory.
pub(super) fn ipc(text: &str) -> anyhow::Result<(Namespace, bool)> {
    match text {
        "none" => Ok((Namespace::Private, true)),
        _ => Ok((one("ipc", Some(text))?, false)),
    }
}

pub(super) fn one(option: &str, text: Option<&str>) -> anyhow::Result<Namespace> {
    Ok(convert(
        namespace::parse(option, text.unwrap_or_default()).map_err(anyhow::Error::msg)?,
    ))
}

fn convert(namespace: namespace::Namespace) -> Namespace {
    match namespace {
        namespace::Namespace::Private => Namespace::Private,
        namespace::Namespace::Host => Namespace::Host,
        namespace::Namespace::Container(id) => Namespace::Container(id),
        namespace::Namespace::Path(path) => Namespace::Path(path.into()),
    }
}

/// A network that is the host's or none has no ports to publish: they are left out, as podman does.
pub(super) fn discard_ports(options: &mut CreateOptions) {
    let mode = match options.namespaces.network {
        Some(Mode::Host) => "host",
        Some(Mode::None) => "none",
        _ => return,
    };
    if !options.publish.is_empty() || options.publish_all {
        output::note(format_args!(
            "Port mappings have been discarded because \"{mode}\" network namespace mode does not \
             support them"
        ));
        options.publish.clear();
        options.publish_all = false;
    }
}

pub(super) fn network(text: &str) -> anyhow::Result<Mode> {
    Ok(
        match namespace::network(text).map_err(anyhow::Error::msg)? {
            Network::None => Mode::None,
            Network::Pasta(extra) => Mode::Pasta(PastaOptions {
                extra,
                ..PastaOptions::default()
            }),
            Network::Namespace(namespace) => match convert(namespace) {
                Namespace::Container(id) => Mode::Container(id),
                Namespace::Path(path) => Mode::Path(path),
                Namespace::Private => Mode::None,
                Namespace::Host => Mode::Host,
            },
        },
    )
}

fn published(text: &str) -> Result<PublishedPort, String> {
    let port = port::parse(text)?;
    Ok(PublishedPort {
        host_ip: port.host_ip,
        host_port: port.host_port,
        container_port: port.container_port,
        protocol: if port.udp {
            Protocol::Udp
        } else {
            Protocol::Tcp
        },
        range: port.count,
    })
}

fn unsupported(option: &str) -> anyhow::Result<()> {
    bail!("--security-opt {option} is not supported by kelp yet")
}

fn map_lines(maps: &[IdMapping], ids: Ids) -> anyhow::Result<Vec<(u32, u32, u32)>> {
    let mut lines = Vec::new();
    for map in maps {
        let line = (map.container, map.source, map.size);
        if map.source_is_host {
            lines.extend(host::inner(line, ids)?);
        } else {
            lines.push(line);
        }
    }
    Ok(lines)
}

/// A line of /etc/hosts for each name.
fn lines(host: &AddHost) -> impl Iterator<Item = String> {
    host.names.iter().map(|name| {
        let one = AddHost {
            names: vec![name.clone()],
            address: host.address,
        };
        one.to_string()
    })
}
