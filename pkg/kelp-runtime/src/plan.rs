//! The plan: a specification, checked and turned into what the init executes.
//!
//! Everything that can be parsed, looked up or allocated is, here, before the first namespace
//! exists; a specification that can't work is refused here.

use std::ffi::CString;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use kelp_sys::clone::CloneFlags;
use kelp_sys::exec::CStringArray;
use kelp_sys::mount_attr::MS_PRIVATE;
use oci_spec::runtime::{
    Hook, Linux, LinuxPersonality, LinuxPersonalityDomain, LinuxSeccomp, Mount, PosixRlimit, Spec,
};
use rustix::process::{Resource, Rlimit};
use rustix::thread::LinkNameSpaceType as Link;

use crate::accounts::Accounts;
use crate::capabilities::CapSets;
use crate::console::Size;
use crate::device_nodes::Device;
use crate::devices;
use crate::error::Error;
use crate::hooks::HookPlan;
use crate::mount_plan::{MountPlan, cstring, propagation};
use crate::namespace_plan::Namespaces;
use crate::program;
use crate::scheduling::Scheduling;
use crate::seccomp::{self, Program};
use crate::sockets::Sockets;
use crate::user;

/// What the container's root is made of.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Rootfs {
    /// A directory, mounted on itself.
    Directory(PathBuf),
    /// A copy of what layers show, mounted on itself.
    Copied {
        /// The copy.
        root: PathBuf,
        /// The layers, topmost first.
        layers: Vec<PathBuf>,
    },
    /// An overlay of extracted layers.
    Overlay {
        /// The layers, topmost first.
        lower: Vec<PathBuf>,
        /// Where changes go.
        upper: PathBuf,
        /// The overlay's own scratch directory, on the same file system.
        work: PathBuf,
        /// Whether what is written may be lost with the machine's power: the container is removed
        /// when it ends.
        volatile: bool,
    },
}

/// What kelp adds to a specification; an OCI caller gives none of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct Extras {
    /// The user, as the image or the command line names it, looked up in the container's own
    /// passwd and group once the root is mounted; without it the specification's numbers count.
    pub user: Option<String>,
    /// Further groups, by name or number.
    pub groups: Vec<String>,
    /// Whether the groups of whoever started the container are kept, and no others are set.
    pub keep_groups: bool,
    /// What is added to the container's passwd and group; nothing is without it.
    pub accounts: Option<Accounts>,
    /// Whether HOME is set from the container's passwd where the environment has none.
    pub set_home: bool,
    /// Whether process 1 is kelp's reaper, with the program as its child.
    pub init: bool,
    /// Whether that reaper is executed anew, since its memory would be an outer user namespace's otherwise, and nobody
    /// could look into process 1 who is to enter the container; whoever starts it knows.
    #[serde(skip)]
    pub executes_init: bool,
    /// Whether only one id is mapped, so that chown-like calls are answered with success.
    pub single_id: bool,
    /// Whether a specification without a seccomp profile gets the default one.
    pub default_seccomp: bool,
    /// Where compiled filters are kept; whoever plans knows it.
    #[serde(skip)]
    pub seccomp_cache: Option<PathBuf>,
    /// How many descriptors after standard error the program gets as the caller has them.
    pub preserved_fds: i32,
    /// Which of them it is told of as sockets; whoever starts it knows.
    #[serde(skip)]
    pub sockets: Option<Sockets>,
    /// In how many microseconds the program has to say, again and again, that it lives (sd_watchdog_enabled(3));
    /// whoever starts it knows.
    #[serde(skip)]
    pub watchdog: Option<u64>,
    /// Whether it has the host's devices, those that are there when it is started.
    pub host_devices: bool,
    /// Whether its program is an init such as systemd, which divides the container's cgroup.
    pub system: bool,
    /// Whether it has a console that is not its standard streams, as an init without a terminal has.
    pub console: bool,
    /// Whether the caller is the machine's root, and the container is in no user namespace: it has devices of
    /// its own.
    pub makes_devices: bool,
    /// Whether the caller is the machine's root, who may map the owners of a mount's files.
    pub makes_idmaps: bool,
}

/// The plan of a container's first process.
pub struct Plan {
    pub(crate) namespaces: Namespaces,
    pub(crate) rootfs: Rootfs,
    /// A directory of the host that the new root is attached to until the pivot.
    pub(crate) attach: PathBuf,
    pub(crate) rootfs_readonly: bool,
    pub(crate) rootfs_propagation: (u64, bool),
    pub(crate) mounts: Vec<MountPlan>,
    pub(crate) devices: Vec<Device>,
    /// Those that may be gone by the time they are looked for.
    pub(crate) host_devices: Vec<PathBuf>,
    pub(crate) masked: Vec<PathBuf>,
    pub(crate) readonly: Vec<PathBuf>,
    /// File below /proc/sys and value.
    pub(crate) sysctl: Vec<(PathBuf, String)>,
    pub(crate) hostname: Option<String>,
    pub(crate) domainname: Option<String>,
    pub(crate) hooks: HookPlan,
    pub(crate) process: ProcessPlan,
}

