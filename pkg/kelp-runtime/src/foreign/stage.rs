//! Everything up to the bundle, in a mount namespace of its own.
//!
//! It is what the init does ([`crate::init`]) up to the pivot, in the same order and by the same means, so
//! that a container is the same whichever runtime makes it. Where the init leaves a mount in the root,
//! here it is moved out again, to a place that config.json names as the source of a bind: the
//! runtime sees a specification's mounts and nothing beside.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use kelp_sys::clone::{CloneFlags, clone3};
use oci_spec::runtime::{LinuxNamespaceType, Spec};
use rustix::fs::{FileType, Mode, OFlags, fstat, mkdirat, open, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount,
    fsopen,
};
use rustix::net::RecvFlags;
use rustix::process::{Signal, set_parent_process_death_signal};

use super::{BUNDLE, Foreign, MOUNTS, ROOTFS, STATE, Stage, config};
use crate::error::{Error, Failure, Step};
use crate::init::{Opened, give_mounts, mount_id, open_mounts, settle_apt};
use crate::launch::{Guarded, READY, pair};
use crate::message::{receive, send};
use crate::mount_plan::{MountPlan, Source};
use crate::mounts::{Made, attach, check_real_directories};
use crate::plan::Plan;
use crate::process::{Identity, usual_umask};
use crate::rootfd::Root;
use crate::{accounts, chown, mounts, source};

/// Where the tmpfs is mounted: a directory that every system has and that no runtime needs, and to which
/// a container's root gets, who may have no rights on the way to any of the user's.
const PLACES: &[&str] = &["/mnt", "/media", "/srv", "/tmp"];

/// Where a mount goes that only keeps the place of one that the runtime will make.
const AWAY: &str = "away";

/// Makes the root, the mounts and config.json for `runtime`. `cgroup` is that which it is to make.
///
/// The caller must be in the container's user namespace with every capability there, and have one thread.
pub fn stage(
    runtime: &Foreign,
    spec: &Spec,
    plan: &Plan,
    cgroup: Option<&str>,
) -> Result<Stage, Error> {
    let place = PLACES.iter().map(Path::new).find(|place| place.is_dir());
    let place = place.ok_or_else(|| {
        Error::Spec(format!(
            "the runtime {} needs one of the directories {}: make one",
            runtime.name,
            PLACES.join(", ")
        ))
    })?;
    let begun = config::begin(runtime, spec, &plan.process.extras, cgroup, place)?;
    let (parent_end, child_end) = pair()?;
    let child = clone3(CloneFlags::NEWNS, None, || {
        let made = make(plan, begun, place).and_then(|namespace| {
            send(child_end.as_fd(), &[READY], &[namespace.as_fd()])
                .step(|| "report to the parent".to_owned())
        });
        match made {
            Ok(()) => 0,
            Err(failure) => {
                let _ = send(child_end.as_fd(), &failure.to_bytes(), &[]);
                1
            }
        }
    });
    let child = Guarded::new(child.map_err(Error::io("make a mount namespace"))?);
    drop(child_end);
    let mut buffer = [0_u8; 4096];
    let (length, mut fds) = receive(parent_end.as_fd(), &mut buffer, RecvFlags::empty())
        .map_err(Error::io("hear from whoever makes the bundle"))?;
    drop(child);
    match fds.pop() {
        Some(namespace) => Ok(Stage::new(namespace, place.to_owned())),
        None if length == 0 => Err(Error::Init("whoever made the bundle was killed".to_owned())),
        None => Err(Failure::to_error(
            &buffer[..length],
            &plan.process.program(),
        )),
    }
}

