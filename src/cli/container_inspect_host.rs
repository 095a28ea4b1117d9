//! The part of a container's `inspect` that is about its host: limits, namespaces and mounts.

use kelp_args::RestartPolicy;
use kelp_engine::container::config::{Namespace, UserMode};
use kelp_engine::container::inspect::Inspection;
use serde_json::{Value, json};

use super::container_inspect::{mounts, network_mode, port_bindings, text};

/// `HostConfig`.
pub fn host_config(inspection: &Inspection) -> Value {
    let config = &inspection.config;
    let options = &config.options;
    let names = &options.namespaces;
    let log = inspection.launch.as_ref().map(|launch| &launch.log);
    let driver = log.and_then(|log| serde_json::to_value(log.driver).ok());
    let ulimits: Vec<_> = options
        .ulimits
        .iter()
        .map(|(name, soft, hard)| {
            json!({ "Name": format!("RLIMIT_{}", name.to_uppercase()), "Soft": soft, "Hard": hard })
        })
        .collect();
    let in_scope = inspection
        .run
        .as_ref()
        .is_some_and(|run| run.cgroup.contains(".scope/"));
    let mut value = json!({
        "Binds": binds(inspection),
        "CgroupManager": if in_scope { "systemd" } else { "cgroupfs" },
        "CgroupMode": namespace(&names.cgroup),
        "ContainerIDFile": options.cid_file.as_deref().map(text).unwrap_or_default(),
        "LogConfig": {
            "Type": driver.unwrap_or_default(),
            "Config": null,
            "Path": log.map(|log| text(&log.path)).unwrap_or_default(),
            "Tag": "",
            "Size": format!("{}B", options.log_max_size),
        },
        "NetworkMode": network_mode(inspection),
        "PortBindings": port_bindings(&options.publish),
        "RestartPolicy": restart_policy(options.restart),
        "AutoRemove": options.remove,
        "Annotations": options.annotations,
        "CapAdd": options.cap_add,
        "CapDrop": options.cap_drop,
        "Dns": options.dns,
        "DnsOptions": options.dns_options,
        "DnsSearch": options.dns_search,
        "ExtraHosts": options.add_hosts,
        "GroupAdd": options.groups,
        "IpcMode": namespace(&names.ipc),
        "OomScoreAdj": options.oom_score_adj.unwrap_or(0),
        "PidMode": namespace(&names.pid),
        "Privileged": options.privileged,
        "PublishAllPorts": options.publish_all,
        "ReadonlyRootfs": options.read_only,
        "SecurityOpt": security(inspection),
        "Tmpfs": tmpfs(inspection),
        "UTSMode": namespace(&names.uts),
        "UsernsMode": user_namespace(&names.user),
        "ShmSize": options.shm_size.unwrap_or(64_000 << 10),
        "Runtime": "kelp",
        "Devices": options.devices.iter().map(|path| text(path)).collect::<Vec<_>>(),
        "Init": options.init,
        "Ulimits": ulimits,
        "Sysctls": options.sysctl,
    });
    add_resources(&mut value, inspection);
    value
}

fn user_namespace(mode: &UserMode) -> String {
    match mode {
        UserMode::Host => String::new(),
        UserMode::KeepId { .. } => "keep-id".to_owned(),
        UserMode::NoMap => "nomap".to_owned(),
        UserMode::Map(..) => "private".to_owned(),
        UserMode::Auto { .. } => "auto".to_owned(),
        UserMode::Container(id) => format!("container:{id}"),
        UserMode::Path(path) => format!("ns:{}", path.display()),
    }
}

/// The limits of the cgroup, under docker's names.
fn add_resources(value: &mut Value, inspection: &Inspection) {
    let resources = serde_json::to_value(&inspection.config.options.resources).unwrap_or_default();
    for (name, pointer) in [
        ("Memory", "/memory/limit"),
        ("MemoryReservation", "/memory/reservation"),
        ("MemorySwap", "/memory/swap"),
        ("CpuShares", "/cpu/shares"),
        ("CpuPeriod", "/cpu/period"),
        ("CpuQuota", "/cpu/quota"),
        ("PidsLimit", "/pids/limit"),
        ("BlkioWeight", "/blockIO/weight"),
    ] {
        let limit = resources.pointer(pointer).filter(|limit| !limit.is_null());
        value[name] = limit.cloned().unwrap_or_else(|| 0.into());
    }
    for (name, pointer) in [("CpusetCpus", "/cpu/cpus"), ("CpusetMems", "/cpu/mems")] {
        let set = resources.pointer(pointer).filter(|set| !set.is_null());
        value[name] = set.cloned().unwrap_or_else(|| "".into());
    }
    let cpu = |name: &str| resources["cpu"][name].as_u64();
    let nanos = match (cpu("quota"), cpu("period")) {
        (Some(quota), Some(period)) if period > 0 => quota * 1_000_000_000 / period,
        _ => 0,
    };
    value["NanoCpus"] = nanos.into();
}

fn restart_policy(policy: RestartPolicy) -> Value {
    let shown = policy.to_string();
    let (name, retries) = shown.split_once(':').unwrap_or((&shown, "0"));
    json!({ "Name": name, "MaximumRetryCount": retries.parse().unwrap_or(0) })
}

fn namespace(namespace: &Namespace) -> String {
    match namespace {
        Namespace::Private => "private".to_owned(),
        Namespace::Host => "host".to_owned(),
        Namespace::Container(id) => format!("container:{id}"),
        Namespace::Path(path) => format!("ns:{}", path.display()),
    }
}

fn security(inspection: &Inspection) -> Vec<&'static str> {
    let options = &inspection.config.options;
    let mut list = Vec::new();
    if options.no_new_privileges {
        list.push("no-new-privileges");
    }
    if options.seccomp_unconfined {
        list.push("seccomp=unconfined");
    }
    list
}

fn binds(inspection: &Inspection) -> Vec<String> {
    mounts(inspection)
        .iter()
        .map(|mount| {
            let part = |key: &str| mount[key].as_str().unwrap_or_default().to_owned();
            let source = mount["Name"]
                .as_str()
                .map_or_else(|| part("Source"), str::to_owned);
            let options: Vec<_> = mount["Options"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .collect();
            format!("{source}:{}:{}", part("Destination"), options.join(","))
        })
        .collect()
}

fn tmpfs(inspection: &Inspection) -> Value {
    let list = serde_json::to_value(&inspection.config.options.mounts).unwrap_or_default();
    let mounts = list.as_array().into_iter().flatten();
    let pairs = mounts
        .filter(|mount| mount["type"] == "tmpfs")
        .map(|mount| {
            let options = mount["options"].as_array().into_iter().flatten();
            let options: Vec<_> = options.filter_map(Value::as_str).collect();
            let destination = mount["destination"].as_str().unwrap_or_default();
            (destination.to_owned(), Value::from(options.join(",")))
        });
    Value::Object(pairs.collect())
}
