//! The part of a container's `inspect` that is about its host: limits, namespaces and mounts.

use std::fs;
use std::path::PathBuf;

use kelp_args::{LogTag, RestartPolicy};
use kelp_engine::Engine;
use kelp_engine::container::config::{CgroupMode, LogDriver, Namespace, UserMode};
use kelp_engine::container::inspect::Inspection;
use serde_json::{Value, json};

use super::container_inspect::{mounts, network_mode, port_bindings, text};

/// `HostConfig`.
pub fn host_config(engine: &Engine, inspection: &Inspection) -> Value {
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
        "Binds": binds(engine, inspection),
        "CgroupManager": if in_scope { "systemd" } else { "cgroupfs" },
        "CgroupMode": namespace(&names.cgroup),
        "ContainerIDFile": options.cid_file.as_deref().map(text).unwrap_or_default(),
        "LogConfig": {
            "Type": driver.unwrap_or_default(),
            "Config": null,
            "Path": log
                .filter(|log| log.driver != LogDriver::Journald)
                .map(|log| text(&log.path))
                .unwrap_or_default(),
            "Tag": options.log_tag.as_ref().map(LogTag::as_str).unwrap_or_default(),
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
        "IpcMode": if options.no_shm { "none".to_owned() } else { namespace(&names.ipc) },
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
        "Runtime": kelp_engine::runtime::name(options.runtime.as_ref()),
        "Devices": devices(&options.devices),
        "Cgroup": "",
        "Cgroups": if options.cgroups.mode == CgroupMode::Disabled { "disabled" } else { "default" },
        "CgroupParent": options.cgroups.parent,
        "VolumesFrom": volumes_from(&options.create_command, options.command.len()),
        "Init": options.init,
        "Ulimits": ulimits,
        "Sysctls": options.sysctl,
    });
    add_unused(&mut value);
    add_resources(&mut value, inspection);
    value
}

/// What a container of kelp's never has: settings of cgroup v1, of Windows and of Intel's processors,
/// and what podman keeps for docker's sake.
fn add_unused(value: &mut Value) {
    for name in [
        "CpuCount",
        "CpuPercent",
        "CpuRealtimePeriod",
        "CpuRealtimeRuntime",
        "DiskQuota",
        "IOMaximumBandwidth",
        "IOMaximumIOps",
        "KernelMemory",
    ] {
        value[name] = 0.into();
    }
    for name in ["IntelRdtClosID", "Isolation", "VolumeDriver"] {
        value[name] = "".into();
    }
    value["Links"] = Value::Null;
    value["ConsoleSize"] = json!([0, 0]);
    value["OomKillDisable"] = false.into();
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
    for (name, pointer, amount) in [
        ("BlkioWeightDevice", "/blockIO/weightDevice", "weight"),
        (
            "BlkioDeviceReadBps",
            "/blockIO/throttleReadBpsDevice",
            "rate",
        ),
        (
            "BlkioDeviceWriteBps",
            "/blockIO/throttleWriteBpsDevice",
            "rate",
        ),
        (
            "BlkioDeviceReadIOps",
            "/blockIO/throttleReadIOPSDevice",
            "rate",
        ),
        (
            "BlkioDeviceWriteIOps",
            "/blockIO/throttleWriteIOPSDevice",
            "rate",
        ),
    ] {
        let list = resources.pointer(pointer).and_then(Value::as_array);
        value[name] = list.map(|list| block_devices(list, amount)).into();
    }
    value["CgroupConf"] = resources["unified"].clone();
    let swappiness = resources.pointer("/memory/swappiness");
    let swappiness = swappiness.filter(|value| !value.is_null()).cloned();
    let unset = if resources["memory"].is_null() { 0 } else { -1 };
    value["MemorySwappiness"] = swappiness.unwrap_or_else(|| unset.into());
    let cpu = |name: &str| resources["cpu"][name].as_u64();
    let nanos = match (cpu("quota"), cpu("period")) {
        (Some(quota), Some(period)) if period > 0 => quota * 1_000_000_000 / period,
        _ => 0,
    };
    value["NanoCpus"] = nanos.into();
}

