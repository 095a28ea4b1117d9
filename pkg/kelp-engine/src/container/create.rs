//! `create`: everything about a container is decided and written; nothing runs.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use kelp_args::RestartPolicy;
use kelp_args::mount::Source;
use kelp_monitor::launch::Launch;
use kelp_monitor::restart::Restart;
use kelp_network::Mode;
use kelp_runtime::foreign;
use kelp_runtime::plan::{Extras, Rootfs};
use kelp_state::file::{self, Durability};
use kelp_state::{ContainerId, Record, name};
use oci_spec::image::Config as ImageConfig;
use oci_spec::runtime::LinuxNamespaceType;

use crate::auto_update::policy;
use crate::container::config::{
    CgroupMode, Cgroups, Config, CreateOptions, ImageVolumes, Namespace, UserMode,
};
use crate::container::making::Making;
use crate::container::remove::RemoveOptions;
use crate::container::{accounts, health, limits, log, names, network, notify, system};
use crate::image::{Base, BaseRoot, Held};
use crate::layered::Mounting;
use crate::pod::Membership;
use crate::spec;
use crate::storage::Storage;
use crate::{Engine, Error, host, volume};

impl Engine {
    /// Makes a container from a request whose image is present; its id.
    pub fn create_container(&self, options: CreateOptions) -> Result<ContainerId, Error> {
        self.create_held(options, false).map(|(id, _)| id)
    }

    /// The same for a container that may be started at once, if it is to be: as long as what comes
    /// with it is kept, it is not taken for one that nobody needs.
    pub(crate) fn create_held(
        &self,
        mut options: CreateOptions,
        start: bool,
    ) -> Result<(ContainerId, OwnedFd), Error> {
        let id = ContainerId::random();
        options.check_words()?;
        let _pod = self.settle_pod(&mut options)?;
        log::check(&options)?;
        network::choose(&mut options)?;
        policy::check(&options.labels, &options.image)?;
        self.check_secrets(&options)?;
        // Before the images' lock is had, which a removal needs too.
        self.replace(&options)?;
        let _range = self.settle_user_namespace(&mut options, &id)?;
        let map = host::map_of(&options.namespaces)?;
        host::check_single(&map)?;
        if options.restart != RestartPolicy::No {
            self.tell_of_linger();
        }
        if map.is_single() && options.namespaces.user == UserMode::Host {
            self.tell_of_single_id();
        }
        if let Some(path) = &options.cid_file {
            check_absent(path)?;
        }
        // It may have to be tried out.
        let storage = match &options.rootfs {
            Some(_) if !options.rootfs_overlay => Storage::Overlay,
            _ => self.storage()?,
        };
        let mut base = self.base(&options, &map)?;
        self.hold_mounted_images(&mut base.held, &options, &map)?;
        self.settle_requirements(&mut options, &id)?;
        let record = Record::new(&self.paths, id.clone());
        let mut made = Making::begin(self, &record)?;
        self.check_requirements(&options)?;
        self.note_member(&options, &id)?;
        // Before anything is copied.
        let name = self.reserve_name(&options, &id)?;
        made.name = Some(name.clone());
        options.name = Some(name.clone());
        let health = options.health.over(base.health.clone())?;
        // Nothing of what it writes has to last, unless it may be started again.
        let volatile = options.remove && !health::starts_again(health.as_ref());
        let rootfs = base.rootfs(&record.data, storage, volatile);
        if let Rootfs::Copied { root, layers } = &rootfs {
            // Before there are volumes, which nothing keeps meanwhile.
            self.unlocked(&mut base.held, || {
                self.populate(&map, layers, root, !options.remove)
            })?;
        }
        let prepared = self.prepare(
            &mut options,
            &base,
            rootfs,
            &record,
            &map,
            &mut made.volumes,
        )?;
        let durability = if options.remove {
            Durability::None
        } else {
            Durability::Synced
        };
        let launch = Launch {
            name: name.clone(),
            ..prepared
        };
        file::write_json(&record.data.join("launch.json"), &launch, Durability::None)?;
        if let Some(path) = &options.cid_file {
            fs::write(path, id.as_str()).map_err(Error::io(format!("write {}", path.display())))?;
            made.cid_file = Some(path.clone());
        }
        if start {
            // What syncs the config's name syncs this one.
            record.begin(Durability::None)?;
        }
        if durability == Durability::Synced {
            file::sync_files(&record.data)?;
        }
        let config = config(options, &base, id.clone(), name, &launch);
        // Last: a record without it is of a container that never was.
        file::write_json(&record.data.join("config.json"), &config, durability)?;
        self.note("create", &config);
        Ok((id, made.end()))
    }

