//! `kelp pod create`: a pod that is not started.
//!
//! What a pod gives its containers its infra container has, and so most flags are those of `kelp create`: they are
//! parsed there, and mean what they mean there.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use kelp_args::RestartPolicy;
use kelp_engine::auto_update::UNIT;
use kelp_engine::container::CreateOptions;
use kelp_engine::container::config::CgroupMode;
use kelp_engine::image::pull::PullRequest;
use kelp_engine::pod::{ExitPolicy, PodOptions, Shared};
use kelp_engine::{ContainerId, Engine};

use super::create_flags::{CreateFlags, defaults};
use super::runtime_flags::RuntimeFlags;
use super::{command_line, output};

/// Create a pod without starting it
#[derive(clap::Args)]
pub struct Args {
    /// Add a line to /etc/hosts: NAME:IP, or NAME:host-gateway
    #[arg(long, value_name = "NAME:IP")]
    add_host: Vec<String>,
    /// The cgroup, or slice of systemd's, that the cgroups of the containers are made in
    #[arg(long, value_name = "PATH")]
    cgroup_parent: Option<String>,
    /// Give a device of the host
    #[arg(long)]
    device: Vec<String>,
    /// A name server
    #[arg(long, value_name = "IP")]
    dns: Vec<String>,
    /// An option of the resolver
    #[arg(long, value_name = "OPTION")]
    dns_option: Vec<String>,
    /// A domain to search for names
    #[arg(long, value_name = "DOMAIN")]
    dns_search: Vec<String>,
    /// What happens when the last container has ended: continue or stop
    #[arg(long, value_name = "POLICY")]
    exit_policy: Option<ExitPolicy>,
    /// A line of the group id map: INSIDE:OUTSIDE:COUNT
    #[arg(long, value_name = "MAP")]
    gidmap: Vec<String>,
    /// The host's name inside; the pod's name where nothing is said
    #[arg(long)]
    hostname: Option<String>,
    /// What /etc/hosts is made from: a file, none or image
    #[arg(long, value_name = "FILE")]
    hosts_file: Option<String>,
    /// Make a container that has the namespaces of the pod
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    infra: Option<bool>,
    /// The program of the infra container
    #[arg(long, value_name = "COMMAND")]
    infra_command: Option<String>,
    /// Write the process id of the infra container's monitor to this file
    #[arg(long, value_name = "FILE")]
    infra_conmon_pidfile: Option<String>,
    /// The image of the infra container, instead of kelp's own
    #[arg(long, value_name = "IMAGE")]
    infra_image: Option<String>,
    /// A name for the infra container
    #[arg(long, value_name = "NAME")]
    infra_name: Option<String>,
    /// Set a label: KEY=VALUE
    #[arg(short, long)]
    label: Vec<String>,
    /// Read labels from a file
    #[arg(long, value_name = "FILE")]
    label_file: Vec<String>,
    /// A name for the pod
    #[arg(short, long, value_name = "NAME")]
    name: Option<String>,
    /// The network: pasta, host, none, container:ID or ns:PATH
    #[arg(long, visible_alias = "net", value_name = "MODE")]
    network: Vec<String>,
    /// Leave the images' /etc/hostname as it is
    #[arg(long)]
    no_hostname: bool,
    /// Leave the images' /etc/hosts as it is
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    no_hosts: Option<bool>,
    /// The process namespace of the infra container: private, host, container:ID or ns:PATH
    #[arg(long, value_name = "MODE")]
    pid: Option<String>,
    /// Write the pod's id to this file
    #[arg(long, value_name = "FILE")]
    pod_id_file: Option<PathBuf>,
    /// Publish a port: [[IP:][HOST]:]CONTAINER[/PROTOCOL]
    #[arg(short, long, value_name = "PORT")]
    publish: Vec<String>,
    /// Remove a pod that has the name
    #[arg(long)]
    replace: bool,
    /// What happens when a container has ended that says nothing of that: no, on-failure[:RETRIES], always,
    /// unless-stopped
    #[arg(long, value_name = "POLICY")]
    restart: Option<RestartPolicy>,
    /// no-new-privileges, seccomp=FILE|unconfined, apparmor=PROFILE|unconfined, mask=PATHS, unmask=PATHS|ALL
    #[arg(long, value_name = "OPTION")]
    security_opt: Vec<String>,
    /// What the containers share: cgroup, ipc, net, pid and uts, or none; with + before it, besides ipc, net and uts
    #[arg(long, value_name = "NAMESPACE[,...]")]
    share: Option<String>,
    /// Make the cgroups of the containers where that of the infra container is
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = true, default_missing_value = "true", action = clap::ArgAction::Set)]
    share_parent: bool,
    /// The size of /dev/shm
    #[arg(long, value_name = "SIZE")]
    shm_size: Option<String>,
    /// Set a kernel parameter of the pod's namespaces: NAME=VALUE
    #[arg(long, value_name = "NAME=VALUE")]
    sysctl: Vec<String>,
    /// A line of the user id map: INSIDE:OUTSIDE:COUNT
    #[arg(long, value_name = "MAP")]
    uidmap: Vec<String>,
    /// The user namespace: host, keep-id[:uid=N,gid=N], auto[:size=N], nomap, container:ID or ns:PATH
    #[arg(long, value_name = "MODE")]
    userns: Option<String>,
    /// The UTS namespace of the infra container: private, host, container:ID or ns:PATH
    #[arg(long, value_name = "MODE")]
    uts: Option<String>,
    /// Mount a directory or a volume in each container: [SOURCE:]TARGET[:OPTIONS]
    #[arg(short, long)]
    volume: Vec<String>,
    /// Mount the volumes of another container in each container: CONTAINER[:ro|rw]
    #[arg(long, value_name = "CONTAINER")]
    volumes_from: Vec<String>,
    /// A name for the pod
    #[arg(value_name = "NAME")]
    word: Option<String>,
}

