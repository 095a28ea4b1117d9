//! The network of a new container: which one, its ports, and the files in /etc that tell of it.

use std::fs;
use std::path::PathBuf;

use kelp_network::hosts::{AddedHost, Base as HostsBase, Hosts, hosts};
use kelp_network::resolv::{DnsOptions, HostFiles, Reach, resolv};
use kelp_network::{Mode, PastaOptions, Plan, ports};
use kelp_state::{ContainerId, Record};
use oci_spec::image::Config as ImageConfig;

use crate::Error;
use crate::container::config::CreateOptions;
use crate::spec::FILES;

/// Settles which network the container gets, and which ports of the host. Where nothing was said it
/// is a pasta; on a host that can't have one, a container that publishes nothing gets none.
pub(crate) fn choose(options: &mut CreateOptions) -> Result<(), Error> {
    if options.namespaces.network.is_some() {
        return Ok(());
    }
    let pasta = Mode::Pasta(PastaOptions::default());
    let mode = match pasta.validate(&[]) {
        Ok(_) => pasta,
        Err(error) if options.publish.is_empty() && !options.publish_all => {
            options.network_missing = Some(error.to_string());
            Mode::None
        }
        Err(error) => return Err(error.into()),
    };
    options.namespaces.network = Some(mode);
    Ok(())
}

/// The plan of the network, with every port given its number.
pub(crate) fn plan(options: &mut CreateOptions, image: &ImageConfig) -> Result<Plan, Error> {
    let mode = options.namespaces.network.clone().unwrap_or(Mode::None);
    let mut published = options.publish.clone();
    if options.publish_all {
        let exposed = image.exposed_ports().clone().unwrap_or_default();
        published.extend(ports::publish_all(
            exposed.iter().chain(&options.expose).map(String::as_str),
            &published,
        )?);
    }
    options.publish = ports::allocate(&published)?;
    Ok(mode.validate(&options.publish)?)
}

/// Writes the files that are mounted over those of the image; their paths.
pub(crate) fn write_files(
    options: &CreateOptions,
    plan: &Plan,
    record: &Record,
    base: &crate::image::Base,
    hostname: &str,
) -> Result<Vec<PathBuf>, Error> {
    let mut written = Vec::new();
    for (name, _) in FILES {
        let content = match *name {
            "hosts" => hosts_file(options, plan, base, hostname)?.into_bytes(),
            "hostname" => kelp_network::hosts::hostname(hostname).into_bytes(),
            "resolv.conf" => resolv_file(options, plan)?.into_bytes(),
            "localtime" => match &options.timezone {
                Some(zone) => time_zone(zone)?,
                None => continue,
            },
            _ if options.privileged => {
                container_environment(options, &record.id, base).into_bytes()
            }
            _ => Vec::new(),
        };
        let path = record.data.join(name);
        fs::write(&path, content).map_err(Error::io(format!("write {}", path.display())))?;
        written.push(path);
    }
    Ok(written)
}

/// What /run/.containerenv tells of a privileged container, which may know where it is, as podman writes
/// it and toolbox and distrobox read it.
fn container_environment(
    options: &CreateOptions,
    id: &ContainerId,
    base: &crate::image::Base,
) -> String {
    let name = options.name.as_deref().unwrap_or_default();
    format!(
        "engine=\"kelp-{}\"\nname={name:?}\nid=\"{id}\"\nimage={:?}\nimageid={:?}\nrootless=1\n",
        env!("CARGO_PKG_VERSION"),
        base.name,
        base.id
    )
}

/// The rules of a time zone, as tzfile(5) has them: the host's, for images seldom have any.
fn time_zone(name: &str) -> Result<Vec<u8>, Error> {
    let path = if name == "local" {
        "/etc/localtime".to_owned()
    } else {
        format!("/usr/share/zoneinfo/{name}")
    };
    let is_name = !name.split('/').any(|part| matches!(part, "" | "." | ".."));
    match fs::read(&path) {
        Ok(rules) if is_name && rules.starts_with(b"TZif") => Ok(rules),
        _ => Err(Error::invalid(format!(
            "unknown time zone {name:?}: it is local or a file in /usr/share/zoneinfo, which the \
             package tzdata has"
        ))),
    }
}

fn hosts_base(options: &CreateOptions, image: &crate::image::Base) -> Result<String, Error> {
    match &options.hosts_base {
        HostsBase::Host => Ok(fs::read_to_string("/etc/hosts").unwrap_or_default()),
        HostsBase::None => Ok(String::new()),
        HostsBase::Image => image.text("/etc/hosts"),
        HostsBase::File(path) => fs::read_to_string(path)
            .map_err(Error::io(format!("read hosts file {}", path.display()))),
    }
}

fn hosts_file(
    options: &CreateOptions,
    plan: &Plan,
    image: &crate::image::Base,
    hostname: &str,
) -> Result<String, Error> {
    let added = options
        .add_hosts
        .iter()
        .map(|text| AddedHost::parse(text))
        .collect::<Result<Vec<_>, _>>()?;
    let base = hosts_base(options, image)?;
    let mut names = vec![hostname];
    names.extend(options.name.as_deref());
    let mode = options.namespaces.network.as_ref();
    Ok(hosts(&Hosts {
        base: &base,
        added: &added,
        host: options.host_address.or(plan.host()),
        own_address: mode.and_then(Mode::address),
        own_names: &names,
    })?)
}

fn resolv_file(options: &CreateOptions, plan: &Plan) -> Result<String, Error> {
    let asked = DnsOptions::parse(&options.dns, &options.dns_search, &options.dns_options)?;
    let host = HostFiles::read().map_err(Error::io("read /etc/resolv.conf"))?;
    let reach = match &options.namespaces.network {
        Some(Mode::Host) => Reach::Host,
        _ => Reach::Outside(plan.forwarder()),
    };
    Ok(resolv(&asked, &host, reach).unwrap_or_default())
}