    /// Removes the container that has the name, if that was asked for.
    fn replace(&self, options: &CreateOptions) -> Result<(), Error> {
        if let Some(name) = options.name.as_ref().filter(|_| options.replace)
            && let Some(owner) = name::owner(&self.paths, name)
        {
            self.remove_container(&owner, &RemoveOptions::FORCE)?;
        }
        Ok(())
    }

    fn reserve_name(&self, options: &CreateOptions, id: &ContainerId) -> Result<String, Error> {
        if let Some(name) = &options.name {
            name::reserve(&self.paths, name, id)?;
            return Ok(name.clone());
        }
        names::reserve_generated(|name| name::reserve(&self.paths, name, id))
    }

    fn prepare(
        &self,
        options: &mut CreateOptions,
        base: &Base,
        rootfs: Rootfs,
        record: &Record,
        map: &kelp_userns::IdMap,
        anonymous: &mut Vec<PathBuf>,
    ) -> Result<Launch, Error> {
        let image = &base.config;
        system::settle(options, image)?;
        let mut mounting = Mounting {
            id: &record.id,
            record: &record.data,
            map,
            volatile: options.remove,
            anonymous,
            images: Vec::new(),
            artifacts: Vec::new(),
            base,
        };
        self.resolve_mounts(options, image, &mut mounting)?;
        options.mounted_images = mounting.images;
        options.mounted_artifacts = mounting.artifacts;
        let anonymous_volumes = mounting.anonymous.clone();
        let secrets = self.give_secrets(options, &record.data, map)?;
        let hostname = self.hostname(options, &record.id);
        let joined = self.joined_namespaces(options)?;
        let mut spec = spec::build(options, image, &record.data, &hostname, &joined, self.tell)?;
        system::name_machine(&mut spec, options, &record.id);
        let health = options.health.over(base.health.clone())?;
        notify::prepare(options.notify, health.as_ref(), &mut spec, &record.data)?;
        if map.host_gid(5).is_none() {
            spec::forget_tty_group(&mut spec);
        }
        if spec
            .process()
            .as_ref()
            .and_then(|p| p.args().as_ref())
            .is_none_or(Vec::is_empty)
        {
            return Err(Error::invalid(
                "no command specified on command line or as CMD or ENTRYPOINT in this image",
            ));
        }
        spec.set_version(kelp_runtime::OCI_VERSION.to_owned());
        let mut network = network::plan(options, image)?;
        if !host::maps_user(map) {
            network.run_as_root();
        }
        // The root of a copy is as the image has it.
        let mut own = match rootfs {
            Rootfs::Copied { .. } => Vec::new(),
            Rootfs::Overlay { .. } | Rootfs::Directory(_) => {
                vec![record.data.join("upper"), record.data.join("work")]
            }
        };
        own.extend(network::write_files(
            options, &network, record, base, &hostname,
        )?);
        if !host::maps_user(map) {
            own.extend(self.new_volumes(&options.mounts));
        }
        self.give_to_root(map, &own)?;
        let resources = options.resources.as_ref();
        let resources = resources.map_or_else(|| Ok(Vec::new()), limits::settings)?;
        let resources = limits::of_new_cgroup(resources);
        let user = options.user.clone().or_else(|| image.user().clone());
        let user = user
            .filter(|user| !user.is_empty())
            .or_else(|| kept_user(options, map));
        let runtime = options.runtime.clone();
        let extras = Extras {
            groups: options.groups.clone(),
            keep_groups: options.keep_groups,
            accounts: accounts::plan(options, map, user.as_deref())?,
            user: Some(user.unwrap_or_default()),
            set_home: true,
            init: options.init,
            single_id: map.is_single(),
            default_seccomp: !options.privileged && !options.seccomp_unconfined,
            host_devices: options.privileged,
            system: system::is_one(options),
            console: system::has_console(options),
            ..Extras::default()
        };
        if let Some(runtime) = &runtime {
            let no_cgroup = options.cgroups.mode == CgroupMode::Disabled;
            foreign::check(runtime, &spec, &extras, no_cgroup)?;
        }
        let labels = labels(options, image);
        Ok(Launch {
            spec,
            secrets,
            rootfs,
            extras,
            runtime,
            unmapped_user: !host::maps_user(map),
            resources,
            cgroups: Cgroups {
                mode: match options.cgroups.mode {
                    CgroupMode::Enabled => self.cgroup_mode,
                    asked => asked,
                },
                parent: options.cgroups.parent.clone(),
            },
            stop_timeout: stop_timeout(options),
            log: log::config(options, base, record, &labels)?,
            stdin: options.interactive,
            network,
            remove: options.remove,
            name: String::new(),
            image: base.name.clone(),
            labels,
            map_key: map.key(),
            pid_file: options.pid_file.clone(),
            monitor_pid_file: options.monitor_pid_file.clone(),
            notify: options.notify,
            cid_file: options.cid_file.clone(),
            restart: restart(options.restart),
            timeout: options.timeout,
            stop_signal: system::stop_signal(options, image),
            health,
            pod: options.pod.as_ref().and_then(Membership::place),
            service: options.pod.as_ref().and_then(|pod| pod.service.clone()),
            serves: options.serves_pods,
            anonymous_volumes,
        })
    }

