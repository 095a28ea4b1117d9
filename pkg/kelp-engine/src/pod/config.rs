//! What a pod is asked to be, and what is kept of it: `config.json` in its record.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use kelp_args::RestartPolicy;
pub use kelp_monitor::service::{Fails, Service};
use kelp_state::{ContainerId, Paths, file};
use serde::{Deserialize, Serialize};

use crate::Error;
use crate::container::CreateOptions;

/// A request for a new pod.
#[derive(Clone, Debug, Default)]
pub struct PodOptions {
    /// A name; generated where there is none.
    pub name: Option<String>,
    /// Whether a pod that has the name is removed first.
    pub replace: bool,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// What members have of the infra container.
    pub shared: Vec<Shared>,
    /// Whether members are in the cgroup that the infra container's is in.
    pub share_parent: bool,
    /// What happens when the last member has ended.
    pub exit_policy: ExitPolicy,
    /// What happens when a member has ended that says nothing of that.
    pub restart: Option<RestartPolicy>,
    /// What the infra container is asked to be, unless there is none. Without an image it is kelp's own, and without a
    /// name it is named after the pod.
    pub infra: Option<Box<CreateOptions>>,
    /// The command line that asked for it, for inspect.
    pub create_command: Vec<String>,
    /// The service container that ends with it and the others of that one's.
    pub service: Option<Service>,
}

/// What is kept of a pod.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PodConfig {
    /// Its id.
    pub id: ContainerId,
    /// Its name.
    pub name: String,
    /// When it was made.
    pub created: SystemTime,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its infra container.
    pub infra: Option<ContainerId>,
    /// What members have of that one.
    pub shared: Vec<Shared>,
    /// Whether members are in the cgroup that the infra container's is in.
    pub share_parent: bool,
    /// What happens when the last member has ended.
    pub exit_policy: ExitPolicy,
    /// What happens when a member has ended that says nothing of that.
    pub restart: Option<RestartPolicy>,
    /// The command line that asked for it.
    pub create_command: Vec<String>,
    /// The service container that ends with it and the others of that one's.
    #[serde(default)]
    pub service: Option<Service>,
}

impl PodConfig {
    /// Reads a pod's; a record without one is of a pod that is being made or removed.
    pub fn read(paths: &Paths, id: &ContainerId) -> Result<Option<Self>, Error> {
        Ok(file::read_json(&paths.pod(id).join("config.json"))?)
    }

    /// What who starts a member has to know.
    pub(crate) fn place(&self) -> kelp_monitor::pod::Pod {
        let is_last = self.exit_policy == ExitPolicy::Stop;
        kelp_monitor::pod::Pod {
            id: self.id.clone(),
            ends: self.infra.clone().filter(|_| is_last),
        }
    }
}

/// A namespace that the containers of a pod can share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shared {
    /// The view of cgroups.
    Cgroup,
    /// System V and POSIX queues, and /dev/shm.
    Ipc,
    /// The network.
    Net,
    /// Processes.
    Pid,
    /// The host's name.
    Uts,
}

impl Shared {
    /// What is shared where nothing is said.
    pub const USUAL: [Self; 3] = [Self::Ipc, Self::Net, Self::Uts];

    /// Podman's word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cgroup => "cgroup",
            Self::Ipc => "ipc",
            Self::Net => "net",
            Self::Pid => "pid",
            Self::Uts => "uts",
        }
    }
}

impl fmt::Display for Shared {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl FromStr for Shared {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "cgroup" => Ok(Self::Cgroup),
            "ipc" => Ok(Self::Ipc),
            "net" => Ok(Self::Net),
            "pid" => Ok(Self::Pid),
            "uts" => Ok(Self::Uts),
            "user" => Err(
                "the user namespace is shared anyway: give the pod its ids with --userns, --uidmap \
                 and --gidmap"
                    .to_owned(),
            ),
            _ => Err(format!(
                "invalid kernel namespace to share: {text}. Options are: cgroup, ipc, net, pid, uts or none"
            )),
        }
    }
}

/// What happens to a pod when its last member has ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ExitPolicy {
    /// The infra container runs on.
    #[default]
    Continue,
    /// The infra container is stopped.
    Stop,
}

impl ExitPolicy {
    /// As the flag has it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Continue => "continue",
            Self::Stop => "stop",
        }
    }
}

