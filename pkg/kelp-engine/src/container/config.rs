//! What a container is asked to be, and what is kept of it: `config.json` in the record.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::SystemTime;

use kelp_args::{LogTag, RestartPolicy};
pub use kelp_monitor::launch::{CgroupMode, Cgroups, LogDriver};
pub use kelp_monitor::notify::Notify;

pub use crate::container::health::{HealthConfig, HealthOptions};
pub use crate::container::limits::Limits;
pub use crate::container::requires::Requirement;
pub use crate::container::secrets::SecretFile;
pub use crate::container::system::Systemd;
use crate::pod::Membership;
use kelp_network::{Mode, PublishedPort};
use kelp_runtime::foreign::Foreign;
use kelp_state::file;
use kelp_state::{ContainerId, Paths, Record};
pub use oci_spec::runtime::LinuxPersonalityDomain;
use serde::{Deserialize, Serialize};

use crate::Error;

/// A request for a new container, also as records of older versions have it. What is left out comes from the image,
/// then from the defaults.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct CreateOptions {
    /// The image, as the user named it; or with `rootfs`, nothing.
    pub image: String,
    /// A directory of the host to be the root, instead of an image.
    pub rootfs: Option<PathBuf>,
    /// Whether that directory stays as it is, and what is written goes with the container.
    pub rootfs_overlay: bool,
    /// The command and its arguments; empty for the image's.
    pub command: Vec<String>,
    /// Replaces the image's entrypoint; a single empty string takes it away.
    pub entrypoint: Option<Vec<String>>,
    /// A name; generated where there is none.
    pub name: Option<String>,
    /// Whether a container that has the name is removed first.
    pub replace: bool,
    /// `KEY=VALUE`, later ones win.
    pub env: Vec<String>,
    /// `KEY=VALUE` that the image's win over: those of the host.
    pub host_env: Vec<String>,
    /// `KEY=VALUE`, where `$NAME` and `${NAME}` in the value are what came before.
    pub merged_env: Vec<String>,
    /// Variables to leave out that this request does not set itself.
    pub unset_env: Vec<String>,
    /// Whether only those that this request sets are left.
    pub unset_all_env: bool,
    /// The working directory.
    pub workdir: Option<PathBuf>,
    /// `user[:group]`, names or numbers.
    pub user: Option<String>,
    /// Further groups.
    pub groups: Vec<String>,
    /// Whether the groups of whoever starts it are kept instead.
    pub keep_groups: bool,
    /// Whether nothing is added to the image's passwd and group.
    pub no_passwd: bool,
    /// Users of the host, by name or number, that are added to the image's passwd.
    pub host_users: Vec<String>,
    /// The line of its user in passwd.
    pub passwd_entry: Option<String>,
    /// The line of its group in group.
    pub group_entry: Option<String>,
    /// The host's name inside.
    pub hostname: Option<String>,
    /// Labels, over those of the image.
    pub labels: BTreeMap<String, String>,
    /// OCI annotations.
    pub annotations: BTreeMap<String, String>,
    /// Whether standard input stays open.
    pub interactive: bool,
    /// Whether there is a terminal.
    pub tty: bool,
    /// Whether it is removed once it has ended.
    pub remove: bool,
    /// Whether the root can't be written.
    pub read_only: bool,
    /// Whether, where the root can't be written, /run, /tmp and /var/tmp can.
    pub read_only_tmpfs: bool,
    /// Every capability, every device, and no mask.
    pub privileged: bool,
    /// Capabilities to start from, instead of the usual ones.
    pub default_capabilities: Option<Vec<String>>,
    /// Capabilities to add; `ALL` for all.
    pub cap_add: Vec<String>,
    /// Capabilities to take away.
    pub cap_drop: Vec<String>,
    /// Whether exec gives no privilege.
    pub no_new_privileges: bool,
    /// The AppArmor profile that its programs are confined by.
    pub apparmor: Option<String>,
    /// Whether no seccomp filter is loaded.
    pub seccomp_unconfined: bool,
    /// A seccomp profile, instead of the default one: the specification's, or one with conditions as
    /// engines ship them.
    pub seccomp: Option<serde_json::Value>,
    /// The file that the profile was in.
    pub seccomp_path: Option<PathBuf>,
    /// Whether kelp's own reaper is process 1.
    pub init: bool,
    /// Whether what systemd needs as the program is set up.
    pub systemd: Systemd,
    /// The size of the file systems that systemd has at /run and its like, in bytes; 0 for no limit.
    pub system_tmpfs_size: Option<u64>,
    /// The runtime that makes it, if that is not kelp's own.
    pub runtime: Option<Foreign>,
    /// Namespaces.
    pub namespaces: Namespaces,
    /// The pod that it is in.
    pub pod: Option<Membership>,
    /// Whether it is a service container, whose pods end before it.
    pub serves_pods: bool,
    /// Bind mounts, volumes and tmpfs that are asked for; part of [`CreateOptions::mounts`] once the
    /// container is made.
    #[serde(skip)]
    pub volumes: Vec<kelp_args::mount::Mount>,
    /// Containers whose volumes are mounted as well; part of [`CreateOptions::mounts`] too.
    #[serde(skip)]
    pub volumes_from: Vec<kelp_args::VolumesFrom>,
    /// Secrets that are asked for: files are [`CreateOptions::secret_files`] once the container is made, and
    /// variables are nowhere in here.
    #[serde(skip)]
    pub secrets: Vec<kelp_args::Secret>,
    /// Secrets that it has as files.
    pub secret_files: Vec<SecretFile>,
    /// What is mounted where the image says that there are volumes.
    pub image_volumes: ImageVolumes,
    /// The same, as the specification has them.
    pub mounts: Vec<oci_spec::runtime::Mount>,
    /// The ids of the images that are mounted.
    pub mounted_images: Vec<String>,
    /// The digests of the manifests of the artifacts that are mounted.
    pub mounted_artifacts: Vec<String>,
    /// Paths that are covered besides the usual ones.
    pub mask: Vec<String>,
    /// Paths that are not covered; `ALL` for all.
    pub unmask: Vec<String>,
    /// Whether nothing is mounted on /dev/shm.
    pub no_shm: bool,
    /// The size of /dev/shm in bytes.
    pub shm_size: Option<u64>,
    /// Limits by name: soft and hard.
    pub ulimits: Vec<(String, u64, u64)>,
    /// Kernel parameters of its namespaces.
    pub sysctl: BTreeMap<String, String>,
    /// Devices of the host.
    pub devices: Vec<PathBuf>,
    /// The file mode mask.
    pub umask: Option<u32>,
    /// From -1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// The time zone: the name of a file in /usr/share/zoneinfo, or `local`.
    pub timezone: Option<String>,
    /// The execution domain of its program.
    pub personality: Option<LinuxPersonalityDomain>,
    /// Directories inside where the files that kelp mounts in /etc are mounted as well.
    pub chroot_directories: Vec<PathBuf>,
    /// Limits of its cgroup.
    pub resources: Option<oci_spec::runtime::LinuxResources>,
    /// What happens when it has ended by itself.
    pub restart: RestartPolicy,
    /// Seconds after which its program is killed.
    pub timeout: Option<u64>,
    /// Its cgroup.
    pub cgroups: Cgroups,
    /// The signal that asks it to stop, by number.
    pub stop_signal: Option<i32>,
    /// Seconds until it is killed after that.
    pub stop_timeout: Option<u64>,
    /// How output is kept.
    pub log_driver: Option<LogDriver>,
    /// Where, instead of in the record.
    pub log_path: Option<PathBuf>,
    /// Bytes after which the log is rotated; 0 for never.
    pub log_max_size: u64,
    /// How many logs are kept.
    pub log_max_files: u32,
    /// What entries of the journal are tagged with.
    pub log_tag: Option<LogTag>,
    /// Further fields of entries of the journal.
    pub log_labels: BTreeMap<String, String>,
    /// A file that gets the container's id.
    pub cid_file: Option<PathBuf>,
    /// A file that gets the init's process id.
    pub pid_file: Option<PathBuf>,
    /// A file that gets the monitor's process id.
    pub monitor_pid_file: Option<PathBuf>,
    /// How the service manager is told that it runs.
    pub notify: Option<Notify>,
    /// Health checks.
    pub health: HealthOptions,
    /// Containers that are started before it.
    pub requires: Vec<Requirement>,
    /// Published ports.
    pub publish: Vec<PublishedPort>,
    /// Whether the image's exposed ports are published on ports that are free.
    pub publish_all: bool,
    /// `HOST:IP` lines for /etc/hosts.
    pub add_hosts: Vec<String>,
    /// The host's address as /etc/hosts tells it, instead of the one that the network has.
    pub host_address: Option<IpAddr>,
    /// Name servers.
    pub dns: Vec<String>,
    /// Domains to search.
    pub dns_search: Vec<String>,
    /// Options of the resolver.
    pub dns_options: Vec<String>,
    /// Ports that it serves besides those of the image: `80`, `53/udp`, `8000-8010`.
    pub expose: Vec<String>,
    /// What /etc/hosts is made from.
    pub hosts_base: kelp_network::hosts::Base,
    /// Why a container that asked for no particular network has none.
    pub network_missing: Option<String>,
    /// Whether the image's /etc/hosts stays.
    pub no_hosts: bool,
    /// Whether the image's /etc/hostname stays.
    pub no_hostname: bool,
    /// The keys that detach, for later attaches.
    pub detach_keys: Option<String>,
    /// The command line that asked for it, for inspect.
    pub create_command: Vec<String>,
}