    /// What is asked for, and the places that the image says are volumes.
    fn resolve_mounts(
        &self,
        options: &mut CreateOptions,
        image: &ImageConfig,
        of: &mut Mounting<'_>,
    ) -> Result<(), Error> {
        let mut mounts = Vec::new();
        for asked in &options.volumes {
            let made = match &asked.source {
                Source::Artifact(artifact) => self.artifact_mounts(artifact, &asked.target, of)?,
                _ => vec![self.mount(asked, of)?],
            };
            for mount in made {
                // What was asked for is apart, but an artifact's files may be where something else is.
                for place in volume::places(&mount) {
                    let target = place.to_string_lossy();
                    if volume::is_taken(&mounts, &target) {
                        return Err(Error::invalid(format!(
                            "{target}: duplicate mount destination"
                        )));
                    }
                }
                mounts.push(mount);
            }
        }
        for other in &options.volumes_from {
            let inherited = self.volumes_of(other)?;
            // What was asked for by itself wins, then the container that was named first.
            mounts.extend(
                inherited
                    .into_iter()
                    .filter(|mount| {
                        !volume::is_taken(&mounts, &mount.destination().to_string_lossy())
                    })
                    .collect::<Vec<_>>(),
            );
        }
        for target in image.volumes().iter().flatten() {
            if target.starts_with('/') && !volume::is_taken(&mounts, target) {
                check_image_volume(target, options.image_volumes)?;
                let source = match options.image_volumes {
                    ImageVolumes::Anonymous => Source::Volume(None),
                    ImageVolumes::Tmpfs => Source::Tmpfs,
                    ImageVolumes::Ignore => continue,
                };
                let mut asked = kelp_args::mount::Mount::new(source, target);
                asked.copy = Some(true);
                mounts.push(self.mount(&asked, of)?);
            }
        }
        options.mounts.extend(mounts);
        Ok(())
    }

    fn hostname(&self, options: &CreateOptions, id: &ContainerId) -> String {
        if let Some(name) = options.hostname.as_ref().filter(|name| !name.is_empty()) {
            return name.clone();
        }
        // In the host's network the host's name is the one that resolves.
        if options.namespaces.has_own_name() {
            return id.short().to_owned();
        }
        if let Some(name) = self.hostname_of_pod(options) {
            return name;
        }
        rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned()
    }

    /// The namespaces that are joined. The process whose namespaces a container's are is known when
    /// this one is started.
    fn joined_namespaces(
        &self,
        options: &mut CreateOptions,
    ) -> Result<HashMap<LinuxNamespaceType, PathBuf>, Error> {
        let names = &mut options.namespaces;
        let mut network = match &names.network {
            Some(Mode::Container(id)) => Namespace::Container(id.clone()),
            Some(Mode::Path(path)) => Namespace::Path(path.clone()),
            Some(Mode::Host) => Namespace::Host,
            Some(Mode::None | Mode::Pasta(_)) | None => Namespace::Private,
        };
        let mut joined = HashMap::new();
        for (typ, namespace) in [
            (LinuxNamespaceType::Pid, &mut names.pid),
            (LinuxNamespaceType::Ipc, &mut names.ipc),
            (LinuxNamespaceType::Uts, &mut names.uts),
            (LinuxNamespaceType::Cgroup, &mut names.cgroup),
            (LinuxNamespaceType::Network, &mut network),
        ] {
            match namespace {
                Namespace::Private | Namespace::Host => {}
                Namespace::Path(path) => {
                    joined.insert(typ, path.clone());
                }
                Namespace::Container(other) => {
                    // The id, because names can be given to others.
                    *other = self.find_container(other)?.to_string();
                    joined.insert(typ, PathBuf::from(format!("container:{other}")));
                }
            }
        }
        if let Namespace::Container(id) = network {
            names.network = Some(Mode::Container(id));
        }
        Ok(joined)
    }
}

