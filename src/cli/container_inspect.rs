//! What `inspect` shows of a container, in podman's words.

use std::path::Path;
use std::time::{Duration, SystemTime};

use kelp_args::RestartPolicy;
use kelp_args::Signal;
use kelp_engine::artifact::ARTIFACTS_END;
use kelp_engine::container::config::{Config, Notify, Systemd};
use kelp_engine::container::health::{Check, HealthConfig, LogDestination};
use kelp_engine::container::inspect::Inspection;
use kelp_engine::network::{Mode, PublishedPort};
use kelp_engine::pod::Membership;
use kelp_engine::{Engine, Status};
use kelp_format::units;
use serde_json::{Map, Value, json};

use super::container_inspect_host::host_config;
use super::listed_ports::{exposed, published};

/// The time of something that never was.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// Describes the container that `name` means.
pub fn describe(engine: &Engine, name: &str, size: bool) -> anyhow::Result<Value> {
    let id = engine.find_container(name)?;
    let inspection = engine.inspect_container(&id)?;
    let mut value = container(engine, &inspection);
    // It may be gone by now, or a directory.
    if let Ok(image) = engine.image(&inspection.config.image_id) {
        value["ImageDigest"] = image.record.manifest.to_string().into();
    }
    if size {
        let sizes = engine.container_sizes(&inspection);
        value["SizeRw"] = sizes.written.into();
        value["SizeRootFs"] = sizes.total.into();
    }
    Ok(value)
}

fn container(engine: &Engine, inspection: &Inspection) -> Value {
    let config = &inspection.config;
    let file = |name: &str| inspection.directory.join(name).display().to_string();
    let spec = spec(inspection);
    let capabilities = |set: &str| {
        let list = spec["process"]["capabilities"][set].as_array();
        let mut names: Vec<_> = list
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect();
        names.sort_unstable();
        names
    };
    let monitor_file = config.options.monitor_pid_file.as_deref();
    let monitor_file = monitor_file.map(text).unwrap_or_default();
    let graph_driver = graph_driver(inspection);
    let (program, arguments) = match config.command.split_first() {
        Some((program, arguments)) => (program.as_str(), arguments),
        None => ("", &[][..]),
    };
    let mut value = json!({
        "Id": config.id.as_str(),
        "Created": units::rfc3339_local(config.created),
        "Path": program,
        "Args": arguments,
        "State": state(inspection),
        "Image": config.image_id,
        "ImageDigest": "",
        "ImageName": config.image_name,
        "Rootfs": config.options.rootfs.as_deref().map(text).unwrap_or_default(),
        "Pod": config.options.pod.as_ref().map(|pod| pod.pod.as_str()).unwrap_or_default(),
        "ResolvConfPath": file("resolv.conf"),
        "HostnamePath": file("hostname"),
        "HostsPath": file("hosts"),
        "StaticDir": text(&inspection.directory),
        "OCIConfigPath": file("launch.json"),
        "OCIRuntime": kelp_engine::runtime::name(config.options.runtime.as_ref()),
        "ConmonPidFile": monitor_file,
        "PidFile": config.options.pid_file.as_deref().map(text).unwrap_or_default(),
        "Name": config.name,
        "RestartCount": restarts(inspection),
        "Driver": graph_driver["Name"],
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": config.options.apparmor.as_deref().unwrap_or_default(),
        "EffectiveCaps": capabilities("effective"),
        "BoundingCaps": capabilities("bounding"),
        "ExecIDs": [],
        "GraphDriver": graph_driver,
        "Mounts": mounts(engine, inspection),
        "Dependencies": config.options.needed().into_iter().map(|it| it.container).collect::<Vec<_>>(),
        "NetworkSettings": network_settings(inspection),
        "Namespace": "",
        "IsInfra": config.options.pod.as_ref().is_some_and(Membership::is_infra),
        "IsService": false,
        "KubeExitCodePropagation": "invalid",
        "UseImageHosts": config.options.no_hosts,
        "UseImageHostname": config.options.no_hostname,
        "Config": container_config(inspection, &spec),
        "HostConfig": host_config(engine, inspection),
    });
    if let Some(why) = &config.options.network_missing {
        value["NetworkSettings"]["Missing"] = why.as_str().into();
    }
    value
}