/// What is mounted on the places that an image calls volumes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ImageVolumes {
    /// A volume for each, that goes with the container.
    #[default]
    Anonymous,
    /// A tmpfs.
    Tmpfs,
    /// Nothing.
    Ignore,
}

/// Which namespaces a container gets.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Namespaces {
    /// Processes.
    pub pid: Namespace,
    /// System V and POSIX queues.
    pub ipc: Namespace,
    /// Host name.
    pub uts: Namespace,
    /// cgroup view.
    pub cgroup: Namespace,
    /// Network; kelp chooses where nothing is said.
    pub network: Option<Mode>,
    /// User ids.
    pub user: UserMode,
    /// The id map, with the host's ids, where `user` alone does not tell it: settled once the container
    /// is made.
    pub user_map: Option<(MapLines, MapLines)>,
}

impl Namespaces {
    /// Whether it has a host name of its own, and not the host's.
    pub fn has_own_name(&self) -> bool {
        self.uts == Namespace::Private && self.network != Some(Mode::Host)
    }

    /// The containers that have a namespace of this one, other than the user's.
    pub fn of_containers(&self) -> Vec<&str> {
        let mut list = Vec::new();
        for namespace in [&self.pid, &self.ipc, &self.uts, &self.cgroup] {
            if let Namespace::Container(id) = namespace {
                list.push(id.as_str());
            }
        }
        if let Some(Mode::Container(id)) = &self.network {
            list.push(id);
        }
        list
    }
}