/// Creates it and prints its id.
pub fn run(engine: &Engine, runtime: &RuntimeFlags, args: &Args) -> anyhow::Result<i32> {
    if args.name.is_some() && args.word.is_some() {
        bail!("cannot specify --name and NAME at the same time");
    }
    let (options, pull) = args.request(runtime)?;
    if let Some(infra) = options.infra.as_ref().filter(|it| !it.image.is_empty()) {
        engine.ensure_image(&infra.image, &pull)?;
    }
    let replaced = options.name.as_deref().filter(|_| options.replace);
    let file = args.pod_id_file.as_deref();
    let file = file
        .map(|path| IdFile::open(engine, path, replaced))
        .transpose()?;
    let id = engine.create_pod(options)?;
    if let Some(file) = file {
        file.write(&id)?;
    }
    output::line(id)?;
    Ok(0)
}

/// The file that gets the pod's id, which is opened before there is a pod.
struct IdFile<'a> {
    path: &'a Path,
    file: File,
    /// Whether it is to be deleted again.
    is_new: bool,
}

impl<'a> IdFile<'a> {
    /// Makes it, or takes one that tells of a pod that is gone or is `replaced`, as a service has it that was killed.
    fn open(engine: &Engine, path: &'a Path, replaced: Option<&str>) -> anyhow::Result<Self> {
        let what = || format!("write pod ID file {}", path.display());
        match File::create_new(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
            made => {
                return Ok(Self {
                    path,
                    file: made.with_context(what)?,
                    is_new: true,
                });
            }
        }
        let replaced = replaced.and_then(|name| engine.find_pod(name).ok());
        let is_free = match fs::read_to_string(path).with_context(what)?.trim() {
            "" => true,
            text => text.parse::<ContainerId>().is_ok_and(|id| {
                replaced.is_some_and(|it| it == id) || engine.find_pod(id.as_str()).is_err()
            }),
        };
        if !is_free {
            bail!(
                "pod id file \"{}\" exists, and tells of another pod: remove it, or choose another",
                path.display()
            );
        }
        let file = File::options().write(true).open(path).with_context(what)?;
        Ok(Self {
            path,
            file,
            is_new: false,
        })
    }

    fn write(mut self, id: &ContainerId) -> anyhow::Result<()> {
        self.is_new = false;
        self.file
            .set_len(0)
            .and_then(|()| self.file.write_all(id.as_str().as_bytes()))
            .with_context(|| format!("write pod ID file {}", self.path.display()))
    }
}

impl Drop for IdFile<'_> {
    fn drop(&mut self) {
        if self.is_new {
            let _ = fs::remove_file(self.path);
        }
    }
}

impl Args {
    /// Whether a pod can be made with them, as far as they say it.
    pub fn check(&self) -> anyhow::Result<()> {
        self.request(&RuntimeFlags::default()).map(drop)
    }

    fn request(&self, runtime: &RuntimeFlags) -> anyhow::Result<(PodOptions, PullRequest)> {
        let name = self.name.clone().or_else(|| self.word.clone());
        if self.replace && name.is_none() {
            bail!("cannot replace pod without --name being set");
        }
        let shared = self.shared()?;
        let has_infra = self.infra.unwrap_or(!shared.is_empty());
        if !has_infra {
            self.check_without_infra()?;
        }
        let conf = defaults::load()?;
        let (mut infra, pull) = infra_options(&self.words(), self.infra_image.as_deref(), runtime)?;
        infra.name.clone_from(&self.infra_name);
        stay_in_unit(&mut infra);
        let labels = infra.labels.clone().into_iter();
        Ok((
            PodOptions {
                name,
                replace: self.replace,
                // That is of the container, whose unit it is.
                labels: labels.filter(|(key, _)| key != UNIT).collect(),
                shared: if has_infra { shared } else { Vec::new() },
                share_parent: self.share_parent,
                exit_policy: match (self.exit_policy, conf.text("engine", "pod_exit_policy")) {
                    (Some(policy), _) => policy,
                    (None, Some(usual)) => usual.read(|policy| policy.parse::<ExitPolicy>())?,
                    (None, None) => ExitPolicy::default(),
                },
                restart: self.restart,
                infra: has_infra.then(|| Box::new(infra)),
                create_command: command_line::given(),
                service: None,
            },
            pull,
        ))
    }