/// Makes it all; the namespace.
fn make(plan: &Plan, mut spec: Spec, place: &Path) -> Result<OwnedFd, Failure> {
    set_parent_process_death_signal(Some(Signal::KILL))
        .step(|| "set the parent death signal".to_owned())?;
    usual_umask();
    let Opened {
        root,
        sources,
        mut origins,
    } = open_mounts(plan)?;
    let own_pids = has_own_pids(&spec);
    check_real_directories(&root)?;
    let mut laid = Vec::new();
    for (mount, source) in plan.mounts.iter().zip(sources) {
        laid.push(if is_runtimes(mount, own_pids) {
            keep_place(&root, mount)?
        } else {
            mounts::make(&root, mount, source)?
        });
    }
    if plan.process.extras.single_id {
        settle_apt(&root)?;
    }
    let identity = resolve(plan, &root)?;
    let mut given = Vec::new();
    for ((mount, made), origin) in plan.mounts.iter().zip(&laid).zip(&mut origins) {
        if is_runtimes(mount, own_pids) {
            continue;
        }
        if mount.chown {
            let tree = match origin.take() {
                Some(origin) => origin,
                None => copy(&made.tree)?,
            };
            given.push((mount, tree));
        } else {
            give_new(&root, made, &identity)?;
        }
    }
    give_mounts(&given, &identity)?;
    make_directory(plan, &root, &identity)?;

    let base = Base::mount(place)?;
    let asked = spec.mounts().clone().unwrap_or_default();
    let mut listed: Vec<_> = asked.clone();
    // The last one first: what is mounted in another mount leaves it before that one leaves.
    for (number, (mount, made)) in plan.mounts.iter().zip(laid).enumerate().rev() {
        let runtimes = is_runtimes(mount, own_pids);
        base.take(
            made.tree.as_fd(),
            if runtimes { AWAY } else { MOUNTS },
            number,
        )?;
        if !runtimes {
            let set = mount.attr.set | mount.recursive_attr.set;
            listed[number] = config::staged(place, number, &asked[number], set);
            if made.place != mount.target {
                listed[number].set_destination(made.place);
            }
        }
    }
    let devices = plan.devices.iter().map(|device| &device.path);
    let others = plan.host_devices.iter().filter(|path| path.exists());
    listed.extend(devices.chain(others).map(|path| config::device(path)));
    base.take_root(root.as_fd())?;
    config::finish(&mut spec, plan, &identity, listed);
    base.write_config(&spec)?;
    open(
        "/proc/self/ns/mnt",
        OFlags::RDONLY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .step(|| "open the mount namespace".to_owned())
}

/// Whether a mount is of a kind that shows the container's own namespaces, or is simply new: the runtime
/// makes it. Of the host's processes a user namespace can only bind what the host shows.
fn is_runtimes(mount: &MountPlan, own_pids: bool) -> bool {
    match &mount.source {
        Source::Cgroup { .. } | Source::Remount { .. } => true,
        Source::FileSystem { kind, .. } if kind.as_c_str() == c"proc" => own_pids,
        Source::FileSystem { .. } => !mount.copy_up && !mount.chown,
        Source::Bind { .. } | Source::Overlay { .. } => false,
    }
}

fn has_own_pids(spec: &Spec) -> bool {
    let linux = spec.linux().as_ref();
    let mut namespaces = linux
        .and_then(|linux| linux.namespaces().as_ref())
        .into_iter()
        .flatten();
    namespaces.any(|namespace| namespace.typ() == LinuxNamespaceType::Pid)
}

/// Mounts something where the runtime will mount, so that what belongs below it finds the place as it
/// will be, and leaves nothing in the image: of the kernel's files those of the host, which can be
/// told from an image's like the container's own, else an empty directory.
fn keep_place(root: &Root, mount: &MountPlan) -> Result<Made, Failure> {
    let what = || format!("mount {}", mount.target.display());
    let kind = match &mount.source {
        Source::FileSystem { kind, .. } => kind.as_c_str(),
        _ => c"",
    };
    let tree = if kind == c"proc" {
        source::bind(c"/proc", false)?
    } else if kind == c"sysfs" {
        source::bind(c"/sys", false)?
    } else {
        tmpfs("0755").step(what)?
    };
    let (target, _) = mounts::target(root, &mount.target, true)?;
    attach(tree.as_fd(), target.as_fd()).step(what)?;
    Ok(Made {
        tree,
        place: mount.target.clone(),
        new_place: None,
    })
}

/// Who the program runs as, with the lines that are added to passwd and group.
fn resolve(plan: &Plan, root: &Root) -> Result<Identity, Failure> {
    accounts::add_users(&plan.process, root)?;
    let identity = Identity::resolve(&plan.process, root)?;
    if accounts::add_own(&plan.process, root, &identity)? {
        return Identity::resolve(&plan.process, root);
    }
    Ok(identity)
}

/// Gives a volume that nobody has been given before to the container's user.
fn give_new(root: &Root, made: &Made, identity: &Identity) -> Result<(), Failure> {
    let Some(place) = &made.new_place else {
        return Ok(());
    };
    let what = || "give a new volume to the container's user".to_owned();
    if mount_id(place) == mount_id(root) {
        chown::one(place.as_fd(), identity.uid, identity.gid).step(what)?;
    }
    let owner = fstat(&made.tree).step(what)?;
    if (owner.st_uid, owner.st_gid) == (0, 0) {
        chown::one(made.tree.as_fd(), identity.uid, identity.gid).step(what)?;
    }
    Ok(())
}

/// Makes the working directory where it is missing: the program's user's, which a runtime would make root's.
fn make_directory(plan: &Plan, root: &Root, identity: &Identity) -> Result<(), Failure> {
    let cwd = &plan.process.cwd;
    let what = || format!("make the working directory {}", cwd.display());
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    match root.open(cwd, flags) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        // What else is wrong with it the runtime tells.
        _ => return Ok(()),
    }
    let (Some(parent), Some(name)) = (cwd.parent(), cwd.file_name()) else {
        return Ok(());
    };
    let parent = root.mkdir_all(parent, 0o755).step(what)?;
    match mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
        Err(Errno::EXIST) => return Ok(()),
        made => made.step(what)?,
    }
    let flags = flags | OFlags::NOFOLLOW | OFlags::DIRECTORY;
    let made = openat(&parent, name, flags, Mode::empty()).step(what)?;
    chown::one(made.as_fd(), identity.uid, identity.gid).step(what)
}