/// The specification as JSON: what kelp and the image made of the request.
fn spec(inspection: &Inspection) -> Value {
    let launch = inspection.launch.as_ref();
    launch
        .and_then(|launch| serde_json::to_value(&launch.spec).ok())
        .unwrap_or_default()
}

/// A path as text.
pub fn text(path: &Path) -> String {
    path.display().to_string()
}

fn time(time: Option<SystemTime>) -> String {
    time.map_or_else(|| NEVER.to_owned(), units::rfc3339_local)
}

fn restarts(inspection: &Inspection) -> u32 {
    let run = inspection.run.as_ref().map(|run| run.restarts);
    let exit = inspection.exit.as_ref().map(|exit| exit.restarts);
    run.or(exit).unwrap_or(0)
}

fn state(inspection: &Inspection) -> Value {
    let config = &inspection.config;
    let (run, exit) = (inspection.run.as_ref(), inspection.exit.as_ref());
    let started = run
        .map(|run| run.started)
        .or(exit.and_then(|exit| exit.started));
    json!({
        "OciVersion": kelp_engine::OCI_VERSION,
        "Status": inspection.status.as_str(),
        "Running": matches!(inspection.status, Status::Running | Status::Paused),
        "Paused": inspection.status == Status::Paused,
        "Restarting": inspection.status == Status::Stopping
            && config.options.restart != RestartPolicy::No,
        "OOMKilled": run.map_or_else(
            || exit.is_some_and(|exit| exit.oom_killed),
            |run| run.oom_killed,
        ),
        "Dead": false,
        "Pid": run.map_or(0, |run| run.pid),
        "ConmonPid": run.map_or(0, |run| run.monitor),
        "ExitCode": exit.map_or(0, |exit| exit.code),
        "Error": exit.map(|exit| exit.error.as_str()).unwrap_or_default(),
        "StartedAt": time(started),
        "FinishedAt": time(exit.map(|exit| exit.finished)),
        "Health": inspection.health,
        "CgroupPath": run.map(|run| run.cgroup.as_str()).unwrap_or_default(),
        "CheckpointedAt": NEVER,
        "RestoredAt": NEVER,
    })
}

fn graph_driver(inspection: &Inspection) -> Value {
    let launch = inspection.launch.as_ref();
    let rootfs = launch.and_then(|launch| serde_json::to_value(&launch.rootfs).ok());
    let mut rootfs = rootfs.unwrap_or_default();
    let copied = rootfs["Copied"].take();
    if !copied.is_null() {
        return json!({ "Name": "vfs", "Data": { "dir": copied["root"] } });
    }
    let overlay = rootfs["Overlay"].take();
    if overlay.is_null() {
        return json!({ "Name": "overlay", "Data": null });
    }
    let lower: Vec<_> = overlay["lower"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    json!({
        "Name": "overlay",
        "Data": {
            "LowerDir": lower.join(":"),
            "UpperDir": overlay["upper"],
            "WorkDir": overlay["work"],
        },
    })
}

/// Bind mounts, volumes and images.
pub fn mounts(engine: &Engine, inspection: &Inspection) -> Vec<Value> {
    let requested = &inspection.config.options.mounts;
    let list = serde_json::to_value(requested).unwrap_or_default();
    let list = list.as_array().into_iter().flatten();
    list.filter(|mount| mount["type"] != "tmpfs")
        .map(|mount| describe_mount(engine, mount))
        .collect()
}

fn describe_mount(engine: &Engine, mount: &Value) -> Value {
    let source = mount["source"].as_str().unwrap_or_default();
    let mut options: Vec<_> = mount["options"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let writable = !options.contains(&"ro");
    let subpath = options
        .iter()
        .find_map(|option| option.strip_prefix("X-mount.subdir="));
    options.retain(|option| !option.starts_with("X-"));
    let is_artifacts = options
        .iter()
        .any(|option| option.starts_with("lowerdir=") && option.ends_with(ARTIFACTS_END));
    let mut value = json!({
        "Type": "bind",
        "Source": source,
        "Destination": mount["destination"],
        "Driver": "",
        "Mode": "",
        "Options": options,
        "RW": writable,
        "Propagation": propagation(&options),
    });
    if mount["type"] == "overlay" && !source.starts_with('/') {
        value["Type"] = if is_artifacts { "artifact" } else { "image" }.into();
        value["Options"] = Value::Null;
        value["Propagation"] = "".into();
    }
    if let Some(name) = engine.volume_of(Path::new(source)) {
        value["Type"] = "volume".into();
        value["Driver"] = "local".into();
        value["Name"] = name.into();
    }
    // A file of an artifact's is found by a number that says nothing to anybody.
    if let Some(subpath) = subpath.filter(|_| !is_artifacts) {
        value["SubPath"] = subpath.into();
    }
    value
}

fn propagation<'a>(options: &[&'a str]) -> &'a str {
    let mut options = options.iter();
    let propagation = options.find(|option| {
        matches!(
            option.trim_start_matches('r'),
            "private" | "shared" | "slave" | "unbindable"
        )
    });
    propagation.unwrap_or(&"rprivate")
}

