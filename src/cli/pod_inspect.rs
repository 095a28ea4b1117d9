//! `kelp pod inspect`: everything about pods, in podman's words.

use kelp_args::RestartPolicy;
use kelp_engine::container::Config;
use kelp_engine::container::config::UserMode;
use kelp_engine::network::Mode;
use kelp_engine::pod::list::ListedPod;
use kelp_engine::{ContainerId, Engine};
use kelp_format::units;
use serde_json::{Value, json};

use super::container_inspect::{mounts, port_bindings};
use super::container_inspect_host::{devices, namespace};
use super::{exit, inspect, output};

/// Show everything about pods
#[derive(clap::Args)]
pub struct Args {
    /// json, or a Go template
    #[arg(short, long)]
    format: Option<String>,
    /// Use the pod that was created last
    #[arg(short, long, conflicts_with = "pods")]
    latest: bool,
    /// Names or ids
    #[arg(value_name = "POD", required_unless_present = "latest")]
    pods: Vec<String>,
}

/// Prints each; what is not here is told of at the end.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let mut names = args.pods.clone();
    if args.latest {
        names.push(engine.latest_pod()?.to_string());
    }
    let mut found = Vec::new();
    let mut errors = Vec::new();
    for name in &names {
        match describe(engine, name) {
            Ok(value) => found.push(value),
            Err(error) => errors.push(error),
        }
    }
    inspect::print(args.format.as_deref(), &found)?;
    for error in &errors {
        output::error(exit::line(error));
    }
    Ok(if errors.is_empty() { 0 } else { 125 })
}

/// Describes the pod that `name` means.
pub fn describe(engine: &Engine, name: &str) -> anyhow::Result<Value> {
    let id = engine.find_pod(name)?;
    let pod = engine.inspect_pod(&id)?;
    let infra = pod.config.infra.as_ref();
    let infra = infra.and_then(|infra| engine.config(infra).ok());
    Ok(shown(engine, &pod, infra.as_ref()))
}

fn shown(engine: &Engine, pod: &ListedPod, infra: Option<&Config>) -> Value {
    let config = &pod.config;
    let containers: Vec<_> = pod
        .containers
        .iter()
        .map(|listed| {
            json!({
                "Id": listed.summary.id.as_str(),
                "Name": listed.summary.name,
                "State": listed.status.as_str(),
            })
        })
        .collect();
    let shared: Vec<_> = config.shared.iter().map(|it| it.as_str()).collect();
    let restart = config.restart.filter(|it| *it != RestartPolicy::No);
    let hostname = infra.and_then(|infra| infra.options.hostname.clone());
    let infra_id = config.infra.as_ref().map_or("", ContainerId::as_str);
    let mut value = json!({
        "Id": config.id.as_str(),
        "Name": config.name,
        "Created": units::rfc3339_local(config.created),
        "CreateCommand": config.create_command,
        "ExitPolicy": config.exit_policy.as_str(),
        "State": pod.status.as_str(),
        "Hostname": hostname.unwrap_or_default(),
        "Labels": config.labels,
        "CreateCgroup": false,
        "CgroupParent": infra.map(|infra| infra.options.cgroups.parent.as_str()).unwrap_or_default(),
        "CgroupPath": "",
        "CreateInfra": config.infra.is_some(),
        "InfraContainerID": infra_id,
        "InfraConfig": infra.map(infra_config),
        "SharedNamespaces": shared,
        "NumContainers": containers.len(),
        "Containers": containers,
        "LockNumber": 0,
    });
    if let Some(restart) = restart {
        value["RestartPolicy"] = restart.to_string().into();
    }
    if let Some(infra) = infra {
        if let Ok(inspection) = engine.inspect_container(&infra.id) {
            let mounts = mounts(engine, &inspection);
            if !mounts.is_empty() {
                value["mounts"] = mounts.into();
            }
        }
        if !infra.options.devices.is_empty() {
            value["devices"] = devices(&infra.options.devices).into();
        }
    }
    value
}

fn infra_config(infra: &Config) -> Value {
    let options = &infra.options;
    let names = &options.namespaces;
    let user = match &names.user {
        UserMode::Host => "host",
        UserMode::KeepId { .. } => "keep-id",
        UserMode::NoMap => "nomap",
        UserMode::Auto { .. } => "auto",
        UserMode::Map(..) => "private",
        UserMode::Container(_) => "container",
        UserMode::Path(_) => "ns",
    };
    let list = |texts: &[String]| (!texts.is_empty()).then(|| texts.to_vec());
    json!({
        "PortBindings": port_bindings(&options.publish),
        "HostNetwork": names.network == Some(Mode::Host),
        "StaticIP": "",
        "StaticMAC": "",
        "NoManageResolvConf": false,
        "DNSServer": list(&options.dns),
        "DNSSearch": list(&options.dns_search),
        "DNSOption": list(&options.dns_options),
        "NoManageHostname": options.no_hostname,
        "NoManageHosts": options.no_hosts,
        "HostAdd": list(&options.add_hosts),
        "HostsFile": "",
        "Networks": null,
        "NetworkOptions": null,
        "pid_ns": namespace(&names.pid),
        "userns": user,
        "uts_ns": namespace(&names.uts),
    })
}
