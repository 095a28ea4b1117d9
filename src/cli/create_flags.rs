//! Flags that `run` and `create` share, in podman's names.

mod compatible;
pub mod defaults;
pub mod health;
mod isolation;
pub mod limits;
pub mod pod;
mod process;
mod resources;
mod storage;
mod system;
pub mod unsupported;
mod user;

use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, bail};
use clap::{Args as _, FromArgMatches};
use kelp_args::DetachKeys;
use kelp_config::Conf;
use kelp_engine::container::CreateOptions;
use kelp_engine::container::config::Notify;
use kelp_engine::container::requires::{Requirement, Until};
use kelp_engine::image::pull::{PullPolicy, PullRequest};

pub use process::{host_variables, variables};

use super::pull_flags::{AccessFlags, PlatformFlags, RetryFlags, keep_storage};
use super::runtime_flags::RuntimeFlags;
use super::{command_line, usage_error};

/// The flags.
#[derive(clap::Args, Debug)]
pub struct CreateFlags {
    #[command(flatten)]
    process: process::ProcessFlags,
    #[command(flatten)]
    user: user::UserFlags,
    #[command(flatten)]
    isolation: isolation::IsolationFlags,
    #[command(flatten)]
    storage: storage::StorageFlags,
    #[command(flatten)]
    resources: resources::ResourceFlags,
    #[command(flatten)]
    registry: AccessFlags,
    #[command(flatten)]
    platform: PlatformFlags,
    #[command(flatten)]
    retry: RetryFlags,
    #[command(flatten)]
    runtime: RuntimeFlags,
    #[command(flatten)]
    health: health::HealthFlags,
    #[command(flatten)]
    compatible: compatible::CompatibleFlags,
    #[command(flatten)]
    system: system::SystemFlags,
    #[command(flatten)]
    pod: pod::PodFlags,
    /// Remove the container, and volumes without a name, when it has ended
    #[arg(long)]
    pub rm: bool,
    /// A name for the container
    #[arg(long)]
    name: Option<String>,
    /// Remove a container that has the name
    #[arg(long)]
    replace: bool,
    /// Start these containers before this one: NAME[,NAME...]
    #[arg(long, value_name = "CONTAINER", value_delimiter = ',')]
    requires: Vec<String>,
    /// The same, and wait until one is as it is to be: NAME[:CONDITION], where the condition is service_started,
    /// service_healthy or service_completed_successfully
    #[arg(long, value_name = "CONTAINER[:CONDITION]")]
    depends_on: Vec<Requirement>,
    /// Write the container's id to this file
    #[arg(long, value_name = "FILE")]
    cidfile: Option<PathBuf>,
    /// Write the process id of the container's init to this file
    #[arg(long, value_name = "FILE")]
    pidfile: Option<PathBuf>,
    /// Write the process id of the container's monitor to this file
    #[arg(long, value_name = "FILE")]
    conmon_pidfile: Option<PathBuf>,
    /// When to ask the registry: always, missing, newer or never
    #[arg(long, value_name = "POLICY")]
    pull: Option<String>,
    /// Credentials for the registry: USER:PASSWORD
    #[arg(long, value_name = "USER:PASSWORD")]
    creds: Option<String>,
    /// Do not show the progress of a pull
    #[arg(short, long)]
    pub quiet: bool,
    /// IMAGE is the path of a directory, which stays as it is with :O behind it
    #[arg(long)]
    rootfs: bool,
    /// The keys that detach, such as ctrl-p,ctrl-q; an empty string for none
    #[arg(long, value_name = "KEYS")]
    pub detach_keys: Option<DetachKeys>,
    /// Attach stdin, stdout or stderr alone
    #[arg(short, long, value_name = "STREAM")]
    attach: Vec<Stream>,
    /// The image, and the command to run in it
    #[arg(
        required = true,
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "IMAGE [COMMAND [ARG...]]"
    )]
    image_and_command: Vec<String>,
}

/// A stream that `--attach` names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdin,
    Stdout,
    Stderr,
}

impl FromStr for Stream {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "stdin" => Ok(Self::Stdin),
            "stdout" => Ok(Self::Stdout),
            "stderr" => Ok(Self::Stderr),
            _ => Err(format!(
                "invalid stream {text:?} for --attach: use stdin, stdout or stderr"
            )),
        }
    }
}

impl CreateFlags {
    /// Reads the words of a command line that nobody wrote; the first one is the command.
    pub fn read(words: Vec<String>) -> anyhow::Result<Self> {
        // Nothing but the arguments has a short name then.
        let command = Self::augment_args(clap::Command::new("create").disable_help_flag(true));
        let read = command
            .args_override_self(true)
            .try_get_matches_from(words)
            .and_then(|matches| Self::from_arg_matches(&matches));
        read.map_err(|error| anyhow::Error::msg(usage_error::line(&error)))
    }