/// `80/tcp` and where it is on the host, port by port.
pub fn port_bindings(published: &[PublishedPort]) -> Value {
    let mut bindings = Map::new();
    for port in published {
        for offset in 0..port.range.max(1) {
            let key = format!("{}/{}", port.container_port + offset, port.protocol);
            let place = json!({
                "HostIp": port.host_ip.map_or_else(|| "0.0.0.0".to_owned(), |ip| ip.to_string()),
                "HostPort": (port.host_port.unwrap_or(port.container_port) + offset).to_string(),
            });
            match bindings.entry(key).or_insert_with(|| json!([])) {
                Value::Array(places) => places.push(place),
                _ => unreachable!("every entry is made as a list"),
            }
        }
    }
    Value::Object(bindings)
}

/// The ports that it serves, each as the key `80/tcp`: published, asked for and of its image.
fn exposed_ports(config: &Config) -> Value {
    let mut ports = Map::new();
    for run in published(&config.options.publish)
        .into_iter()
        .chain(exposed(&config.exposed))
    {
        let keys = (run.first..=run.last).map(|port| format!("{port}/{}", run.protocol));
        ports.extend(keys.map(|key| (key, json!({}))));
    }
    Value::Object(ports)
}

/// The network, as --network takes it.
pub fn network_mode(inspection: &Inspection) -> String {
    match &inspection.config.options.namespaces.network {
        Some(Mode::Host) => "host".to_owned(),
        Some(Mode::None) | None => "none".to_owned(),
        Some(Mode::Pasta(_)) => "pasta".to_owned(),
        Some(Mode::Container(id)) => format!("container:{id}"),
        Some(Mode::Path(path)) => format!("ns:{}", path.display()),
    }
}

fn network_settings(inspection: &Inspection) -> Value {
    let mode = inspection.config.options.namespaces.network.as_ref();
    let running = inspection.run.as_ref();
    let address = mode
        .filter(|mode| running.is_some() && matches!(mode, Mode::Pasta(_)))
        .and_then(Mode::address)
        .map(|address| address.to_string());
    json!({
        "EndpointID": "",
        "Gateway": "",
        "IPAddress": address.unwrap_or_default(),
        "IPPrefixLen": 0,
        "IPv6Gateway": "",
        "GlobalIPv6Address": "",
        "GlobalIPv6PrefixLen": 0,
        "MacAddress": "",
        "Bridge": "",
        "SandboxID": "",
        "HairpinMode": false,
        "LinkLocalIPv6Address": "",
        "LinkLocalIPv6PrefixLen": 0,
        "SecondaryIPAddresses": null,
        "SecondaryIPv6Addresses": null,
        "Ports": port_bindings(&inspection.config.options.publish),
        "SandboxKey": running.map(|run| format!("/proc/{}/ns/net", run.pid)).unwrap_or_default(),
        "Networks": {},
    })
}

