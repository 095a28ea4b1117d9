//! From a request and an image to an OCI specification.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use kelp_runtime::capabilities::{self, CapSet, CapSets};
use kelp_runtime::mount_plan::OF;
use kelp_runtime::seccomp::{self, engine_profile};
use oci_spec::image::Config as ImageConfig;
use oci_spec::runtime::{
    Linux, LinuxNamespace, LinuxNamespaceType, LinuxPersonality, LinuxSeccomp, Mount, PosixRlimit,
    PosixRlimitBuilder, PosixRlimitType, Process, Root, Spec, User,
};

use crate::Error;
use kelp_network::Mode;

use crate::container::config::{CreateOptions, Namespace};
use crate::container::environment::environment;
use crate::container::{secrets, system};
use crate::pod::Shared;

/// Namespaces that are joined, and their files.
pub type Joined = HashMap<LinuxNamespaceType, PathBuf>;

const NONE: &[&str] = &[];

/// What is not for a container to see (containers-common's masked paths).
const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
    "/sys/fs/selinux",
];

const READ_ONLY: &[&str] = &[
    "/proc/asound",
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// Files of the record that are mounted into the container.
pub const FILES: &[(&str, &str)] = &[
    ("hosts", "/etc/hosts"),
    ("hostname", "/etc/hostname"),
    ("resolv.conf", "/etc/resolv.conf"),
    ("containerenv", "/run/.containerenv"),
    ("localtime", "/etc/localtime"),
];

/// The program and its arguments: entrypoint and command of the request over those of the image
/// (a request's entrypoint takes the image's command away).
pub fn command(options: &CreateOptions, image: &ImageConfig) -> Vec<String> {
    let (entrypoint, image_command) = match &options.entrypoint {
        Some(given) if given.iter().all(String::is_empty) => (Vec::new(), Vec::new()),
        Some(given) => (given.clone(), Vec::new()),
        None => (
            image.entrypoint().clone().unwrap_or_default(),
            image.cmd().clone().unwrap_or_default(),
        ),
    };
    let rest = if options.command.is_empty() {
        image_command
    } else {
        options.command.clone()
    };
    entrypoint.into_iter().chain(rest).collect()
}

/// The specification of a container whose record is at `record`. `tell` hears of what has no effect.
pub fn build(
    options: &CreateOptions,
    image: &ImageConfig,
    record: &Path,
    hostname: &str,
    joined: &Joined,
    tell: Option<fn(&str)>,
) -> Result<Spec, Error> {
    let mut spec = Spec::default();
    let mut root = Root::default();
    root.set_path(PathBuf::from("rootfs"));
    root.set_readonly(Some(options.read_only));
    spec.set_version(kelp_runtime::OCI_VERSION.to_owned())
        .set_root(Some(root))
        .set_mounts(Some(mounts(options, record)))
        .set_process(Some(process(options, image, hostname)?))
        .set_annotations(Some(options.annotations.clone().into_iter().collect()));
    let private_uts = options.namespaces.uts == Namespace::Private;
    spec.set_hostname(private_uts.then(|| hostname.to_owned()));
    let seccomp = match &options.seccomp {
        None => None,
        Some(profile) => {
            let caps = capability_sets(options, image)?.bounding;
            let read = checked_profile(profile, caps, tell);
            Some(read.map_err(|error| bad_profile(options, &error))?)
        }
    };
    spec.set_linux(Some(linux(options, joined, seccomp)));
    Ok(spec)
}

/// A profile that a filter can be made of. What of it has no effect is told.
fn checked_profile(
    profile: &serde_json::Value,
    caps: CapSet,
    tell: Option<fn(&str)>,
) -> Result<LinuxSeccomp, kelp_runtime::Error> {
    let profile = engine_profile::read(profile, caps)?;
    let compiled = seccomp::check(&profile)?;
    if compiled.program.notifies() {
        return Err(kelp_runtime::Error::Spec(
            "SCMP_ACT_NOTIFY is for callers of an OCI runtime, who have an agent that is asked: take \
             it out"
                .to_owned(),
        ));
    }
    if let Some(tell) = tell {
        for note in &compiled.notes {
            tell(note);
        }
    }
    Ok(profile)
}

fn bad_profile(options: &CreateOptions, error: &kelp_runtime::Error) -> Error {
    let path = options.seccomp_path.as_ref();
    let file = path
        .map(|path| format!(" {}", path.display()))
        .unwrap_or_default();
    let said = error.to_string();
    let said = said.strip_prefix("seccomp: ").unwrap_or(&said);
    Error::invalid(format!("seccomp profile{file}: {said}"))
}

/// Where group 5 (tty) is not mapped, as with one id, terminals belong to the group of root.
pub fn forget_tty_group(spec: &mut Spec) {
    let mut mounts = spec.mounts().clone().unwrap_or_default();
    for mount in &mut mounts {
        if mount.typ().as_deref() == Some("devpts") {
            let mut options = mount.options().clone().unwrap_or_default();
            options.retain(|option| !option.starts_with("gid="));
            mount.set_options(Some(options));
        }
    }
    spec.set_mounts(Some(mounts));
}

fn process(options: &CreateOptions, image: &ImageConfig, hostname: &str) -> Result<Process, Error> {
    let mut process = Process::default();
    let workdir = options
        .workdir
        .clone()
        .or_else(|| image.working_dir().clone().map(PathBuf::from))
        .filter(|path| !path.as_os_str().is_empty())
        .unwrap_or_else(|| PathBuf::from("/"));
    let mut user = User::default();
    user.set_umask(options.umask);
    process
        .set_terminal(Some(options.tty))
        .set_user(user)
        .set_args(Some(command(options, image)))
        .set_env(Some(environment(options, image, hostname)))
        .set_cwd(workdir)
        .set_capabilities(Some(capability_sets(options, image)?.to_oci()))
        .set_no_new_privileges(Some(options.no_new_privileges))
        .set_oom_score_adj(options.oom_score_adj)
        .set_apparmor_profile(options.apparmor.clone())
        .set_rlimits(Some(rlimits(options)?));
    Ok(process)
}

/// The sets depend on whether the user is root, which for a name is known only in the container;
/// root and 0 are what is taken for it.
pub fn capability_sets(options: &CreateOptions, image: &ImageConfig) -> Result<CapSets, Error> {
    let known = CapSet::known().map_err(Error::io("read /proc/sys/kernel/cap_last_cap"))?;
    let user = options
        .user
        .as_deref()
        .or(image.user().as_deref())
        .unwrap_or_default();
    let name = user.split(':').next().unwrap_or_default();
    let is_root = matches!(name, "" | "0" | "root");
    if options.privileged && options.cap_add.is_empty() && options.cap_drop.is_empty() {
        return Ok(CapSets::for_user(is_root, known, CapSet::EMPTY));
    }
    let invalid = |error: kelp_runtime::Error| Error::invalid(error.to_string());
    let base = match &options.default_capabilities {
        _ if options.privileged => known,
        Some(list) => capabilities::adjust(CapSet::EMPTY, list, NONE, known).map_err(invalid)?,
        None => CapSet::DEFAULT,
    };
    let set = capabilities::adjust(base, &options.cap_add, &options.cap_drop, known)
        .map_err(|error| Error::invalid(error.to_string()))?;
    let added = capabilities::adjust(CapSet::EMPTY, &options.cap_add, &options.cap_drop, known)
        .map_err(|error| Error::invalid(error.to_string()))?;
    Ok(CapSets::for_user(is_root, set, added))
}

fn network_is_hosts(options: &CreateOptions) -> bool {
    options.namespaces.network == Some(Mode::Host)
}

/// Each once: of several of a name the last one counts.
pub(crate) fn rlimits(options: &CreateOptions) -> Result<Vec<PosixRlimit>, Error> {
    let all = &options.ulimits;
    let is_last = |at: usize, name: &str| all[at + 1..].iter().all(|(later, _, _)| later != name);
    all.iter()
        .enumerate()
        .filter(|(at, (name, _, _))| is_last(*at, name))
        .map(|(_, (name, soft, hard))| {
            let typ = match name.as_str() {
                "cpu" => PosixRlimitType::RlimitCpu,
                "fsize" => PosixRlimitType::RlimitFsize,
                "data" => PosixRlimitType::RlimitData,
                "stack" => PosixRlimitType::RlimitStack,
                "core" => PosixRlimitType::RlimitCore,
                "rss" => PosixRlimitType::RlimitRss,
                "nproc" => PosixRlimitType::RlimitNproc,
                "nofile" => PosixRlimitType::RlimitNofile,
                "memlock" => PosixRlimitType::RlimitMemlock,
                "as" => PosixRlimitType::RlimitAs,
                "locks" => PosixRlimitType::RlimitLocks,
                "sigpending" => PosixRlimitType::RlimitSigpending,
                "msgqueue" => PosixRlimitType::RlimitMsgqueue,
                "nice" => PosixRlimitType::RlimitNice,
                "rtprio" => PosixRlimitType::RlimitRtprio,
                "rttime" => PosixRlimitType::RlimitRttime,
                _ => return Err(Error::invalid(format!("invalid ulimit type: {name}"))),
            };
            PosixRlimitBuilder::default()
                .typ(typ)
                .soft(*soft)
                .hard(*hard)
                .build()
                .map_err(|error| Error::invalid(error.to_string()))
        })
        .collect()
}

fn linux(options: &CreateOptions, joined: &Joined, seccomp: Option<LinuxSeccomp>) -> Linux {
    let mut linux = Linux::default();
    let names = &options.namespaces;
    let mut namespaces = Vec::new();
    let mut add = |typ: LinuxNamespaceType, host: bool| {
        if host {
            return;
        }
        let mut namespace = LinuxNamespace::default();
        namespace.set_typ(typ);
        namespace.set_path(joined.get(&typ).cloned());
        namespaces.push(namespace);
    };
    add(LinuxNamespaceType::Mount, false);
    add(LinuxNamespaceType::Pid, names.pid == Namespace::Host);
    add(LinuxNamespaceType::Ipc, names.ipc == Namespace::Host);
    add(LinuxNamespaceType::Uts, names.uts == Namespace::Host);
    add(LinuxNamespaceType::Cgroup, names.cgroup == Namespace::Host);
    add(LinuxNamespaceType::Network, network_is_hosts(options));
    linux.set_personality(options.personality.map(|domain| {
        let mut personality = LinuxPersonality::default();
        personality.set_domain(domain);
        personality
    }));
    linux
        .set_namespaces(Some(namespaces))
        .set_sysctl(Some(sysctls(options)))
        .set_masked_paths(masked(options))
        .set_readonly_paths(read_only(options))
        .set_seccomp(seccomp)
        .set_devices(Some(
            options
                .devices
                .iter()
                .map(|path| {
                    let mut device = oci_spec::runtime::LinuxDevice::default();
                    device.set_path(path.clone());
                    device
                })
                .collect(),
        ));
    linux
}

/// What was asked for; and in a network of its own ping works without a capability, for the
/// container's root group.
fn sysctls(options: &CreateOptions) -> HashMap<String, String> {
    let mut sysctls: HashMap<_, _> = options.sysctl.clone().into_iter().collect();
    if matches!(
        options.namespaces.network,
        Some(Mode::None | Mode::Pasta(_))
    ) {
        sysctls
            .entry("net.ipv4.ping_group_range".to_owned())
            .or_insert_with(|| "0 0".to_owned());
    }
    sysctls
}

/// Whether --security-opt unmask names a path, or all.
fn is_unmasked(options: &CreateOptions, path: &str) -> bool {
    options.unmask.iter().any(|unmasked| {
        let prefix = unmasked.strip_suffix("/*");
        unmasked == "ALL"
            || unmasked == path
            || prefix.is_some_and(|prefix| path.starts_with(prefix))
    })
}

fn masked(options: &CreateOptions) -> Option<Vec<String>> {
    if options.privileged {
        return None;
    }
    let usual = MASKED.iter().map(|path| (*path).to_owned());
    let all = usual.chain(options.mask.iter().cloned());
    Some(all.filter(|path| !is_unmasked(options, path)).collect())
}

fn read_only(options: &CreateOptions) -> Option<Vec<String>> {
    if options.privileged {
        return None;
    }
    let usual = READ_ONLY.iter().map(|path| (*path).to_owned());
    Some(usual.filter(|path| !is_unmasked(options, path)).collect())
}

pub(crate) fn mount(target: &str, kind: &str, source: &Path, options: &[&str]) -> Mount {
    let mut mount = Mount::default();
    mount
        .set_destination(PathBuf::from(target))
        .set_typ(Some(kind.to_owned()))
        .set_source(Some(source.to_owned()))
        .set_options(Some(options.iter().map(|o| (*o).to_owned()).collect()));
    mount
}

/// The record whose file it is: what tells of a network or a host's name that is the pod's is the infra container's.
fn owner_of(name: &str, options: &CreateOptions, record: &Path) -> PathBuf {
    let what = match name {
        "hosts" | "resolv.conf" => Shared::Net,
        "hostname" => Shared::Uts,
        _ => return record.to_owned(),
    };
    let pod = options.pod.as_ref();
    match pod.and_then(|pod| pod.infra_with(what)) {
        Some(infra) => record.with_file_name(infra.as_str()),
        None => record.to_owned(),
    }
}

/// The files of the record, at their places in the root and in every other root that is named.
fn own_files(options: &CreateOptions, record: &Path) -> Vec<Mount> {
    let is_wanted = |name: &str| match name {
        "hosts" => !options.no_hosts,
        "hostname" => !options.no_hostname,
        "localtime" => options.timezone.is_some(),
        _ => true,
    };
    let writes = if options.read_only { "ro" } else { "rw" };
    let mut list = Vec::new();
    for (name, target) in FILES.iter().filter(|(name, _)| is_wanted(name)) {
        let in_root = Path::new(target).strip_prefix("/").unwrap_or(Path::new(""));
        let roots = options.chroot_directories.iter();
        let others = roots.map(|root| root.join(in_root));
        for place in std::iter::once(PathBuf::from(target)).chain(others) {
            let mut asked = options.mounts.iter();
            if !asked.any(|mount| *mount.destination() == place) {
                list.push(mount(
                    &place.to_string_lossy(),
                    "bind",
                    &owner_of(name, options, record).join(name),
                    &["bind", "nosuid", "nodev", writes],
                ));
            }
        }
    }
    list
}

/// What is at /dev/shm: where the queues are another container's, its memory is as well.
fn shared_memory(options: &CreateOptions, own_writes: &str) -> Option<Mount> {
    let place = "/dev/shm";
    let usual = ["nosuid", "noexec", "nodev"];
    match &options.namespaces.ipc {
        _ if options.no_shm => None,
        Namespace::Container(other) => {
            let of = format!("{OF}container:{other}");
            let options = [&usual[..], &["rbind", &of]].concat();
            Some(mount(place, "bind", Path::new(place), &options))
        }
        _ => {
            let size = format!("size={}", options.shm_size.unwrap_or(65_536_000));
            let options = [&usual[..], &["mode=1777", &size, own_writes]].concat();
            Some(mount(place, "tmpfs", Path::new("tmpfs"), &options))
        }
    }
}

fn mounts(options: &CreateOptions, record: &Path) -> Vec<Mount> {
    let names = &options.namespaces;
    let own_writes = if options.read_only && !options.read_only_tmpfs {
        "ro"
    } else {
        "rw"
    };
    let new =
        |target: &str, kind: &str, options: &[&str]| mount(target, kind, Path::new(kind), options);
    let mut list = vec![
        new("/proc", "proc", &["nosuid", "noexec", "nodev"]),
        new(
            "/dev",
            "tmpfs",
            &[
                "nosuid",
                "strictatime",
                "mode=755",
                "size=65536k",
                own_writes,
            ],
        ),
    ];
    let own_network = !network_is_hosts(options);
    let sys_writes = if options.privileged { "rw" } else { "ro" };
    let sys_options = ["nosuid", "noexec", "nodev", sys_writes];
    if own_network {
        list.push(new("/sys", "sysfs", &sys_options));
    } else {
        // A new sysfs shows a network namespace, which must belong to the mounter's user namespace.
        list.push(mount(
            "/sys",
            "bind",
            Path::new("/sys"),
            &[&["rbind", "rslave"], &sys_options[..]].concat(),
        ));
    }
    list.push(new(
        "/dev/pts",
        "devpts",
        &[
            "nosuid",
            "noexec",
            "newinstance",
            "ptmxmode=0666",
            "mode=0620",
            "gid=5",
        ],
    ));
    if names.ipc == Namespace::Host {
        // What the host's namespace shows; a host that mounts no message queues has none to show.
        for place in ["/dev/mqueue", "/dev/shm"].map(Path::new) {
            if place.is_dir() {
                let options = ["rbind", "nosuid", "noexec", "nodev"];
                list.push(mount(&place.to_string_lossy(), "bind", place, &options));
            }
        }
    } else {
        list.push(new("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]));
        list.extend(shared_memory(options, own_writes));
    }
    if own_network && names.cgroup != Namespace::Host {
        list.push(new("/sys/fs/cgroup", "cgroup2", &sys_options));
    }
    if options.read_only && options.read_only_tmpfs {
        for target in ["/run", "/tmp", "/var/tmp"] {
            let mode = if target == "/run" {
                "mode=755"
            } else {
                "mode=1777"
            };
            list.push(new(
                target,
                "tmpfs",
                &["nosuid", "nodev", mode, "tmpcopyup"],
            ));
        }
    }
    list.extend(system::file_systems(options, &list));
    list.extend(own_files(options, record));
    let mut asked = options.mounts.clone();
    asked.extend(secrets::mounts(options, record));
    // A request for a place that is already there replaces it.
    list.retain(|own| {
        !asked
            .iter()
            .any(|asked| asked.destination() == own.destination())
    });
    // A mount on a directory comes before one inside of it.
    asked.sort_by_key(|mount| mount.destination().components().count());
    list.extend(asked);
    if system::is_one(options) {
        system::mount_cgroup(&mut list);
    }
    list
}
