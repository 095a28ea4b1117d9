//! Flags about the program: environment, user, terminal, stop, log.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use kelp_args::{LogOption, RestartPolicy, Signal, StopTimeout, env};
use kelp_engine::auto_update::UNIT;
use kelp_engine::container::CreateOptions;
use kelp_engine::container::config::{LinuxPersonalityDomain, LogDriver};

/// The flags.
#[derive(clap::Args, Debug)]
pub struct ProcessFlags {
    /// Keep standard input open
    #[arg(short, long)]
    interactive: bool,
    /// Allocate a terminal
    #[arg(short, long)]
    tty: bool,
    /// Set an environment variable: KEY=VALUE, KEY or PREFIX*
    #[arg(short, long)]
    env: Vec<String>,
    /// Read environment variables from a file
    #[arg(long, value_name = "FILE")]
    env_file: Vec<PathBuf>,
    /// Pass the whole environment of the host on
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    env_host: Option<bool>,
    /// Set a variable from the image's: PATH=/opt/bin:${PATH}
    #[arg(long, value_name = "KEY=VALUE")]
    env_merge: Vec<String>,
    /// Pass the host's proxy variables on
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    http_proxy: Option<bool>,
    /// Leave out a variable of the image
    #[arg(long, value_name = "KEY")]
    unsetenv: Vec<String>,
    /// Leave out every variable that is not asked for
    #[arg(long)]
    unsetenv_all: bool,
    /// The working directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<PathBuf>,
    /// Replace the image's entrypoint
    #[arg(long)]
    entrypoint: Option<String>,
    /// Set a label: KEY=VALUE
    #[arg(short, long)]
    label: Vec<String>,
    /// Read labels from a file
    #[arg(long, value_name = "FILE")]
    label_file: Vec<PathBuf>,
    /// Set an OCI annotation: KEY=VALUE
    #[arg(long)]
    annotation: Vec<String>,
    /// Run kelp's reaper as process 1
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(super) init: Option<bool>,
    /// The time zone: local, or a name such as Europe/Berlin
    #[arg(long, value_name = "ZONE")]
    tz: Option<String>,
    /// The execution domain: LINUX, or LINUX32 for a 32-bit machine
    #[arg(long, value_name = "PERSONA", value_parser = personality)]
    personality: Option<LinuxPersonalityDomain>,
    /// The file mode mask, in octal
    #[arg(long)]
    umask: Option<String>,
    /// What happens when the container has ended: no, on-failure[:RETRIES], always, unless-stopped
    #[arg(long, value_name = "POLICY")]
    pub(super) restart: Option<RestartPolicy>,
    /// Seconds after which the container is killed; 0 for never
    #[arg(long, value_name = "SECONDS")]
    timeout: Option<u32>,
    /// The signal that asks the container to stop
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<Signal>,
    /// Seconds until a container that was asked to stop is killed
    #[arg(long, value_name = "SECONDS")]
    stop_timeout: Option<StopTimeout>,
    /// Where output is kept: k8s-file, json-file, journald, none, passthrough or passthrough-tty
    #[arg(long, value_name = "DRIVER")]
    pub(super) log_driver: Option<String>,
    /// An option of the log: path=FILE, max-size=SIZE, max-file=N; of the journal tag=TEMPLATE, label=KEY=VALUE
    #[arg(long, value_name = "KEY=VALUE")]
    log_opt: Vec<LogOption>,
}

impl ProcessFlags {
    pub(super) fn apply(&self, options: &mut CreateOptions) -> anyhow::Result<()> {
        options.interactive = self.interactive;
        options.tty = self.tty;
        self.environment(options)?;
        options.merged_env.clone_from(&self.env_merge);
        options.unset_env.clone_from(&self.unsetenv);
        options.unset_all_env = self.unsetenv_all;
        options.workdir.clone_from(&self.workdir);
        options.entrypoint = match self.entrypoint.as_deref() {
            Some(json) if json.starts_with('[') => {
                Some(serde_json::from_str(json).context("--entrypoint: not a JSON array")?)
            }
            other => other.map(|word| vec![word.to_owned()]),
        };
        for path in &self.label_file {
            options.labels.extend(pairs(&label_file(path)?));
        }
        options.labels.extend(pairs(&self.label));
        // The unit of systemd's whose restart makes the container anew, which `auto-update` asks for.
        if let Ok(unit) = std::env::var(UNIT) {
            options.labels.entry(UNIT.to_owned()).or_insert(unit);
        }
        options.annotations = pairs(&self.annotation).collect();
        options.umask = match &self.umask {
            None => None,
            Some(text) => Some(umask(text)?),
        };
        options.timezone.clone_from(&self.tz);
        options.personality = self.personality;
        options.restart = self.restart.unwrap_or_default();
        if options.remove && options.restart != RestartPolicy::No {
            bail!(
                "--rm and --restart exclude each other: a container that is gone can't start again"
            );
        }
        options.timeout = self.timeout.filter(|&seconds| seconds > 0).map(Into::into);
        options.stop_signal = self.stop_signal.map(Signal::number);
        options.stop_timeout = self.stop_timeout.map(|timeout| match timeout {
            StopTimeout::After(time) => time.as_secs(),
            // 136 years: the clock has no room for ever.
            StopTimeout::Never => u32::MAX.into(),
        });
        self.log(options)
    }

    /// Later ones win: files, arguments.
    fn environment(&self, options: &mut CreateOptions) -> anyhow::Result<()> {
        let host = host_variables();
        options.env = variables(&self.env_file, &self.env, &host)?;
        Ok(())
    }

