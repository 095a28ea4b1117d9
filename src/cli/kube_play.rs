//! `kelp kube play`: pods, and what they refer to, as documents say.
//!
//! All requests are made before anything is done, and images are here before anything is taken away. What was made
//! goes again if something fails.

use std::path::PathBuf;

use anyhow::{Context, bail};
use kelp_engine::auto_update::UNIT;
use kelp_engine::image::pull::{PullPolicy, PullRequest};
use kelp_engine::pod::remove::RemovePod;
use kelp_engine::pod::whole::{MadePod, WholePod};
use kelp_engine::pod::{Fails, Role, Service};
use kelp_engine::volumes::VolumeRecord;
use kelp_engine::{ContainerId, Engine};
use kelp_kube::Documents;

use super::create_flags::{CreateFlags, defaults};
use super::kube_down::take_down;
use super::kube_pod::{Wanted, request};
use super::pod_create::{infra_options, stay_in_unit};
use super::pull_flags::{AccessFlags, RetryFlags, keep_storage};
use super::runtime_flags::RuntimeFlags;
use super::{exit, kube_input, output};

/// Make the pods of Kubernetes YAML, with their volumes and containers, and start them
#[derive(clap::Args)]
pub struct Args {
    /// Set an annotation of the containers: KEY[/CONTAINER]=VALUE
    #[arg(long, value_name = "KEY=VALUE")]
    annotation: Vec<String>,
    #[command(flatten)]
    registry: AccessFlags,
    /// Read ConfigMaps of these files as well
    #[arg(long, value_name = "FILE", value_delimiter = ',')]
    configmap: Vec<PathBuf>,
    /// Credentials for the registry: USER:PASSWORD
    #[arg(long, value_name = "USER:PASSWORD")]
    creds: Option<String>,
    /// Take away what a play has made, as kube down does
    #[arg(long)]
    down: bool,
    /// With --down: remove the volumes of claims as well
    #[arg(long, requires = "down")]
    force: bool,
    /// How output is kept
    #[arg(long, value_name = "DRIVER")]
    log_driver: Option<String>,
    /// An option of the log: NAME=VALUE
    #[arg(long, value_name = "NAME=VALUE")]
    log_opt: Vec<String>,
    /// The network: pasta, host, none, container:ID or ns:PATH
    #[arg(long, visible_alias = "net", value_name = "MODE")]
    network: Vec<String>,
    /// Leave the images' /etc/hosts as it is
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, value_name = "BOOL", action = clap::ArgAction::Set)]
    no_hosts: bool,
    /// Call containers as their pod calls them, without its name before that
    #[arg(long)]
    no_pod_prefix: bool,
    /// Publish a port: [[IP:][HOST]:]CONTAINER[/PROTOCOL]
    #[arg(long, value_name = "PORT")]
    publish: Vec<String>,
    /// Publish the ports that have no hostPort as well, as they are
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, value_name = "BOOL", action = clap::ArgAction::Set)]
    publish_all: bool,
    /// Do not show the progress of a pull
    #[arg(short, long)]
    quiet: bool,
    /// Take away what a play has made before
    #[arg(long)]
    replace: bool,
    /// Where the profiles of seccomp are that documents name
    #[arg(long, value_name = "DIR", default_value = "/var/lib/kubelet/seccomp")]
    seccomp_profile_root: PathBuf,
    /// Make a container that is the main process of a unit of systemd's, and ends with the pods
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = false, value_name = "BOOL", action = clap::ArgAction::Set)]
    service_container: bool,
    /// When that one fails: none, any or all of the containers have failed
    #[arg(long, visible_alias = "exit-code-propagation", value_name = "WHEN", value_parser = fails)]
    service_exit_code_propagation: Option<Fails>,
    /// Start what was made
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value_t = true, value_name = "BOOL", action = clap::ArgAction::Set)]
    start: bool,
    /// The user namespace: host, keep-id[:uid=N,gid=N], auto[:size=N], nomap, container:ID or ns:PATH
    #[arg(long, value_name = "MODE")]
    userns: Option<String>,
    /// Wait until the containers have ended, or for Ctrl-C, and take away what was made
    #[arg(short, long)]
    wait: bool,
    /// Files, - for standard input, or URLs
    #[arg(required = true, value_name = "FILE|-|URL")]
    files: Vec<String>,
}

fn fails(text: &str) -> Result<Fails, String> {
    match text {
        "none" => Ok(Fails::None),
        "any" => Ok(Fails::Any),
        "all" => Ok(Fails::All),
        _ => Err("use none, any or all".to_owned()),
    }
}