/// The plan of a process in a container: the first, or one that exec adds.
pub struct ProcessPlan {
    pub(crate) terminal: bool,
    pub(crate) argv: CStringArray,
    pub(crate) env: Vec<CString>,
    pub(crate) cwd: PathBuf,
    /// Whether a missing working directory is made: an image may name one that only its containers
    /// have, where exec goes to what is there.
    pub(crate) makes_cwd: bool,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) umask: Option<u32>,
    pub(crate) capabilities: CapSets,
    pub(crate) rlimits: Vec<(Resource, Rlimit)>,
    pub(crate) no_new_privileges: bool,
    pub(crate) oom_score_adj: Option<i32>,
    /// The AppArmor profile.
    pub(crate) apparmor: Option<String>,
    pub(crate) seccomp: Option<Program>,
    pub(crate) scheduling: Scheduling,
    pub(crate) terminal_size: Option<Size>,
    /// The SELinux label.
    pub(crate) label: Option<String>,
    /// As personality(2) has it.
    pub(crate) personality: Option<u32>,
    pub(crate) extras: Extras,
    /// What the reaper is executed from.
    pub(crate) reaper: Option<OwnedFd>,
    /// Programs that are run last.
    pub(crate) start_hooks: Vec<Hook>,
}

impl ProcessPlan {
    /// The program as it was asked for.
    pub fn program(&self) -> String {
        self.argv
            .strings()
            .first()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default()
    }
}

impl Plan {
    /// Checks `spec` and plans its process.
    ///
    /// `attach` is a directory that the caller owns; the root is mounted over it inside the
    /// container's mount namespace only.
    pub fn new(spec: &Spec, rootfs: Rootfs, attach: &Path, extras: Extras) -> Result<Self, Error> {
        let linux = spec.linux().clone().unwrap_or_default();
        let process = spec
            .process()
            .as_ref()
            .ok_or_else(|| Error::Spec("the specification has no process".to_owned()))?;
        let mut hooks = HookPlan::new(spec)?;
        let namespaces = Namespaces::new(&linux)?;
        let uts = namespaces.has(CloneFlags::NEWUTS, Link::HostNameAndNISDomainName);
        if spec.hostname().is_some() && !uts {
            return Err(Error::Spec(
                "a hostname needs a UTS namespace that is not the host's: leave out the hostname, or --uts=host"
                    .to_owned(),
            ));
        }
        let mut sysctl = sysctls(linux.sysctl().iter().flatten(), &namespaces)?;
        // The file is the host's root's alone; the system call asks for a capability in the
        // namespace (setdomainname(2)).
        let is_domain = |(path, _): &(PathBuf, String)| path == Path::new("kernel/domainname");
        let place = sysctl.iter().position(is_domain);
        let domain = place.map(|place| sysctl.remove(place).1);
        let named: Vec<Device> = linux
            .devices()
            .iter()
            .flatten()
            .map(Device::new)
            .collect::<Result<_, _>>()?;
        let mut host_devices = Vec::new();
        if extras.host_devices {
            host_devices = devices::below(Path::new("/dev"));
            let is_mounted = |path: &Path| {
                let mut targets = spec.mounts().iter().flatten().map(Mount::destination);
                targets.any(|target| target != "/dev" && path.starts_with(target))
            };
            host_devices
                .retain(|path| !named.iter().any(|it| it.path == *path) && !is_mounted(path));
        }
        let mounts = mounts(spec, &namespaces, extras.makes_idmaps)?;
        if namespaces.joined(Link::Mount).is_some() {
            check_private(&mounts, &linux)?;
        }
        Ok(Self {
            namespaces,
            rootfs,
            attach: attach.to_owned(),
            rootfs_readonly: spec
                .root()
                .as_ref()
                .and_then(oci_spec::runtime::Root::readonly)
                .unwrap_or(false),
            rootfs_propagation: match linux.rootfs_propagation() {
                Some(name) => propagation(name)?,
                None => (kelp_sys::mount_attr::MS_SLAVE, true),
            },
            mounts,
            devices: named,
            host_devices,
            masked: paths(linux.masked_paths().as_ref()),
            readonly: paths(linux.readonly_paths().as_ref()),
            sysctl,
            hostname: spec.hostname().clone(),
            domainname: domain.or_else(|| spec.domainname().clone()),
            process: ProcessPlan {
                start_hooks: std::mem::take(&mut hooks.start_container),
                ..ProcessPlan::new(process, linux.seccomp().as_ref(), extras)?.of_first(&linux)?
            },
            hooks,
        })
    }