/// Refuses a volume of an image's in the place of what the kernel tells and takes: it is for who runs the
/// container to ask for a mount there.
fn check_image_volume(target: &str, kind: ImageVolumes) -> Result<(), Error> {
    let is_kernels = ["/proc", "/sys"]
        .iter()
        .any(|place| Path::new(target).starts_with(place));
    if is_kernels && kind != ImageVolumes::Ignore {
        return Err(Error::invalid(format!(
            "the image has a volume at {target}, where the kernel's files are: leave it out with \
             --image-volume=ignore"
        )));
    }
    Ok(())
}

/// Who keeps an id runs as itself, unless the request or the image says otherwise.
fn kept_user(options: &CreateOptions, map: &kelp_userns::IdMap) -> Option<String> {
    let keeps = matches!(options.namespaces.user, UserMode::KeepId { .. });
    if !keeps && !options.pod.as_ref().is_some_and(|pod| pod.keeps_ids) {
        return None;
    }
    let (uid, gid) = host::user_inside(map);
    Some(format!("{uid}:{gid}"))
}

/// What the monitor does of a policy; what differs at boot is not its.
pub(crate) fn restart(policy: RestartPolicy) -> Option<Restart> {
    let (failed, limit) = match policy {
        RestartPolicy::No => return None,
        RestartPolicy::OnFailure { retries } => (true, retries.filter(|&retries| retries > 0)),
        RestartPolicy::Always | RestartPolicy::UnlessStopped => (false, None),
    };
    Some(Restart { failed, limit })
}

fn check_absent(path: &Path) -> Result<(), Error> {
    if path.exists() {
        return Err(Error::conflict(format!(
            "container id file \"{}\" exists: remove it, or choose another",
            path.display()
        )));
    }
    Ok(())
}

fn config(
    options: CreateOptions,
    base: &Base,
    id: ContainerId,
    name: String,
    launch: &Launch,
) -> Config {
    Config {
        id,
        name,
        created: SystemTime::now(),
        image_name: base.name.clone(),
        image_id: base.id.clone(),
        command: launch
            .spec
            .process()
            .as_ref()
            .and_then(|process| process.args().clone())
            .unwrap_or_default(),
        entrypoint: entrypoint(&options, &base.config),
        labels: launch.labels.clone(),
        exposed: exposed(&options, &base.config),
        stop_signal: launch.stop_signal,
        stop_timeout: stop_timeout(&options),
        health: launch.health.clone(),
        options,
    }
}

/// Seconds between the request to stop and SIGKILL.
fn stop_timeout(options: &CreateOptions) -> u64 {
    options.stop_timeout.unwrap_or(10)
}

/// The image's labels, and over them those of the request.
fn labels(options: &CreateOptions, image: &ImageConfig) -> BTreeMap<String, String> {
    let mut labels: BTreeMap<_, _> = image
        .labels()
        .clone()
        .unwrap_or_default()
        .into_iter()
        .collect();
    labels.extend(options.labels.clone());
    labels
}

/// The ports of image and request, each once.
fn exposed(options: &CreateOptions, image: &ImageConfig) -> Vec<String> {
    let of_image = image.exposed_ports().iter().flatten();
    let ports: BTreeSet<_> = of_image.chain(&options.expose).cloned().collect();
    ports.into_iter().collect()
}

fn entrypoint(options: &CreateOptions, image: &ImageConfig) -> Vec<String> {
    options
        .entrypoint
        .clone()
        .or_else(|| image.entrypoint().clone())
        .unwrap_or_default()
}

/// The root of a container from a directory of the host; with `overlay` it is the only layer, and stays
/// as it is.
pub(crate) fn directory_base(path: &Path, overlay: bool) -> Result<Base, Error> {
    let path = fs::canonicalize(path).map_err(Error::io(format!(
        "find root file system {}",
        path.display()
    )))?;
    if !path.is_dir() {
        return Err(Error::invalid(format!(
            "--rootfs {}: it is not a directory",
            path.display()
        )));
    }
    Ok(Base {
        name: path.display().to_string(),
        id: String::new(),
        config: ImageConfig::default(),
        health: None,
        root: if overlay {
            BaseRoot::Layers(vec![path])
        } else {
            BaseRoot::Directory(path)
        },
        held: Held::default(),
    })
}