    /// Passes variables of the host on; what the command line leaves open is for others to say.
    pub(super) fn pass_host_variables(
        &self,
        options: &mut CreateOptions,
        all: Option<bool>,
        proxy: Option<bool>,
    ) {
        let all = self.env_host.or(all).unwrap_or(false);
        let proxy = self.http_proxy.or(proxy).unwrap_or(true);
        let host = host_variables().into_iter();
        let passed = host.filter(|(name, _)| all || proxy && is_proxy(name));
        options.host_env = passed
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
    }

    fn log(&self, options: &mut CreateOptions) -> anyhow::Result<()> {
        options.log_driver = match &self.log_driver {
            None => None,
            Some(driver) => log_driver(driver)?,
        };
        for option in &self.log_opt {
            match option {
                // The monitor is in another directory.
                LogOption::Path(path) => options.log_path = Some(super::absolute(path)?),
                LogOption::MaxSize(size) => options.log_max_size = size.unwrap_or(0),
                LogOption::MaxFile(count) => options.log_max_files = *count,
                LogOption::Tag(tag) => options.log_tag = Some(tag.clone()),
                LogOption::Label { key, value } => {
                    options.log_labels.insert(key.clone(), value.clone());
                }
            }
        }
        Ok(())
    }

    /// Whether something is said that tells what keeps the output.
    pub(super) fn says_how_to_log(&self) -> bool {
        self.log_driver.is_some() || self.log_file_option().is_some()
    }

    fn log_file_option(&self) -> Option<&'static str> {
        self.log_opt.iter().find_map(|option| match option {
            LogOption::Path(_) => Some("path"),
            LogOption::MaxSize(_) => Some("max-size"),
            LogOption::MaxFile(_) => Some("max-file"),
            LogOption::Tag(_) | LogOption::Label { .. } => None,
        })
    }

    /// Refuses options of files where there is none: once the driver is settled.
    pub(super) fn check_log(&self, options: &CreateOptions) -> anyhow::Result<()> {
        match self.log_file_option() {
            Some(name) if options.log_driver == Some(LogDriver::Journald) => bail!(
                "--log-opt {name} is of a file, and the log driver journald has none: leave it away, \
                 journald.conf(5) says how much the journal keeps"
            ),
            _ => Ok(()),
        }
    }
}

/// Reads `--log-driver`; the usual one is none.
pub(super) fn log_driver(text: &str) -> anyhow::Result<Option<LogDriver>> {
    match text {
        "k8s-file" | "json-file" => Ok(None),
        "none" => Ok(Some(LogDriver::None)),
        "passthrough" => Ok(Some(LogDriver::Passthrough)),
        "passthrough-tty" => Ok(Some(LogDriver::PassthroughTty)),
        "journald" => Ok(Some(LogDriver::Journald)),
        other => {
            bail!(
                "invalid log driver {other:?}: use k8s-file, json-file, journald, none, passthrough or \
                 passthrough-tty"
            )
        }
    }
}

/// Reads `--umask`.
pub(super) fn umask(text: &str) -> anyhow::Result<u32> {
    let mask = u32::from_str_radix(text, 8).ok();
    mask.filter(|mask| *mask <= 0o777)
        .with_context(|| format!("invalid umask {text:?}: it is octal, such as 0022"))
}

fn personality(text: &str) -> Result<LinuxPersonalityDomain, String> {
    match text {
        "LINUX" | "PER_LINUX" => Ok(LinuxPersonalityDomain::PerLinux),
        "LINUX32" | "PER_LINUX32" => Ok(LinuxPersonalityDomain::PerLinux32),
        _ => Err(format!(
            "invalid personality {text:?}: use LINUX or LINUX32"
        )),
    }
}

/// The variables of this process that are text.
pub fn host_variables() -> Vec<(String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

/// The variables of files, then those of arguments.
pub fn variables(
    files: &[PathBuf],
    arguments: &[String],
    host: &env::Host,
) -> anyhow::Result<Vec<String>> {
    let mut list = Vec::new();
    for path in files {
        let name = path.display().to_string();
        let content = std::fs::read_to_string(path).with_context(|| format!("read {name}"))?;
        list.extend(env::file(&content, &name, host).map_err(anyhow::Error::msg)?);
    }
    for text in arguments {
        list.extend(env::argument(text, host).map_err(anyhow::Error::msg)?);
    }
    Ok(list)
}

/// Whether a variable says which proxy programs use.
fn is_proxy(name: &str) -> bool {
    let names = ["http_proxy", "https_proxy", "ftp_proxy", "no_proxy"];
    names
        .iter()
        .any(|&known| name == known || name == known.to_ascii_uppercase())
}

/// The lines of a file, without white space at their beginnings, blank ones and comments.
fn label_file(path: &Path) -> anyhow::Result<Vec<String>> {
    let content =
        std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    let lines = content.lines().map(str::trim_start);
    let labels = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
    labels
        .map(|line| match line.split_once('=').unwrap_or((line, "")) {
            ("", _) => bail!("{}: no label name on line {line:?}", path.display()),
            _ => Ok(line.to_owned()),
        })
        .collect()
}

/// `KEY=VALUE`; a key alone has an empty value.
fn pairs(list: &[String]) -> impl Iterator<Item = (String, String)> {
    list.iter().map(|text| match text.split_once('=') {
        Some((key, value)) => (key.to_owned(), value.to_owned()),
        None => (text.clone(), String::new()),
    })
}