/// Runs it; the exit code.
pub fn run(engine: &Engine, runtime: &RuntimeFlags, args: &Args) -> anyhow::Result<i32> {
    let mut known = kube_input::config_maps(&args.configmap)?;
    if args.down {
        if args.replace || args.wait {
            bail!("--down and --replace or --wait exclude each other");
        }
        known.others = true;
        let documents = kube_input::read(engine, &args.files, &known)?;
        return take_down(engine, &documents, args.force).tell();
    }
    if !args.start && (args.wait || args.service_container) {
        bail!("--start=false leaves nothing to wait for: leave --wait and --service-container out");
    }
    let documents = kube_input::read(engine, &args.files, &known)?;
    let wanted = args.wanted()?;
    let requests: Vec<_> = documents
        .pods
        .iter()
        .map(|pod| request(pod, &wanted, runtime))
        .collect::<anyhow::Result<_>>()?;
    args.pull(engine, &documents, &requests)?;
    if args.replace {
        let code = take_down(engine, &documents, false).check();
        if code != 0 {
            return Ok(code);
        }
    }
    let mut play = Play {
        engine,
        volumes: Vec::new(),
        pods: Vec::new(),
        service: None,
        is_whole: false,
    };
    play.make(args, &documents, requests, runtime)?;
    if args.start && !play.start()? {
        // Why is told already.
        return Ok(125);
    }
    play.is_whole = true;
    tell(&play)?;
    if args.wait {
        return wait(args, &play, &documents);
    }
    Ok(0)
}

impl Args {
    /// Whether pods can be made with them, as far as they say it.
    pub fn check(&self) -> anyhow::Result<()> {
        let wanted = self.wanted()?;
        let mut words = wanted.infra;
        words.extend(self.publish.iter().map(|it| format!("--publish={it}")));
        words.extend(self.userns.iter().map(|it| format!("--userns={it}")));
        let runtime = RuntimeFlags::default();
        infra_options(&words, None, &runtime)?;
        let mut words = vec!["create".to_owned()];
        words.extend(wanted.flags);
        words.extend(["--", "container"].map(str::to_owned));
        let (options, _) = CreateFlags::read(words)?.requests(&runtime)?;
        Ok(options.check()?)
    }

    fn wanted(&self) -> anyhow::Result<Wanted> {
        let mut wanted = Wanted {
            publish: self.publish.clone(),
            publish_all: self.publish_all,
            userns: self.userns.clone(),
            no_hosts: self.no_hosts,
            no_prefix: self.no_pod_prefix,
            seccomp_root: self.seccomp_profile_root.clone(),
            ..Wanted::default()
        };
        let given = |flag: &str, value: &String| format!("{flag}={value}");
        wanted
            .flags
            .extend(self.log_driver.iter().map(|it| given("--log-driver", it)));
        wanted
            .flags
            .extend(self.log_opt.iter().map(|it| given("--log-opt", it)));
        wanted
            .infra
            .extend(self.network.iter().map(|it| given("--network", it)));
        for text in &self.annotation {
            let (key, value) = text
                .split_once('=')
                .with_context(|| format!("invalid --annotation {text:?}: it is KEY=VALUE"))?;
            wanted.annotations.push((key.to_owned(), value.to_owned()));
        }
        Ok(wanted)
    }

    /// Makes sure that the images are here.
    fn pull(
        &self,
        engine: &Engine,
        documents: &Documents,
        requests: &[WholePod],
    ) -> anyhow::Result<()> {
        let conf = defaults::load()?;
        let mut request = PullRequest {
            access: self.registry.request(),
            quiet: self.quiet,
            keep_storage: keep_storage(conf)?,
            policy: PullPolicy::Missing,
            ..PullRequest::default()
        };
        RetryFlags::default().apply(&mut request.access, conf)?;
        request.access.credentials.clone_from(&self.creds);
        for infra in requests.iter().filter_map(|it| it.options.infra.as_ref()) {
            if !infra.image.is_empty() {
                engine.ensure_image(&infra.image, &request)?;
            }
        }
        for pod in &documents.pods {
            for (image, policy) in pod.images() {
                request.policy = match policy {
                    kelp_kube::PullPolicy::Always => PullPolicy::Always,
                    kelp_kube::PullPolicy::Newer => PullPolicy::Newer,
                    kelp_kube::PullPolicy::Missing => PullPolicy::Missing,
                    kelp_kube::PullPolicy::Never => PullPolicy::Never,
                };
                engine.ensure_image(image, &request)?;
            }
        }
        Ok(())
    }
}

/// What was made; it goes again unless all of it was.
struct Play<'a> {
    engine: &'a Engine,
    volumes: Vec<String>,
    pods: Vec<(MadePod, Vec<ContainerId>)>,
    service: Option<Service>,
    is_whole: bool,
}

