//! `kelp info`: the host, the store and the version, under podman's names.

use kelp_engine::Engine;
use kelp_engine::info::Info;
use kelp_engine::runtime::Foreign;
use kelp_format::render::{json, object};
use serde_json::{Value, json as value};

use super::create_flags::defaults;
use super::outline::outline;
use super::output;
use super::runtime_flags::RuntimeFlags;
use super::version;

/// Show what kelp runs on and where it keeps things
#[derive(clap::Args)]
pub struct Args {
    /// json, or a Go template
    #[arg(short, long)]
    format: Option<String>,
}

/// Prints it.
///
/// `before` is what was said of the runtime before the command.
pub fn run(engine: &Engine, before: &RuntimeFlags, args: &Args) -> anyhow::Result<i32> {
    let runtime = before.choose(defaults::load()?)?;
    let info = describe(engine, &engine.info()?, runtime.as_ref());
    match args.format.as_deref().map(str::trim) {
        None | Some("") => output::text(outline(&info))?,
        Some("json") => output::line(json(&info)?)?,
        Some(template) => output::line(object(&templated(info), template)?)?,
    }
    Ok(0)
}

/// The runtime of a container that asks for no other.
fn oci_runtime(runtime: Option<&Foreign>) -> Value {
    let own = || env!("CARGO_PKG_VERSION").to_owned();
    value!({
        "name": kelp_engine::runtime::name(runtime),
        "package": "",
        "path": runtime.map_or("kelp-runtime".into(), |runtime| runtime.path.to_string_lossy()),
        "version": runtime.map_or_else(own, kelp_engine::runtime::version),
    })
}

fn describe(engine: &Engine, info: &Info, runtime: Option<&Foreign>) -> Value {
    let map = |lines: &[_]| -> Vec<Value> {
        let line = |line: &kelp_engine::info::IdMapping| value!({ "container_id": line.container, "host_id": line.host, "size": line.size });
        lines.iter().map(line).collect()
    };
    let [distribution, release, codename] = &info.distribution;
    let [containers, running, paused, stopped] = info.containers;
    let pasta = info.pasta.clone().unwrap_or_default();
    let data = engine.paths.data.display().to_string();
    value!({
        "host": {
            "arch": info.architecture,
            "cgroupControllers": info.controllers,
            "cgroupManager": if info.systemd_cgroups { "systemd" } else { "cgroupfs" },
            "cgroupVersion": if info.cgroup_v2 { "v2" } else { "v1" },
            "cpus": info.cpus,
            "distribution": {
                "codename": codename,
                "distribution": distribution,
                "version": release,
            },
            "eventLogger": "file",
            "hostname": info.hostname,
            "idMappings": { "gidmap": map(&info.id_map.1), "uidmap": map(&info.id_map.0) },
            "kernel": info.kernel,
            "logDriver": "k8s-file",
            "memFree": info.memory.1,
            "memTotal": info.memory.0,
            "networkBackend": "kelp",
            "ociRuntime": oci_runtime(runtime),
            "os": "linux",
            "pasta": { "executable": pasta.0, "package": "", "version": pasta.1 },
            "rootlessNetworkCmd": "pasta",
            "security": {
                "apparmorEnabled": false,
                "rootless": true,
                "seccompEnabled": true,
                "seccompProfilePath": "",
                "selinuxEnabled": info.selinux,
            },
            "serviceIsRemote": false,
            "swapFree": info.swap.1,
            "swapTotal": info.swap.0,
            "uptime": uptime(info.uptime),
        },
        "plugins": {
            "log": ["k8s-file", "journald", "none", "passthrough", "passthrough-tty"],
            "network": ["pasta"],
            "volume": ["local"],
        },
        "registries": {},
        "store": {
            "configFile": "",
            "containerStore": {
                "number": containers,
                "paused": paused,
                "running": running,
                "stopped": stopped,
            },
            "graphDriverName": info.storage.name(),
            "graphOptions": {},
            "graphRoot": data,
            "graphRootAllocated": info.space.0,
            "graphRootUsed": info.space.1,
            "graphStatus": { "Backing Filesystem": info.file_system },
            "imageStore": { "number": info.images },
            "runRoot": engine.paths.runtime.display().to_string(),
            "transientStore": false,
            "volumePath": engine.paths.volumes().display().to_string(),
        },
        "version": version::describe(),
    })
}

fn uptime(seconds: u64) -> String {
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let text = format!("{hours}h {minutes}m {}.00s", seconds % 60);
    if hours < 24 {
        return text;
    }
    format!(
        "{text} (Approximately {:.2} days)",
        seconds as f64 / 86400.0
    )
}

/// What a template sees: the names of podman's Go fields besides those of its JSON.
fn templated(value: Value) -> Value {
    let Value::Object(fields) = value else {
        return value;
    };
    let mut both = serde_json::Map::new();
    for (name, value) in fields {
        let value = templated(value);
        both.insert(go_name(&name), value.clone());
        both.insert(name, value);
    }
    Value::Object(both)
}

/// `graphRoot` is `GraphRoot` in Go, and a few are not what they seem.
fn go_name(name: &str) -> String {
    match name {
        "cpus" => return "CPUs".to_owned(),
        "os" => return "OS".to_owned(),
        "ociRuntime" => return "OCIRuntime".to_owned(),
        "idMappings" => return "IDMappings".to_owned(),
        "uidmap" => return "UIDMap".to_owned(),
        "gidmap" => return "GIDMap".to_owned(),
        _ => {}
    }
    let mut characters = name.chars();
    match characters.next() {
        Some(first) => first.to_uppercase().chain(characters).collect(),
        None => String::new(),
    }
}
