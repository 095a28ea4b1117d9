//! What the monitor needs to know to start its container: `launch.json` in the record.

use std::collections::BTreeMap;
use std::path::PathBuf;

use kelp_runtime::foreign::Foreign;
use kelp_runtime::plan::{Extras, Rootfs};
use kelp_runtime::resources::Setting;
use oci_spec::runtime::{Process, Spec};
use serde::{Deserialize, Serialize};

use crate::health::HealthConfig;
use crate::notify::Notify;
use crate::pod::Pod;
use crate::restart::Restart;
use crate::service::Service;

/// Everything about a container that its monitor acts on.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Launch {
    /// The container's specification.
    pub spec: Spec,
    /// Variables of its program that are secrets, `KEY=VALUE`: others are shown the specification, so they
    /// are not in it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<String>,
    /// What its root is made of.
    pub rootfs: Rootfs,
    /// What the specification can't say.
    pub extras: Extras,
    /// The runtime that makes it, if that is not kelp's own.
    #[serde(default)]
    pub runtime: Option<Foreign>,
    /// Whether the user has no id in the container, whose root then has no right to what is the user's.
    #[serde(default)]
    pub unmapped_user: bool,
    /// Limits.
    pub resources: Vec<Setting>,
    /// What cgroup is made for it.
    pub cgroups: Cgroups,
    /// Seconds between the request to stop and SIGKILL.
    pub stop_timeout: u64,
    /// Where its output is kept.
    pub log: LogConfig,
    /// Whether its standard input stays open for whoever attaches.
    pub stdin: bool,
    /// Its network.
    pub network: kelp_network::Plan,
    /// Whether it is removed once it has ended.
    pub remove: bool,
    /// Its name, given up when it is removed.
    pub name: String,
    /// Its image's name, for events.
    pub image: String,
    /// Its labels, for events.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// The key of the id map of the user namespace that the monitor runs in.
    pub map_key: String,
    /// A file that gets the init's process id.
    pub pid_file: Option<PathBuf>,
    /// A file that gets the monitor's own process id.
    #[serde(default)]
    pub monitor_pid_file: Option<PathBuf>,
    /// How the service manager is told that it runs.
    #[serde(default)]
    pub notify: Option<Notify>,
    /// How it is found out whether it works.
    #[serde(default)]
    pub health: Option<HealthConfig>,
    /// A file with the container's id, removed with the container.
    pub cid_file: Option<PathBuf>,
    /// Whether its program is started again when it has ended.
    #[serde(default)]
    pub restart: Option<Restart>,
    /// Seconds after which its program is killed.
    #[serde(default)]
    pub timeout: Option<u64>,
    /// The signal that asks it to stop, for whoever stops it.
    pub stop_signal: i32,
    /// The pod that it is in.
    #[serde(default)]
    pub pod: Option<Pod>,
    /// The service container of its pod, if it is the infra container of one that has such.
    #[serde(default)]
    pub service: Option<Service>,
    /// Whether it is a service container, whose pods end before it.
    #[serde(default)]
    pub serves: bool,
    /// Anonymous volumes that are removed with a `--rm` container.
    pub anonymous_volumes: Vec<PathBuf>,
}

/// What a variable is called that is `KEY=VALUE`, or `KEY` alone.
pub fn variable_name(entry: &str) -> &str {
    entry.split_once('=').map_or(entry, |(name, _)| name)
}

impl Launch {
    /// The program with all of its variables.
    pub fn process(&self) -> Process {
        let mut process = self.spec.process().clone().unwrap_or_default();
        self.add_secrets(&mut process);
        process
    }

    /// The specification with all of the program's variables; `resolved` is what takes its place already.
    pub(crate) fn with_secrets(&self, resolved: Option<Spec>) -> Option<Spec> {
        if self.secrets.is_empty() {
            return resolved;
        }
        let mut spec = resolved.unwrap_or_else(|| self.spec.clone());
        if let Some(process) = spec.process_mut() {
            self.add_secrets(process);
        }
        Some(spec)
    }

    fn add_secrets(&self, process: &mut Process) {
        if self.secrets.is_empty() {
            return;
        }
        let secrets = self.secrets.iter();
        let names: Vec<_> = secrets.map(|secret| variable_name(secret)).collect();
        let mut env = process.env().clone().unwrap_or_default();
        env.retain(|entry| !names.contains(&variable_name(entry)));
        env.extend_from_slice(&self.secrets);
        process.set_env(Some(env));
    }
}

/// What cgroup a container gets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cgroups {
    /// Which.
    pub mode: CgroupMode,
    /// What it is made in: a slice of systemd's, a path below the mount of cgroup v2, or empty for
    /// the usual place.
    pub parent: String,
}

/// Which cgroup a container gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CgroupMode {
    /// In a unit that was delegated to the user, below that; else where a systemd is the user's
    /// manager, a scope; else the nearest place that the user may write to.
    #[default]
    Enabled,
    /// A scope.
    Systemd,
    /// The nearest place that the user may write to.
    Cgroupfs,
    /// Below the delegated cgroup of whoever starts it.
    Split,
    /// None.
    Disabled,
}

/// Where output is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogConfig {
    /// How.
    pub driver: LogDriver,
    /// The file of the `k8s-file` driver.
    pub path: PathBuf,
    /// Bytes after which the file is rotated; 0 for never.
    pub max_size: u64,
    /// How many files are kept, the current one included.
    pub max_files: u32,
    /// What each entry of the journal is tagged with.
    #[serde(default)]
    pub tag: Option<String>,
    /// Further fields of each entry of the journal.
    #[serde(default)]
    pub labels: Vec<(String, String)>,
}

/// How output is kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogDriver {
    /// A file of lines in the CRI's format.
    #[default]
    K8sFile,
    /// systemd's journal.
    Journald,
    /// Not at all.
    None,
    /// Not at all: the program has the standard streams of whoever started it, none of them a terminal.
    Passthrough,
    /// The same, with a terminal among them.
    PassthroughTty,
}

impl LogDriver {
    /// Whether the program has the streams of whoever started it.
    pub fn passes_streams(self) -> bool {
        matches!(self, Self::Passthrough | Self::PassthroughTty)
    }
}