impl Play<'_> {
    fn make(
        &mut self,
        args: &Args,
        documents: &Documents,
        requests: Vec<WholePod>,
        runtime: &RuntimeFlags,
    ) -> anyhow::Result<()> {
        for claim in &documents.claims {
            let metadata = &claim.metadata;
            let record = VolumeRecord {
                labels: metadata.labels.clone(),
                ..VolumeRecord::default()
            };
            if self.engine.create_volume(&metadata.name, &record, true)? {
                self.volumes.push(metadata.name.clone());
            }
        }
        if args.service_container {
            let fails = args.service_exit_code_propagation.unwrap_or_default();
            let name = documents.pods.first().map(|pod| &*pod.metadata.name);
            let name = name.unwrap_or("kube");
            let container = make_service(self.engine, name, args.replace, runtime)?;
            self.service = Some(Service { container, fails });
        }
        for mut whole in requests {
            whole.options.service.clone_from(&self.service);
            let is_member: Vec<_> = whole
                .members
                .iter()
                .map(|it| it.role == Role::Member)
                .collect();
            let made = self.engine.create_whole_pod(whole)?;
            let members = made.members.iter().zip(is_member);
            let members = members
                .filter(|(_, is)| *is)
                .map(|(id, _)| id.clone())
                .collect();
            self.pods.push((made, members));
        }
        Ok(())
    }

    /// Starts all of it; false if something could not be, which is told.
    fn start(&self) -> anyhow::Result<bool> {
        let mut failed = 0;
        for (pod, _) in &self.pods {
            for (id, error) in self.engine.start_pod(&pod.id)? {
                let line = exit::line(&error.into());
                output::error(format_args!("starting container {}: {line}", id.short()));
                failed += 1;
            }
        }
        if failed > 0 {
            output::error(format_args!("failed to start {failed} containers"));
            return Ok(false);
        }
        if let Some(service) = &self.service {
            self.engine.start_service(service)?;
        }
        Ok(true)
    }
}

impl Drop for Play<'_> {
    fn drop(&mut self) {
        if self.is_whole {
            return;
        }
        for (pod, _) in &self.pods {
            let _ = self.engine.remove_pod(&pod.id, &RemovePod::FORCE);
        }
        if let Some(service) = &self.service {
            let _ = self.engine.remove_service(service);
        }
        for (pod, _) in self.pods.iter().rev() {
            pod.places.take_away();
        }
        for name in &self.volumes {
            if let Ok(Some(volume)) = self.engine.volume_named(name) {
                let _ = self.engine.remove_volume(&volume, None);
            }
        }
    }
}

/// The container that is the main process of the unit.
fn make_service(
    engine: &Engine,
    name: &str,
    replace: bool,
    runtime: &RuntimeFlags,
) -> anyhow::Result<ContainerId> {
    let name = format!("--name={name}-service");
    let words = [
        "create",
        "--network=none",
        "--log-driver=k8s-file",
        &name,
        "--",
        "service",
    ];
    let flags = CreateFlags::read(words.map(str::to_owned).to_vec())?;
    let (mut options, _) = flags.requests(runtime)?;
    options.replace = replace;
    // Who restarts the unit makes the pods anew, and not this.
    options.labels.remove(UNIT);
    stay_in_unit(&mut options);
    Ok(engine.create_service(options)?)
}

/// Says what podman says.
fn tell(play: &Play<'_>) -> anyhow::Result<()> {
    if !play.volumes.is_empty() {
        output::line("Volumes:")?;
    }
    for volume in &play.volumes {
        output::line(volume)?;
    }
    for (pod, members) in &play.pods {
        output::line("Pod:")?;
        output::line(&pod.id)?;
        output::line(if members.len() == 1 {
            "Container:"
        } else {
            "Containers:"
        })?;
        for id in members {
            output::line(id)?;
        }
        output::line("")?;
    }
    Ok(())
}

/// Waits for the containers, and takes all of it away; the exit code.
fn wait(args: &Args, play: &Play<'_>, documents: &Documents) -> anyhow::Result<i32> {
    let ids: Vec<_> = play
        .pods
        .iter()
        .flat_map(|(_, members)| members.clone())
        .collect();
    let codes = play.engine.wait_unless_interrupted(&ids)?;
    let fails = args.service_exit_code_propagation.unwrap_or_default();
    let has_failed = codes.is_some_and(|codes| fails.is_so(&codes));
    let mut removed = take_down(play.engine, documents, false);
    removed.remove_volumes(play.engine, &play.volumes);
    match removed.tell()? {
        0 => Ok(i32::from(has_failed)),
        code => Ok(code),
    }
}