fn container_config(inspection: &Inspection, spec: &Value) -> Value {
    let config = &inspection.config;
    let options = &config.options;
    let user = inspection
        .launch
        .as_ref()
        .and_then(|launch| launch.extras.user.clone());
    let entrypoint = options.entrypoint.as_ref().unwrap_or(&config.entrypoint);
    // The rest of what runs is the command.
    let cmd = config
        .command
        .strip_prefix(entrypoint.as_slice())
        .unwrap_or(&config.command);
    let secrets = options.secret_files.iter().map(|secret| {
        json!({
            "Name": secret.name,
            "ID": secret.id,
            "Size": secret.size,
            "UID": secret.uid,
            "GID": secret.gid,
            "Mode": secret.mode,
        })
    });
    json!({
        "Secrets": secrets.collect::<Vec<_>>(),
        "Hostname": spec["hostname"].as_str().unwrap_or_default(),
        "Domainname": "",
        "User": user.unwrap_or_default(),
        "AttachStdin": false,
        "AttachStdout": false,
        "AttachStderr": false,
        "Tty": options.tty,
        "OpenStdin": options.interactive,
        "StdinOnce": false,
        "Env": spec["process"]["env"],
        "Cmd": cmd,
        "ExposedPorts": exposed_ports(config),
        "Healthcheck": config.health.as_ref().map(health_check),
        "HealthcheckOnFailureAction": config.health.as_ref().map(|health| health.on_failure),
        "HealthLogDestination": config.health.as_ref().map(|health| match &health.log_to {
            LogDestination::Local => "local".to_owned(),
            LogDestination::Directory(directory) => text(directory),
            LogDestination::Events => "events_logger".to_owned(),
        }),
        "HealthcheckMaxLogCount": config.health.as_ref().map(|health| health.log_count),
        "HealthcheckMaxLogSize": config.health.as_ref().map(|health| health.log_size),
        "StartupHealthCheck": config.health.as_ref().and_then(startup_check),
        "Image": config.image_name,
        "Volumes": null,
        "WorkingDir": spec["process"]["cwd"],
        "Entrypoint": entrypoint,
        "OnBuild": null,
        "Labels": config.labels,
        "Annotations": options.annotations,
        "StopSignal": Signal::new(config.stop_signal).map(|signal| signal.to_string()),
        "CreateCommand": options.create_command,
        "SystemdMode": options.systemd == Systemd::Always,
        "Umask": format!("{:04o}", options.umask.unwrap_or(0o022)),
        "Timeout": options.timeout.unwrap_or(0),
        "Timezone": options.timezone.as_deref().unwrap_or_default(),
        "StopTimeout": config.stop_timeout,
        "Passwd": true,
        "sdNotifyMode": match options.notify {
            Some(Notify::Conmon) => "conmon",
            Some(Notify::Ignore) => "ignore",
            Some(Notify::Healthy) => "healthy",
            Some(Notify::Container) | None => "container",
        },
    })
}

/// In docker's words, where times are nanoseconds.
fn health_check(health: &HealthConfig) -> Value {
    let mut check = check(&health.check);
    check["StartPeriod"] = nanoseconds(health.start_period);
    check["StartInterval"] = nanoseconds(health.start_interval.unwrap_or_default());
    check["Retries"] = health.retries.into();
    check
}

fn startup_check(health: &HealthConfig) -> Option<Value> {
    let startup = health.startup.as_ref()?;
    let mut check = check(&startup.check);
    check["Retries"] = startup.retries.into();
    check["Successes"] = startup.successes.into();
    Some(check)
}

fn check(check: &Check) -> Value {
    json!({
        "Test": check.test,
        "Interval": nanoseconds(check.interval.unwrap_or_default()),
        "Timeout": nanoseconds(check.timeout),
    })
}

fn nanoseconds(time: Duration) -> Value {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).into()
}