    /// The first process.
    pub fn process(&self) -> &ProcessPlan {
        &self.process
    }

    /// The pid namespace of others that it starts in.
    pub(crate) fn joined_pids(&self) -> Option<BorrowedFd<'_>> {
        self.namespaces.joined(Link::ProcessID)
    }

    /// Whether the process waits before its root is entered, so that hooks can be told of it.
    pub fn pauses(&self) -> bool {
        self.hooks.pauses
    }

    /// Whether the container gets a network namespace of its own.
    pub fn creates_network(&self) -> bool {
        self.namespaces.create.contains(CloneFlags::NEWNET)
    }
}

impl ProcessPlan {
    /// That of a container's first process, which has more to it.
    fn of_first(self, linux: &Linux) -> Result<Self, Error> {
        Ok(Self {
            makes_cwd: self.extras.user.is_some(),
            personality: linux.personality().as_ref().map(persona).transpose()?,
            scheduling: self
                .scheduling
                .with_memory(linux.memory_policy().as_ref())?,
            ..self
        })
    }

    /// Checks `process`.
    pub fn new(
        process: &oci_spec::runtime::Process,
        profile: Option<&LinuxSeccomp>,
        extras: Extras,
    ) -> Result<Self, Error> {
        let args = process.args().as_deref().unwrap_or_default();
        if args.first().is_none_or(String::is_empty) {
            return Err(Error::Spec(
                "no command specified on command line or as CMD or ENTRYPOINT in this image"
                    .to_owned(),
            ));
        }
        user::check_numbers(process.user())?;
        if !process.cwd().is_absolute() {
            return Err(Error::Spec(format!(
                "the working directory \"{}\" is invalid, it needs to be an absolute path",
                process.cwd().display()
            )));
        }
        let strings = |list: &[String]| {
            list.iter()
                .map(|text| cstring(Path::new(text)))
                .collect::<Result<Vec<_>, _>>()
        };
        let capabilities = CapSets::from_oci(process.capabilities().as_ref());
        let default = extras.default_seccomp.then_some(capabilities.bounding);
        let kept = extras.seccomp_cache.as_deref();
        let seccomp = seccomp::plan_cached(profile, default, extras.single_id, kept)?;
        Ok(Self {
            terminal: process.terminal().unwrap_or(false),
            argv: CStringArray::new(strings(args)?),
            env: strings(process.env().as_deref().unwrap_or_default())?,
            cwd: process.cwd().clone(),
            makes_cwd: false,
            uid: process.user().uid(),
            gid: process.user().gid(),
            groups: process.user().additional_gids().clone().unwrap_or_default(),
            umask: process.user().umask(),
            capabilities,
            seccomp,
            reaper: (extras.init && extras.executes_init)
                .then(program::open)
                .transpose()?,
            personality: None,
            scheduling: Scheduling::new(process)?,
            terminal_size: process.console_size().as_ref().map(|size| {
                let number = |number: u64| u16::try_from(number).unwrap_or(u16::MAX);
                Size {
                    rows: number(size.height()),
                    columns: number(size.width()),
                }
            }),
            label: process
                .selinux_label()
                .clone()
                .filter(|label| !label.is_empty()),
            rlimits: rlimits(process.rlimits().as_deref().unwrap_or_default())?,
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            oom_score_adj: process.oom_score_adj(),
            apparmor: process
                .apparmor_profile()
                .clone()
                .filter(|name| !name.is_empty()),
            extras,
            start_hooks: Vec::new(),
        })
    }
}

fn persona(personality: &LinuxPersonality) -> Result<u32, Error> {
    if let Some(flag) = personality.flags().iter().flatten().next() {
        return Err(Error::Spec(format!(
            "linux.personality: the flag {flag:?} is none that there is"
        )));
    }
    Ok(match personality.domain() {
        LinuxPersonalityDomain::PerLinux => 0,
        LinuxPersonalityDomain::PerLinux32 => 8,
    })
}

fn mounts(
    spec: &Spec,
    namespaces: &Namespaces,
    makes_idmaps: bool,
) -> Result<Vec<MountPlan>, Error> {
    let mounts = spec.mounts().iter().flatten().map(MountPlan::new);
    let mut mounts = mounts.collect::<Result<Vec<_>, _>>()?;
    if !namespaces.has(CloneFlags::NEWCGROUP, Link::ControlGroup) {
        mounts
            .iter_mut()
            .for_each(MountPlan::without_cgroup_namespace);
    }
    let idmapped = mounts.iter().find(|mount| mount.idmap.is_some());
    if let Some(mount) = idmapped.filter(|_| !makes_idmaps) {
        return Err(Error::Spec(format!(
            "mount {}: idmapped mounts need a privilege over the file system that a user namespace \
             does not have; use the option U, or --userns=keep-id",
            mount.target.display()
        )));
    }
    Ok(mounts)
}