    /// What `--share` says.
    fn shared(&self) -> anyhow::Result<Vec<Shared>> {
        let text = match self.share.as_deref() {
            None if self.infra == Some(false) => return Ok(Vec::new()),
            None => return Ok(Shared::USUAL.to_vec()),
            Some("none" | "") => return Ok(Vec::new()),
            Some(text) => text,
        };
        let (mut shared, text) = match text.strip_prefix('+') {
            Some(more) => (Shared::USUAL.to_vec(), more),
            None => (Vec::new(), text),
        };
        for word in text.split(',') {
            let one = word.parse().map_err(anyhow::Error::msg)?;
            if !shared.contains(&one) {
                shared.push(one);
            }
        }
        shared.sort_unstable();
        if shared.contains(&Shared::Cgroup) && self.share_parent {
            bail!(
                "cannot define the pod as the cgroup parent at the same time as joining the infra container's \
                 cgroupNS: add --share-parent=false"
            );
        }
        Ok(shared)
    }

    fn check_without_infra(&self) -> anyhow::Result<()> {
        if self.infra_name.is_some() {
            bail!("cannot set infra-name without an infra container");
        }
        if self.no_hosts.is_some() {
            bail!("cannot specify --no-hosts without an infra container");
        }
        if let Some(share) = self
            .share
            .as_deref()
            .filter(|share| !matches!(*share, "none" | ""))
        {
            bail!("cannot set share({share}) namespaces without an infra container");
        }
        if !self.publish.is_empty() {
            bail!("you must have an infra container to publish port bindings to the host");
        }
        let given = self.words();
        let of_pod = |word: &&String| !word.starts_with("--label");
        if let Some(word) = given.iter().find(of_pod) {
            let flag = word.split('=').next().unwrap_or_default();
            bail!(
                "{flag} is for the infra container, and the pod has none: leave out one or the other"
            );
        }
        Ok(())
    }

    /// The flags that `kelp create` has too, as it has them.
    fn words(&self) -> Vec<String> {
        let mut words = Vec::new();
        let mut all = |flag: &str, values: &[String]| {
            words.extend(values.iter().map(|value| format!("{flag}={value}")));
        };
        for (flag, values) in [
            ("--add-host", &self.add_host),
            ("--device", &self.device),
            ("--dns", &self.dns),
            ("--dns-option", &self.dns_option),
            ("--dns-search", &self.dns_search),
            ("--gidmap", &self.gidmap),
            ("--label", &self.label),
            ("--label-file", &self.label_file),
            ("--network", &self.network),
            ("--publish", &self.publish),
            ("--security-opt", &self.security_opt),
            ("--sysctl", &self.sysctl),
            ("--uidmap", &self.uidmap),
            ("--volume", &self.volume),
            ("--volumes-from", &self.volumes_from),
        ] {
            all(flag, values);
        }
        for (flag, value) in [
            ("--cgroup-parent", &self.cgroup_parent),
            ("--hostname", &self.hostname),
            ("--hosts-file", &self.hosts_file),
            ("--entrypoint", &self.infra_command),
            ("--conmon-pidfile", &self.infra_conmon_pidfile),
            ("--pid", &self.pid),
            ("--shm-size", &self.shm_size),
            ("--userns", &self.userns),
            ("--uts", &self.uts),
        ] {
            all(flag, value.as_slice());
        }
        if let Some(no_hosts) = self.no_hosts {
            words.push(format!("--no-hosts={no_hosts}"));
        }
        if self.no_hostname {
            words.push("--no-hostname".to_owned());
        }
        words
    }
}

/// The request for an infra container, and for its image, which is kelp's own where nobody names one.
pub fn infra_options(
    words: &[String],
    image: Option<&str>,
    runtime: &RuntimeFlags,
) -> anyhow::Result<(CreateOptions, PullRequest)> {
    let conf = defaults::load()?;
    let usual = |key| conf.text("engine", key).map(|text| text.value);
    let image = image.map(str::to_owned).or_else(|| usual("infra_image"));
    // An infra container has no output, and one without a log driver of its own could have none to keep it.
    let first = ["create", "--log-driver=k8s-file"].map(str::to_owned);
    let last = ["--".to_owned(), image.unwrap_or_default()];
    let all = first.iter().chain(words).chain(&last);
    let flags = CreateFlags::read(all.cloned().collect())?;
    let (mut options, pull) = flags.requests(runtime)?;
    if !options.image.is_empty() && options.entrypoint.is_none() {
        options.entrypoint = usual("infra_command").map(|command| vec![command]);
    }
    options.check()?;
    Ok((options, pull))
}

/// Has a container be in the cgroup of the unit of systemd's that makes it, if one does and nothing else is asked for:
/// systemd takes no process for the main one that is not there.
pub fn stay_in_unit(options: &mut CreateOptions) {
    let cgroups = &mut options.cgroups;
    let is_usual = cgroups.mode == CgroupMode::Enabled && cgroups.parent.is_empty();
    if is_usual && std::env::var_os(UNIT).is_some() {
        cgroups.mode = CgroupMode::Cgroupfs;
    }
}
