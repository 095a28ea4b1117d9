//! A pod of Kubernetes YAML as the engine's request for one.
//!
//! What a pod has of the network, of namespaces and of the resolver, and what a container has of resources, rights,
//! groups and its stop signal, is asked for by the flags of `create`, as is what annotations ask for, so that it means
//! the same. Mounts are read as those of `--volume` and `--tmpfs`. The rest is filled in, and all of it is checked as
//! `create` does.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use kelp_args::RestartPolicy;
use kelp_engine::container::CreateOptions;
use kelp_engine::container::config::{HealthOptions, Namespace};
use kelp_engine::container::health::{OnFailure, StartupOptions};
use kelp_engine::pod::whole::{Member, PodVolume, VolumeFile, WholePod};
use kelp_engine::pod::{ExitPolicy, InitKind, PodOptions, Role, Said, Shared};
use kelp_kube::{Check, Container, Pod, Port, Probe, Profile, Restart, Security, Source};

use super::command_line;
use super::create_flags::CreateFlags;
use super::kube_annotations::Annotations;
use super::kube_volume;
use super::pod_create::infra_options;
use super::runtime_flags::RuntimeFlags;

/// What the command line says of pods besides the documents.
#[derive(Debug, Default)]
pub struct Wanted {
    /// Flags of `create` for each container: of the log.
    pub flags: Vec<String>,
    /// Flags of `create` for each infra container: of the network.
    pub infra: Vec<String>,
    /// Ports: `[[IP:][HOST]:]CONTAINER[/PROTOCOL]`.
    pub publish: Vec<String>,
    /// Whether ports that have no port of the host are published too.
    pub publish_all: bool,
    /// The user namespace, unless documents say otherwise.
    pub userns: Option<String>,
    /// Whether the images' /etc/hosts stay.
    pub no_hosts: bool,
    /// Whether containers are called as their pod calls them.
    pub no_prefix: bool,
    /// Annotations: `KEY[/CONTAINER]=VALUE`.
    pub annotations: Vec<(String, String)>,
    /// Where profiles of seccomp are.
    pub seccomp_root: PathBuf,
}

/// Makes the request.
pub fn request(pod: &Pod, wanted: &Wanted, runtime: &RuntimeFlags) -> anyhow::Result<WholePod> {
    let name = &pod.metadata.name;
    let what = || format!("pod {name}");
    let known = Annotations::read(pod, &wanted.annotations).with_context(what)?;
    let infra = infra(pod, wanted, &known, runtime).with_context(what)?;
    let mut shared = Shared::USUAL.to_vec();
    if pod.share_processes {
        shared.push(Shared::Pid);
    }
    let options = PodOptions {
        name: Some(name.clone()),
        labels: pod.metadata.labels.clone(),
        shared,
        share_parent: true,
        exit_policy: ExitPolicy::Stop,
        infra: Some(Box::new(infra)),
        create_command: command_line::given(),
        ..PodOptions::default()
    };
    let mut members = Vec::new();
    for container in &pod.init {
        let role = Role::Init(known.init_kind(&container.name)?.unwrap_or(InitKind::Once));
        members.push((container, role));
    }
    members.extend(pod.containers.iter().map(|it| (it, Role::Member)));
    let members = members.into_iter().map(|(container, role)| {
        let what = || format!("pod {name}, container {}", container.name);
        let mut options = options_of(pod, container, wanted, &known, runtime).with_context(what)?;
        let mut said = vec![Said::Restart];
        if pod.host_pid {
            options.namespaces.pid = Namespace::Host;
            said.push(Said::Namespace(Shared::Pid));
        }
        if pod.host_ipc {
            options.namespaces.ipc = Namespace::Host;
            said.push(Said::Namespace(Shared::Ipc));
        }
        if role != Role::Member {
            options.restart = RestartPolicy::No;
        }
        Ok(Member {
            role,
            said,
            options,
        })
    });
    Ok(WholePod {
        members: members.collect::<anyhow::Result<_>>()?,
        volumes: volumes(pod),
        places: kube_volume::places(pod).with_context(what)?,
        options,
    })
}

/// Volumes that go with the pod.
fn volumes(pod: &Pod) -> Vec<PodVolume> {
    let own = pod.volumes.iter().filter_map(|volume| {
        let files = match &volume.source {
            Source::Empty => None,
            Source::Missing => Some(Vec::new()),
            Source::Files(files) => {
                let files = files.iter().map(|file| VolumeFile {
                    path: file.path.clone(),
                    mode: file.mode,
                    content: file.content.clone(),
                });
                Some(files.collect())
            }
            _ => return None,
        };
        Some(PodVolume {
            name: volume_name(pod, &volume.name),
            files,
        })
    });
    own.collect()
}

/// What a volume of a pod is called among all volumes.
pub fn volume_name(pod: &Pod, volume: &str) -> String {
    format!("{}-{volume}", pod.metadata.name)
}