    /// Whether `run` connects its own stream.
    pub fn attaches(&self, stream: Stream) -> bool {
        self.attach.is_empty() || self.attach.contains(&stream)
    }

    /// Whether the streams to connect are named.
    pub fn names_streams(&self) -> bool {
        !self.attach.is_empty()
    }

    /// The engine's requests for the container and for its image.
    ///
    /// `before` is what stood before the command.
    pub fn requests(&self, before: &RuntimeFlags) -> anyhow::Result<(CreateOptions, PullRequest)> {
        let conf = defaults::load()?;
        let mut options = self.options(conf)?;
        options.runtime = self.runtime.over(before).choose(conf)?;
        let pull = self.pull_request(&options, conf)?;
        Ok((options, pull))
    }

    /// Whether a container can be made with them, as far as they say it.
    pub fn check(&self) -> anyhow::Result<()> {
        let conf = defaults::load()?;
        let options = self.options(conf)?;
        options.check()?;
        self.pull_request(&options, conf)?.check()?;
        Ok(())
    }

    fn options(&self, conf: &Conf) -> anyhow::Result<CreateOptions> {
        let mut words = self.image_and_command.iter().cloned();
        let image = words.next().unwrap_or_default();
        if self.replace && self.name.is_none() {
            bail!("cannot replace container without --name being set");
        }
        let bare = image.strip_suffix(":O").filter(|_| self.rootfs);
        let mut options = CreateOptions {
            rootfs: self.rootfs.then(|| bare.unwrap_or(&image).into()),
            rootfs_overlay: bare.is_some(),
            image,
            command: words.collect(),
            remove: self.rm,
            name: self.name.clone(),
            replace: self.replace,
            cid_file: self.cidfile.as_deref().map(absolute).transpose()?,
            pid_file: self.pidfile.as_deref().map(absolute).transpose()?,
            monitor_pid_file: self.conmon_pidfile.as_deref().map(absolute).transpose()?,
            detach_keys: self.detach_keys.as_ref().map(ToString::to_string),
            create_command: command_line::given(),
            health: self.health.options()?,
            requires: self.requirements(),
            ..CreateOptions::default()
        };
        self.compatible.apply(&mut options)?;
        self.process.apply(&mut options)?;
        self.user.apply(&mut options)?;
        self.isolation.apply(&mut options)?;
        self.storage.apply(&mut options)?;
        self.system.apply(&mut options);
        self.resources.apply_to_processes(&mut options)?;
        options.pod = self.pod.membership(self)?;
        defaults::fill(self, conf, &mut options)?;
        isolation::discard_ports(&mut options);
        self.resources.apply(&mut options, conf)?;
        Ok(options)
    }

    fn requirements(&self) -> Vec<Requirement> {
        let required = self.requires.iter().map(|container| Requirement {
            container: container.clone(),
            until: Until::ServiceStarted,
        });
        required.chain(self.depends_on.iter().cloned()).collect()
    }

    fn pull_request(&self, options: &CreateOptions, conf: &Conf) -> anyhow::Result<PullRequest> {
        let mut request = PullRequest {
            access: self.registry.request(),
            ..PullRequest::default()
        };
        self.platform.apply(&mut request);
        self.retry.apply(&mut request.access, conf)?;
        request.keep_storage = keep_storage(conf)?;
        let usual = conf.text("engine", "pull_policy");
        request.policy = match (&self.pull, usual) {
            (Some(policy), _) => policy.parse()?,
            (None, Some(policy)) => policy.read(|policy| policy.parse::<PullPolicy>())?,
            (None, None) => PullPolicy::Missing,
        };
        request.quiet = self.quiet;
        request.access.credentials.clone_from(&self.creds);
        request.user = options.namespaces.user.clone();
        request.untold = options.notify == Some(Notify::Ignore);
        Ok(request)
    }
}

/// A file that others write or remove, wherever they are.
fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    let shown = path.display();
    match std::path::absolute(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            bail!("invalid path {shown:?}: it is relative, and the working directory is gone")
        }
        found => found.with_context(|| format!("invalid path {shown:?}")),
    }
}

/// The first error of a list of values, or all of them.
fn each<T>(values: &[String], parse: impl Fn(&str) -> Result<T, String>) -> anyhow::Result<Vec<T>> {
    values
        .iter()
        .map(|value| parse(value).map_err(anyhow::Error::msg))
        .collect()
}