/// Refuses what would propagate: in a mount namespace of others the container's mounts are in no table, and are
/// private.
fn check_private(mounts: &[MountPlan], linux: &Linux) -> Result<(), Error> {
    let root = linux.rootfs_propagation().as_ref();
    let root = root.map(|name| propagation(name)).transpose()?;
    let root = root.filter(|&(bits, _)| bits != MS_PRIVATE);
    let mount = mounts.iter().find(|mount| !mount.is_private());
    let what = match (root, mount) {
        (None, None) => return Ok(()),
        (Some(_), _) => "linux.rootfsPropagation".to_owned(),
        (None, Some(mount)) => format!("mount {}", mount.target.display()),
    };
    Err(Error::Spec(format!(
        "{what}: every mount of a container without a new mount namespace is private: leave its propagation \
         out"
    )))
}

fn paths(list: Option<&Vec<String>>) -> Vec<PathBuf> {
    list.into_iter().flatten().map(PathBuf::from).collect()
}

fn sysctls<'a>(
    list: impl Iterator<Item = (&'a String, &'a String)>,
    namespaces: &Namespaces,
) -> Result<Vec<(PathBuf, String)>, Error> {
    let own_network = namespaces.has(CloneFlags::NEWNET, Link::Network);
    let own_ipc = namespaces.has(CloneFlags::NEWIPC, Link::InterProcessCommunication);
    let own_uts = namespaces.has(CloneFlags::NEWUTS, Link::HostNameAndNISDomainName);
    list.map(|(name, value)| {
        let path = if name.contains('/') {
            name.clone()
        } else {
            name.replace('.', "/")
        };
        if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
            return Err(Error::Spec(format!("sysctl \"{name}\" is not a name")));
        }
        let allowed = if path.starts_with("net/") {
            own_network
        } else if path.starts_with("fs/mqueue/")
            || path.starts_with("kernel/sem")
            || path.starts_with("kernel/shm")
            || path.starts_with("kernel/msg")
        {
            own_ipc
        } else {
            path == "kernel/domainname" && own_uts
        };
        if !allowed {
            return Err(Error::Spec(format!(
                "sysctl {name} can't be set for this container: it is not in a namespace of its own"
            )));
        }
        Ok((PathBuf::from(path), value.clone()))
    })
    .collect()
}

/// Each type may be there once (runtime-spec, config.md, "POSIX process").
fn rlimits(list: &[PosixRlimit]) -> Result<Vec<(Resource, Rlimit)>, Error> {
    for (at, limit) in list.iter().enumerate() {
        if list[..at].iter().any(|other| other.typ() == limit.typ()) {
            let typ = limit.typ();
            return Err(Error::Spec(format!(
                "process.rlimits: {typ} is given twice"
            )));
        }
    }
    list.iter().map(rlimit).collect()
}

fn rlimit(limit: &PosixRlimit) -> Result<(Resource, Rlimit), Error> {
    use oci_spec::runtime::PosixRlimitType as Type;
    let resource = match limit.typ() {
        Type::RlimitCpu => Resource::Cpu,
        Type::RlimitFsize => Resource::Fsize,
        Type::RlimitData => Resource::Data,
        Type::RlimitStack => Resource::Stack,
        Type::RlimitCore => Resource::Core,
        Type::RlimitRss => Resource::Rss,
        Type::RlimitNproc => Resource::Nproc,
        Type::RlimitNofile => Resource::Nofile,
        Type::RlimitMemlock => Resource::Memlock,
        Type::RlimitAs => Resource::As,
        Type::RlimitLocks => Resource::Locks,
        Type::RlimitSigpending => Resource::Sigpending,
        Type::RlimitMsgqueue => Resource::Msgqueue,
        Type::RlimitNice => Resource::Nice,
        Type::RlimitRtprio => Resource::Rtprio,
        Type::RlimitRttime => Resource::Rttime,
    };
    if limit.soft() > limit.hard() {
        return Err(Error::Spec(format!(
            "{:?}: the soft limit {} is above the hard limit {}",
            limit.typ(),
            limit.soft(),
            limit.hard()
        )));
    }
    let value = |number: u64| (number != u64::MAX).then_some(number);
    Ok((
        resource,
        Rlimit {
            current: value(limit.soft()),
            maximum: value(limit.hard()),
        },
    ))
}