/// An engine's error without its kind: who prints one that has it says it as it is, and nothing of the pod that it is
/// about.
pub fn plain(error: &kelp_engine::Error) -> anyhow::Error {
    anyhow::Error::msg(error.line())
}

fn infra(
    pod: &Pod,
    wanted: &Wanted,
    known: &Annotations,
    runtime: &RuntimeFlags,
) -> anyhow::Result<CreateOptions> {
    let mut words = wanted.infra.clone();
    let mut add = |flag: &str, value: &str| words.push(format!("{flag}={value}"));
    if pod.host_network {
        if !wanted.infra.is_empty() {
            bail!("hostNetwork and --network exclude each other");
        }
        add("--network", "host");
    } else {
        for port in ports(pod, wanted, known)? {
            add("--publish", &port);
        }
    }
    let user = known.userns.as_ref().or(wanted.userns.as_ref());
    match (pod.host_users, user) {
        (Some(false), None) => add("--userns", "auto"),
        (_, Some(mode)) => add("--userns", mode),
        (Some(true) | None, None) => {}
    }
    if pod.host_pid {
        add("--pid", "host");
    }
    if pod.host_ipc {
        add("--ipc", "host");
    }
    for (name, value) in &pod.sysctls {
        add("--sysctl", &format!("{name}={value}"));
    }
    if let Some(name) = &pod.hostname {
        if pod.host_network {
            bail!("hostname and hostNetwork exclude each other: the host has its name");
        }
        add("--hostname", name);
    }
    for alias in &pod.aliases {
        for name in &alias.names {
            add("--add-host", &format!("{name}:{}", alias.address));
        }
    }
    if wanted.no_hosts {
        if !pod.aliases.is_empty() {
            bail!("hostAliases and --no-hosts exclude each other");
        }
        add("--no-hosts", "true");
    }
    for (flag, list) in [
        ("--dns", &pod.dns.servers),
        ("--dns-search", &pod.dns.searches),
        ("--dns-option", &pod.dns.options),
    ] {
        for value in list {
            add(flag, value);
        }
    }
    // Who is told that the unit is ready is the service container's.
    add("--sdnotify", "ignore");
    let (mut options, _) = infra_options(&words, None, runtime)?;
    options.name.clone_from(&known.infra_name);
    Ok(options)
}

/// What is published: what documents say with a port of the host, and what the command line does, which wins.
fn ports(pod: &Pod, wanted: &Wanted, known: &Annotations) -> anyhow::Result<Vec<String>> {
    let mut published: Vec<(u16, &str, String)> = Vec::new();
    let all = pod.init.iter().chain(&pod.containers);
    for port in all.flat_map(|container| &container.ports) {
        let publishes_all = wanted.publish_all || known.publish_all;
        let Some(host) = port.host.or(publishes_all.then_some(port.container)) else {
            continue;
        };
        published.push((port.container, port.protocol.as_str(), shown(port, host)));
    }
    for text in &wanted.publish {
        let given = kelp_args::port::parse(text).map_err(anyhow::Error::msg)?;
        let protocol = if given.udp { "udp" } else { "tcp" };
        let range = u32::from(given.container_port)
            ..u32::from(given.container_port) + u32::from(given.count);
        published.retain(|(port, of, _)| !(range.contains(&u32::from(*port)) && *of == protocol));
    }
    let said = published.into_iter().map(|(_, _, text)| text);
    Ok(said.chain(wanted.publish.iter().cloned()).collect())
}

fn shown(port: &Port, host: u16) -> String {
    let address = match &port.address {
        Some(address) if address.contains(':') => format!("[{address}]:"),
        Some(address) => format!("{address}:"),
        None => String::new(),
    };
    format!(
        "{address}{host}:{}/{}",
        port.container,
        port.protocol.as_str()
    )
}