impl FromStr for ExitPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            // Podman takes an empty word for the usual policy.
            "continue" | "" => Ok(Self::Continue),
            "stop" => Ok(Self::Stop),
            _ => Err(format!(
                "invalid pod exit policy: {text:?}: use continue or stop"
            )),
        }
    }
}

/// The part that a container has in a pod, in a request and in its record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// The pod's id; its name or the beginning of its id in a request.
    pub pod: String,
    /// What it is there.
    #[serde(default)]
    pub role: Role,
    /// The pod's infra container, once the member is made.
    #[serde(default)]
    pub infra: Option<ContainerId>,
    /// What it has of the infra container, once the member is made.
    #[serde(default)]
    pub shares: Vec<Shared>,
    /// What happens when the last member has ended, once the member is made.
    #[serde(default)]
    pub exit_policy: ExitPolicy,
    /// Whether the pod has the user keep its ids, once the member is made: then it runs as the user.
    #[serde(default)]
    pub keeps_ids: bool,
    /// The pod's service container, of the infra container.
    #[serde(default)]
    pub service: Option<Service>,
    /// What the request says by itself.
    #[serde(skip)]
    pub said: Vec<Said>,
}

impl Membership {
    /// In a request for an ordinary member.
    pub fn of(pod: impl Into<String>) -> Self {
        Self {
            pod: pod.into(),
            role: Role::Member,
            infra: None,
            shares: Vec::new(),
            exit_policy: ExitPolicy::default(),
            keeps_ids: false,
            service: None,
            said: Vec::new(),
        }
    }

    /// Whether it is the infra container.
    pub fn is_infra(&self) -> bool {
        self.role == Role::Infra
    }

    /// The infra container, where this one has something of it.
    pub fn infra_with(&self, shared: Shared) -> Option<&ContainerId> {
        self.infra
            .as_ref()
            .filter(|_| self.shares.contains(&shared))
    }

    /// What its monitor has to know.
    pub(crate) fn place(&self) -> Option<kelp_monitor::pod::Pod> {
        let is_last = !self.is_infra() && self.exit_policy == ExitPolicy::Stop;
        Some(kelp_monitor::pod::Pod {
            id: self.pod.parse().ok()?,
            ends: self.infra.clone().filter(|_| is_last),
        })
    }
}

/// What a container is in its pod.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// One of the user's.
    #[default]
    Member,
    /// One of the user's that has to end, and well, before the others are started with the pod.
    Init(InitKind),
    /// That which has the namespaces.
    Infra,
}

/// What becomes of an init container that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InitKind {
    /// It runs at each start of the pod.
    Always,
    /// It is removed.
    Once,
}

impl FromStr for InitKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "always" => Ok(Self::Always),
            "once" => Ok(Self::Once),
            _ => Err(format!(
                "invalid init container type {text:?}: use always or once"
            )),
        }
    }
}

/// What a request for a member says by itself, instead of having it from the pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// A namespace.
    Namespace(Shared),
    /// User ids.
    User,
    /// The host's name.
    Hostname,
    /// Ports to publish or expose.
    Ports,
    /// Lines or the base of /etc/hosts.
    Hosts,
    /// Name servers and the like.
    Dns,
    /// The size of /dev/shm.
    SharedMemory,
    /// A restart policy.
    Restart,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_command_line_are_podmans() {
        for shared in [
            Shared::Cgroup,
            Shared::Ipc,
            Shared::Net,
            Shared::Pid,
            Shared::Uts,
        ] {
            assert_eq!(shared.as_str().parse(), Ok(shared));
        }
        for wrong in ["", "user", "mnt", "NET"] {
            assert!(wrong.parse::<Shared>().is_err(), "{wrong}");
        }
        for policy in [ExitPolicy::Continue, ExitPolicy::Stop] {
            assert_eq!(policy.as_str().parse(), Ok(policy));
        }
        assert!("end".parse::<ExitPolicy>().is_err());
        assert_eq!("once".parse(), Ok(InitKind::Once));
        assert!("never".parse::<InitKind>().is_err());
    }

    #[test]
    fn a_monitor_is_told_of_the_infra_container_only_where_that_is_to_end() {
        let mut membership = Membership::of(ContainerId::random());
        membership.infra = Some(ContainerId::random());
        assert_eq!(membership.place().unwrap().ends, None);
        membership.exit_policy = ExitPolicy::Stop;
        assert_eq!(membership.place().unwrap().ends, membership.infra);
        membership.role = Role::Infra;
        assert_eq!(membership.place().unwrap().ends, None);
    }
}