fn copy(fd: &OwnedFd) -> Result<OwnedFd, Failure> {
    fd.try_clone().step(|| "copy a descriptor".to_owned())
}

fn tmpfs(mode: &str) -> Result<OwnedFd, Errno> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "mode", mode)?;
    fsconfig_create(context.as_fd())?;
    let flags = FsMountFlags::FSMOUNT_CLOEXEC;
    fsmount(context.as_fd(), flags, MountAttrFlags::empty())
}

/// The tmpfs with all that the runtime needs.
struct Base {
    tree: OwnedFd,
    place: PathBuf,
}

impl Base {
    fn mount(place: &Path) -> Result<Self, Failure> {
        let what = || format!("mount a tmpfs on {}", place.display());
        let tree = tmpfs("0755").step(what)?;
        attach(tree.as_fd(), crate::overlay::directory(place)?.as_fd()).step(what)?;
        let base = Self {
            tree,
            place: place.to_owned(),
        };
        for name in [BUNDLE, ROOTFS, MOUNTS, AWAY, STATE] {
            base.mkdir(name, 0o755)?;
        }
        Ok(base)
    }

    fn mkdir(&self, name: &str, mode: u32) -> Result<OwnedFd, Failure> {
        let what = || format!("make {}/{name}", self.place.display());
        mkdirat(&self.tree, name, Mode::from_raw_mode(mode)).step(what)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        openat(&self.tree, name, flags, Mode::empty()).step(what)
    }

    /// Moves a mount out of the root.
    fn take(&self, tree: BorrowedFd<'_>, directory: &str, number: usize) -> Result<(), Failure> {
        let name = format!("{directory}/{number}");
        let what = || format!("move a mount to {}/{name}", self.place.display());
        let kind = FileType::from_raw_mode(fstat(tree).step(what)?.st_mode);
        let place = if kind == FileType::Directory {
            self.mkdir(&name, 0o755)?
        } else {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            openat(&self.tree, &name, flags, Mode::from_raw_mode(0o644)).step(what)?
        };
        attach(tree, place.as_fd()).step(what)
    }

    fn take_root(&self, root: BorrowedFd<'_>) -> Result<(), Failure> {
        let what = || "move the root file system into the bundle".to_owned();
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let place = openat(&self.tree, ROOTFS, flags, Mode::empty()).step(what)?;
        attach(root, place.as_fd()).step(what)
    }

    fn write_config(&self, spec: &Spec) -> Result<(), Failure> {
        let what = || "write config.json".to_owned();
        let text = serde_json::to_vec(spec).map_err(|error| Failure::setup(error.to_string()))?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
        let name = format!("{BUNDLE}/config.json");
        let file = openat(&self.tree, name, flags, Mode::from_raw_mode(0o600)).step(what)?;
        std::io::Write::write_all(&mut std::fs::File::from(file), &text).step(what)
    }
}