fn options_of(
    pod: &Pod,
    container: &Container,
    wanted: &Wanted,
    known: &Annotations,
    runtime: &RuntimeFlags,
) -> anyhow::Result<CreateOptions> {
    let mut words = vec!["create".to_owned(), "--sdnotify=ignore".to_owned()];
    words.extend(wanted.flags.iter().cloned());
    words.extend(known.flags(&container.name)?);
    words.extend(limits(container));
    words.extend(security(&container.security, &wanted.seccomp_root));
    words.extend(
        pod.groups
            .iter()
            .map(|group| format!("--group-add={group}")),
    );
    if let Some(signal) = &container.stop_signal {
        words.push(format!("--stop-signal={signal}"));
    }
    words.extend(["--".to_owned(), container.image.clone()]);
    let (mut options, _) = CreateFlags::read(words)?.requests(runtime)?;
    options.name = Some(if wanted.no_prefix {
        container.name.clone()
    } else {
        format!("{}-{}", pod.metadata.name, container.name)
    });
    options.labels.extend(pod.metadata.labels.clone());
    options.labels.extend(known.labels(&container.name));
    options.annotations.extend(known.others.clone());
    // A command leaves nothing of the image's arguments.
    options.entrypoint.clone_from(&container.command);
    options.command = container.args.clone().unwrap_or_default();
    let variables = container.env.iter();
    options
        .env
        .extend(variables.map(|(name, value)| format!("{name}={value}")));
    if let Some(directory) = container.workdir.as_ref().filter(|it| !it.is_empty()) {
        options.workdir = Some(directory.into());
    }
    options.interactive = container.stdin;
    options.tty = container.tty;
    options.stop_timeout = pod.grace.or(options.stop_timeout);
    options.no_hosts |= wanted.no_hosts;
    options.restart = match pod.restart {
        Restart::Always => RestartPolicy::Always,
        Restart::OnFailure(retries) => RestartPolicy::OnFailure { retries },
        Restart::Never => RestartPolicy::No,
    };
    if let Some(liveness) = &container.liveness {
        options.health = health(liveness, container.startup.as_ref(), pod.restart);
    }
    kube_volume::add(pod, container, known, &mut options)?;
    options.check().map_err(|error| plain(&error))?;
    Ok(options)
}

fn limits(container: &Container) -> Vec<String> {
    let resources = &container.resources;
    let mut words = Vec::new();
    let mut add = |flag: &str, value: Option<u64>| {
        words.extend(value.map(|value| format!("{flag}={value}")));
    };
    add("--memory", resources.memory_limit);
    add("--memory-reservation", resources.memory_request);
    // 1024 shares are a processor.
    let shares = resources
        .cpu_request
        .map(|amount| (amount * 1024 / 1000).max(2));
    add("--cpu-shares", shares);
    if let Some(amount) = resources.cpu_limit {
        // Microseconds in each tenth of a second, of which the kernel wants 1000 at least.
        add("--cpu-period", Some(100_000));
        add("--cpu-quota", Some((amount * 100).max(1000)));
    }
    words
}

fn security(security: &Security, seccomp_root: &Path) -> Vec<String> {
    let mut words = Vec::new();
    let mut add = |flag: &str, value: &str| words.push(format!("{flag}={value}"));
    match (security.user, security.group) {
        (Some(user), Some(group)) => add("--user", &format!("{user}:{group}")),
        (Some(user), None) => add("--user", &user.to_string()),
        (None, Some(group)) => add("--user", &format!("0:{group}")),
        (None, None) => {}
    }
    for capability in &security.add {
        add("--cap-add", capability);
    }
    for capability in &security.drop {
        add("--cap-drop", capability);
    }
    if security.privileged {
        add("--privileged", "true");
    }
    if security.read_only {
        add("--read-only", "true");
        // As in Kubernetes, where nothing of the root can be written.
        add("--read-only-tmpfs", "false");
    }
    if security.no_new_privileges {
        add("--security-opt", "no-new-privileges");
    }
    if security.unmask {
        add("--security-opt", "unmask=ALL");
    }
    match &security.seccomp {
        Some(Profile::Unconfined) => add("--security-opt", "seccomp=unconfined"),
        Some(Profile::Local(path)) => {
            let path = seccomp_root.join(path);
            add("--security-opt", &format!("seccomp={}", path.display()));
        }
        Some(Profile::Usual) | None => {}
    }
    match &security.apparmor {
        Some(Profile::Unconfined) => add("--security-opt", "apparmor=unconfined"),
        Some(Profile::Local(name)) => add("--security-opt", &format!("apparmor={name}")),
        Some(Profile::Usual) | None => {}
    }
    words
}

fn health(liveness: &Probe, startup: Option<&Probe>, restart: Restart) -> HealthOptions {
    let test = |probe: &Probe| match &probe.check {
        Check::Exec(words) => std::iter::once("CMD".to_owned())
            .chain(words.iter().cloned())
            .collect(),
        Check::Shell(line) => vec!["CMD-SHELL".to_owned(), line.clone()],
    };
    let startup = startup.map(|probe| StartupOptions {
        test: Some(test(probe)),
        interval: Some(probe.period),
        timeout: Some(probe.timeout),
        successes: Some(probe.successes),
        retries: Some(probe.failures),
    });
    HealthOptions {
        test: Some(test(liveness)),
        interval: Some(liveness.period),
        timeout: Some(liveness.timeout),
        retries: Some(liveness.failures),
        start_period: Some(liveness.delay),
        on_failure: Some(match restart {
            Restart::Never => OnFailure::Kill,
            Restart::Always | Restart::OnFailure(_) => OnFailure::Restart,
        }),
        startup: startup.unwrap_or_default(),
        ..HealthOptions::default()
    }
}