/// One namespace of a container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Namespace {
    /// Its own.
    #[default]
    Private,
    /// The host's.
    Host,
    /// Another container's.
    Container(String),
    /// That of a file.
    Path(PathBuf),
}

/// How the ids inside relate to those outside.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum UserMode {
    /// Root inside is the user outside, the others come from the subordinate range.
    #[default]
    Host,
    /// The user keeps these ids, by default its own.
    KeepId {
        /// User id inside.
        uid: Option<u32>,
        /// Group id inside.
        gid: Option<u32>,
    },
    /// The user is not mapped.
    NoMap,
    /// These lines.
    Map(MapLines, MapLines),
    /// Ids of the range that no other such container has.
    Auto {
        /// How many, instead of as many as the image names.
        size: Option<u32>,
        /// Lines for user ids that are given.
        uids: MapLines,
        /// Lines for group ids that are given.
        gids: MapLines,
    },
    /// Those of another container.
    Container(String),
    /// Those of a namespace's file.
    Path(PathBuf),
}

/// Lines of an id map: first id inside, first id outside, how many. In [`UserMode`] an id outside is a
/// place in the usual map: 0 is the user, the subordinate ones are from 1 on.
pub type MapLines = Vec<(u32, u32, u32)>;

/// What is kept of a container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Config {
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: SystemTime,
    /// The image's full name.
    pub image_name: String,
    /// The image's id; empty for a directory.
    pub image_id: String,
    /// The program and its arguments.
    pub command: Vec<String>,
    /// The entrypoint, for inspect.
    pub entrypoint: Vec<String>,
    /// Labels of image and request.
    pub labels: BTreeMap<String, String>,
    /// Ports that it serves, by image and request: `80/tcp`, `53/udp`, `8000-8010`.
    #[serde(default)]
    pub exposed: Vec<String>,
    /// The signal that asks it to stop.
    pub stop_signal: i32,
    /// Seconds until it is killed after that.
    pub stop_timeout: u64,
    /// How it is found out whether it works, by image and request.
    #[serde(default)]
    pub health: Option<HealthConfig>,
    /// What was asked for.
    pub options: CreateOptions,
}

impl Config {
    /// Reads a container's; a record without one is of a container that is being made or removed.
    pub fn read(paths: &Paths, id: &ContainerId) -> Result<Option<Self>, Error> {
        let record = Record::new(paths, id.clone());
        Ok(file::read_json(&record.data.join("config.json"))?)
    }
}