/// Devices and what is allowed of each: `Rate` or `Weight`.
fn block_devices(list: &[Value], amount: &str) -> Vec<Value> {
    let mut name = amount.to_owned();
    name[..1].make_ascii_uppercase();
    list.iter()
        .map(|device| {
            // Links to what the numbers are called, which are made by udev.
            let link = format!("/dev/block/{}:{}", device["major"], device["minor"]);
            let path = fs::canonicalize(&link).map_or(link, |path| text(&path));
            let mut value = json!({ "Path": path });
            value[&name] = device[amount].clone();
            value
        })
        .collect()
}

/// What the command line said of --volumes-from, before the image and the words of its command.
fn volumes_from(command_line: &[String], command_words: usize) -> Vec<&str> {
    let end = command_line.len().saturating_sub(command_words + 1);
    let mut words = command_line[..end].iter();
    let mut list = Vec::new();
    while let Some(word) = words.next() {
        let value = match word.strip_prefix("--volumes-from") {
            Some("") => words.next().map(String::as_str),
            Some(rest) => rest.strip_prefix('='),
            None => None,
        };
        list.extend(value.into_iter().flat_map(|value| value.split(',')));
    }
    list
}

fn restart_policy(policy: RestartPolicy) -> Value {
    let shown = policy.to_string();
    let (name, retries) = shown.split_once(':').unwrap_or((&shown, "0"));
    json!({ "Name": name, "MaximumRetryCount": retries.parse().unwrap_or(0) })
}

/// Devices of the host that a container has where they are.
pub(super) fn devices(devices: &[PathBuf]) -> Vec<Value> {
    let devices = devices.iter().map(|path| {
        let path = text(path);
        json!({ "PathOnHost": path, "PathInContainer": path, "CgroupPermissions": "" })
    });
    devices.collect()
}

/// A namespace, as the flag of it takes it.
pub(super) fn namespace(namespace: &Namespace) -> String {
    match namespace {
        Namespace::Private => "private".to_owned(),
        Namespace::Host => "host".to_owned(),
        Namespace::Container(id) => format!("container:{id}"),
        Namespace::Path(path) => format!("ns:{}", path.display()),
    }
}

fn security(inspection: &Inspection) -> Vec<String> {
    let options = &inspection.config.options;
    let mut list = Vec::new();
    if options.no_new_privileges {
        list.push("no-new-privileges".to_owned());
    }
    if options.seccomp_unconfined {
        list.push("seccomp=unconfined".to_owned());
    }
    let profile = options.seccomp_path.iter();
    list.extend(profile.map(|path| format!("seccomp={}", path.display())));
    list.extend(
        options
            .apparmor
            .iter()
            .map(|name| format!("apparmor={name}")),
    );
    list
}

fn binds(engine: &Engine, inspection: &Inspection) -> Vec<String> {
    mounts(engine, inspection)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_whose_volumes_were_asked_for_are_told() {
        for (line, command_words, expected) in [
            ("kelp run --volumes-from a --rm img", 0, &["a"][..]),
            (
                "kelp run --volumes-from=a:ro,b img sh -c x",
                3,
                &["a:ro", "b"],
            ),
            ("kelp run img prog --volumes-from a", 3, &[]),
            ("", 0, &[]),
        ] {
            let words: Vec<_> = line.split(' ').map(str::to_owned).collect();
            assert_eq!(volumes_from(&words, command_words), expected, "{line}");
        }
    }

    #[test]
    fn limits_of_devices_have_their_words() {
        let list = [json!({ "major": 4095, "minor": 7, "rate": 5 })];
        assert_eq!(
            block_devices(&list, "rate"),
            [json!({ "Path": "/dev/block/4095:7", "Rate": 5 })]
        );
    }
}
