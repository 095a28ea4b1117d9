//! Flags about the program: environment, user, terminal, stop, log.

use std::path::PathBuf;

use anyhow::{Context, bail};
use kelp_args::{env, size};
use kelp_engine::container::CreateOptions;
use kelp_engine::container::config::LogDriver;

use crate::cli::signal_argument;

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
    #[arg(long)]
    env_host: bool,
    /// Leave out a variable of the image
    #[arg(long, value_name = "KEY")]
    unsetenv: Vec<String>,
    /// The working directory
    #[arg(short, long, value_name = "DIR")]
    workdir: Option<PathBuf>,
    /// The user, by name or number: USER[:GROUP]
    #[arg(short, long)]
    user: Option<String>,
    /// A further group
    #[arg(long, value_name = "GROUP")]
    group_add: Vec<String>,
    /// Replace the image's entrypoint
    #[arg(long)]
    entrypoint: Option<String>,
    /// Set a label: KEY=VALUE
    #[arg(short, long)]
    label: Vec<String>,
    /// Set an OCI annotation: KEY=VALUE
    #[arg(long)]
    annotation: Vec<String>,
    /// Run kelp's reaper as process 1
    #[arg(long)]
    init: bool,
    /// The file mode mask, in octal
    #[arg(long)]
    umask: Option<String>,
    /// The signal that asks the container to stop
    #[arg(long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// Seconds until a container that was asked to stop is killed
    #[arg(long, value_name = "SECONDS")]
    stop_timeout: Option<u64>,
    /// Where output is kept: k8s-file, json-file, none or passthrough
    #[arg(long, value_name = "DRIVER")]
    log_driver: Option<String>,
    /// An option of the log: path=FILE, max-size=SIZE, max-file=N
    #[arg(long, value_name = "KEY=VALUE")]
    log_opt: Vec<String>,
}

impl ProcessFlags {
    pub(super) fn apply(&self, options: &mut CreateOptions) -> anyhow::Result<()> {
        options.interactive = self.interactive;
        options.tty = self.tty;
        options.env = self.environment()?;
        options.unset_env.clone_from(&self.unsetenv);
        options.workdir.clone_from(&self.workdir);
        options.user.clone_from(&self.user);
        options.groups.clone_from(&self.group_add);
        options.entrypoint = match self.entrypoint.as_deref() {
            Some(json) if json.starts_with('[') => {
                Some(serde_json::from_str(json).context("--entrypoint: not a JSON array")?)
            }
            other => other.map(|word| vec![word.to_owned()]),
        };
        options.labels = pairs(&self.label).collect();
        options.annotations = pairs(&self.annotation).collect();
        options.init = self.init;
        options.umask = match &self.umask {
            None => None,
            Some(text) => Some(
                u32::from_str_radix(text, 8)
                    .ok()
                    .filter(|mask| *mask <= 0o777)
                    .with_context(|| {
                        format!("invalid umask {text:?}: it is octal, such as 0022")
                    })?,
            ),
        };
        options.stop_signal = match &self.stop_signal {
            None => None,
            Some(text) => Some(signal_argument::parse(text).map_err(anyhow::Error::msg)?),
        };
        options.stop_timeout = self.stop_timeout;
        self.log(options)
    }

    /// Later ones win: the host's, files, arguments.
    fn environment(&self) -> anyhow::Result<Vec<String>> {
        let host: Vec<(String, String)> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let mut list = Vec::new();
        if self.env_host {
            list.extend(host.iter().map(|(name, value)| format!("{name}={value}")));
        }
        for path in &self.env_file {
            let name = path.display().to_string();
            let content = std::fs::read_to_string(path).with_context(|| format!("read {name}"))?;
            list.extend(env::file(&content, &name, &host).map_err(anyhow::Error::msg)?);
        }
        for text in &self.env {
            list.extend(env::argument(text, &host).map_err(anyhow::Error::msg)?);
        }
        Ok(list)
    }

    fn log(&self, options: &mut CreateOptions) -> anyhow::Result<()> {
        options.log_driver = match self.log_driver.as_deref() {
            None | Some("k8s-file" | "json-file") => None,
            Some("none") => Some(LogDriver::None),
            Some("passthrough") => Some(LogDriver::Passthrough),
            Some("journald") => bail!("--log-driver journald is not supported by kelp yet"),
            Some(other) => {
                bail!("invalid log driver {other:?}: use k8s-file, json-file, none or passthrough")
            }
        };
        for option in &self.log_opt {
            match option.split_once('=') {
                Some(("path", path)) => options.log_path = Some(path.into()),
                Some(("max-size", value)) => {
                    options.log_max_size = size::bytes(value).map_err(anyhow::Error::msg)?;
                }
                Some(("max-file", value)) => {
                    options.log_max_files = value
                        .parse()
                        .with_context(|| format!("--log-opt max-file={value}: not a number"))?;
                }
                _ => bail!("invalid --log-opt {option:?}: use path=, max-size= or max-file="),
            }
        }
        Ok(())
    }
}

/// `KEY=VALUE`; a key alone has an empty value.
fn pairs(list: &[String]) -> impl Iterator<Item = (String, String)> {
    list.iter().map(|text| match text.split_once('=') {
        Some((key, value)) => (key.to_owned(), value.to_owned()),
        None => (text.clone(), String::new()),
    })
}
