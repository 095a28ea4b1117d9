//! What the first process does between the clone and the program: it executes the plan.
//!
//! Each step is one call or a few, in the order that the kernel's rules ask for; a failure is text
//! for the parent. The process is a copy of a single-threaded parent, so it may allocate; it parses
//! nothing but the container's own passwd and group, which exist only once the root is mounted.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{FileType, Mode, OFlags, fstat, ftruncate};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, mount_change};
use rustix::process::{
    DumpableBehavior, Signal, parent_process_death_signal, set_dumpable_behavior,
    set_parent_process_death_signal,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::console::Console;
use crate::error::{Failure, Step};
use crate::launch::{MOUNTED, NETWORK, READY, Surroundings, User};
use crate::message::send;
use crate::mount_plan::{MountPlan, Source};
use crate::mounts::Made;
use crate::plan::Plan;
use crate::process;
use crate::rootfd::Root;
use crate::source::Bound;
use crate::{accounts, chown, device_nodes, inside, mounts, rootfs, source};

/// Runs the plan; returns only if a step failed.
pub(crate) fn run(plan: &Plan, around: Surroundings<'_>, parent: BorrowedFd<'_>) -> Failure {
    match prepare(plan, around, parent) {
        Ok(identity) => process::execute(&plan.process, &identity, parent, around.tie),
        Err(failure) => failure,
    }
}

fn prepare(
    plan: &Plan,
    around: Surroundings<'_>,
    parent: BorrowedFd<'_>,
) -> Result<process::Identity, Failure> {
    // A monitor that dies takes its container along. It may have died already: then the pair's
    // other end is closed, and the first send fails.
    set_parent_process_death_signal(Some(Signal::KILL))
        .step(|| "set the parent death signal".to_owned())?;
    if let Some(User::New(_)) = around.user {
        // Until the map is written and this is done, what /proc has of this process has to be the user's own.
        process::wait_for_go(parent)?;
        process::set_labels(&plan.process)?;
    }
    set_dumpable_behavior(DumpableBehavior::NotDumpable).step(|| "become undumpable".to_owned())?;
    process::usual_umask();
    // Where a user namespace is entered this has been done before.
    if around.user.is_none() {
        process::set_by_proc(&plan.process)?;
    }
    for (kind, fd) in &plan.namespaces.join {
        // This process was cloned into the first already, and enters the other with its root.
        if matches!(
            kind,
            LinkNameSpaceType::ProcessID | LinkNameSpaceType::Mount
        ) {
            continue;
        }
        move_into_link_name_space(fd.as_fd(), Some(*kind))
            .step(|| format!("join the {kind:?} namespace"))?;
    }
    if plan.creates_network() {
        kelp_sys::net::bring_up(c"lo").step(|| "bring the loopback interface up".to_owned())?;
    }
    let network = match around.user {
        Some(User::Entered) => Some(own_network()?),
        _ => None,
    };

    let Opened {
        root,
        sources,
        origins,
    } = open_mounts(plan)?;
    mounts::check_real_directories(&root)?;
    let mut dev = None;
    let mut given = Vec::new();
    let mut new_places = Vec::new();
    for ((mount, source), origin) in plan.mounts.iter().zip(sources).zip(origins) {
        let Made {
            tree, new_place, ..
        } = mounts::make(&root, mount, source)?;
        if mount.is_dev() {
            dev = Some((mount, tree));
        } else if mount.chown {
            given.push((mount, origin.unwrap_or(tree)));
        } else if let Some(place) = new_place {
            // One that was made in a directory of the host's stays the user's, as does a volume that
            // somebody has been given before.
            if mount_id(&place) == mount_id(&root) {
                new_places.push(place);
            }
            let owner = fstat(&tree).step(|| "look at a new volume".to_owned())?;
            if (owner.st_uid, owner.st_gid) == (0, 0) {
                new_places.push(tree);
            }
        }
    }
    let makes_devices = plan.process.extras.makes_devices;
    let is_hosts = |mount: &MountPlan| mount.target == std::path::Path::new("/dev");
    if dev.is_some() || !plan.mounts.iter().any(is_hosts) {
        device_nodes::fill(&root, makes_devices)?;
    }
    device_nodes::add(&root, &plan.devices, &plan.host_devices, makes_devices)?;
    if plan.hooks.pauses {
        let namespaces = match plan.hooks.create_container.as_slice() {
            [] => Vec::new(),
            _ => inside::own_namespaces()?,
        };
        let namespaces: Vec<_> = namespaces.iter().map(AsFd::as_fd).collect();
        send(parent, &[MOUNTED], &namespaces).step(|| "report to the parent".to_owned())?;
        process::wait_for_go(parent)?;
    }
    write_sysctls(plan, &root)?;
    let has_terminal = plan.process.terminal;
    let console = if has_terminal || plan.process.extras.console {
        let console = Console::open(&root, plan.process.terminal_size)?;
        console.mount(&root)?;
        Some(console)
    } else {
        None
    };
    if let Some((mount, tree)) = dev {
        mounts::finish_dev(tree.as_fd(), mount)?;
    }
    mounts::mask(&root, &plan.masked, makes_devices)?;
    mounts::readonly(&root, &plan.readonly)?;
    if plan.process.extras.single_id {
        settle_apt(&root)?;
    }
    accounts::add_users(&plan.process, &root)?;
    let mut identity = process::Identity::resolve(&plan.process, &root)?;
    if accounts::add_own(&plan.process, &root, &identity)? {
        identity = process::Identity::resolve(&plan.process, &root)?;
    }
    give_mounts(&given, &identity)?;
    for place in &new_places {
        chown::one(place.as_fd(), identity.uid, identity.gid)
            .step(|| "give a new volume to the container's user".to_owned())?;
    }

    if let Some(namespace) = plan.namespaces.joined(LinkNameSpaceType::Mount) {
        rootfs::finish(root.as_fd(), plan.rootfs_readonly, plan.rootfs_propagation)?;
        rootfs::enter_among(root.as_fd(), namespace)?;
    } else {
        rootfs::pivot(root.as_fd())?;
        rootfs::finish(root.as_fd(), plan.rootfs_readonly, plan.rootfs_propagation)?;
    }
    if let Some(name) = &plan.hostname {
        rustix::system::sethostname(name.as_bytes()).step(|| format!("set the hostname {name}"))?;
    }
    if let Some(name) = &plan.domainname {
        rustix::system::setdomainname(name.as_bytes())
            .step(|| format!("set the domain name {name}"))?;
    }

    report(parent, network.as_ref(), console.as_ref())?;
    if let Some(console) = console.filter(|_| has_terminal) {
        console.adopt(identity.uid)?;
    } else {
        rustix::process::setsid().step(|| "start a session".to_owned())?;
        if let Some(stdio) = around.stdio {
            process::place_stdio(stdio)?;
        }
    }
    Ok(identity)
}

/// What this process has for its network. Nobody outside may open it by the process's number.
fn own_network() -> Result<OwnedFd, Failure> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    rustix::fs::open("/proc/self/ns/net", flags, Mode::empty())
        .step(|| "open /proc/self/ns/net".to_owned())
}

/// Tells the parent that all is set up, and hands over what it needs of it.
fn report(
    parent: BorrowedFd<'_>,
    network: Option<&OwnedFd>,
    console: Option<&Console>,
) -> Result<(), Failure> {
    let message: &[u8] = if network.is_some() {
        &[READY, NETWORK]
    } else {
        &[READY]
    };
    let terminal = console.map(|console| console.master.as_fd());
    let given: Vec<_> = network
        .map(AsFd::as_fd)
        .into_iter()
        .chain(terminal)
        .collect();
    send(parent, message, &given).step(|| "report to the parent".to_owned())
}

/// The root, and what is to be mounted in it.
pub(crate) struct Opened {
    pub(crate) root: Root,
    /// A mount each, made so far as it is of the host's.
    pub(crate) sources: Vec<Bound>,
    /// What each gives to the container's user, where that is not what it shows.
    pub(crate) origins: Vec<Option<OwnedFd>>,
}

/// Opens all that a plan has of the host's by the user's own rights, lets go of the host's mounts, and attaches
/// the root; the caller is the container's root after it.
pub(crate) fn open_mounts(plan: &Plan) -> Result<Opened, Failure> {
    // What is shared with the host is what was opened before the host's mounts are let go.
    let shared = plan.mounts.iter().map(|mount| {
        let is_shared = mount.is_shared();
        is_shared.then(|| source::open_source(mount)).transpose()
    });
    let shared = shared.collect::<Result<Vec<_>, _>>()?;
    // Mounts made here must not reach the host; the host's may come in until the pivot.
    let slave = MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC;
    mount_change("/", slave).step(|| "make / a slave mount".to_owned())?;
    let parts = rootfs::open_parts(&plan.rootfs, &plan.attach)?;
    let sources = plan.mounts.iter().zip(shared);
    let sources =
        sources.map(|(mount, shared)| shared.map_or_else(|| source::open_source(mount), Ok));
    let sources = sources.collect::<Result<Vec<_>, _>>()?;
    let origins = plan.mounts.iter().map(source::open_origin);
    let origins = origins.collect::<Result<Vec<_>, _>>()?;
    become_root()?;
    let sources = sources
        .into_iter()
        .map(|opened| opened.mount(parts.place()));
    Ok(Opened {
        sources: sources.collect::<Result<Vec<_>, _>>()?,
        root: Root::new(rootfs::mount(parts)?),
        origins,
    })
}

/// User and group 0 of the namespace, so that what is made for the container is its root's. A
/// namespace that has only one id may have another than 0; then there is no root to become.
///
/// A parent-death signal that was set stays so.
pub(crate) fn become_root() -> Result<(), Failure> {
    use rustix::process::{getgid, getuid};
    if getgid().is_root() && getuid().is_root() {
        return Ok(());
    }
    let what = || "keep the parent death signal".to_owned();
    let signal = parent_process_death_signal().step(what)?;
    set_root_ids()?;
    // A change of the ids has cleared it (prctl(2), PR_SET_PDEATHSIG).
    set_parent_process_death_signal(signal).step(what)
}

fn set_root_ids() -> Result<(), Failure> {
    use rustix::process::{Gid, Uid};
    let what = || "become the container's root".to_owned();
    match rustix::thread::set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT) {
        Err(Errno::INVAL) => return Ok(()),
        result => result.step(what)?,
    }
    match rustix::thread::set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT) {
        Err(Errno::INVAL) => Ok(()),
        result => result.step(what),
    }
}

fn write_sysctls(plan: &Plan, root: &Root) -> Result<(), Failure> {
    if plan.sysctl.is_empty() {
        return Ok(());
    }
    let what = || "open the container's /proc".to_owned();
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let proc = root.open(std::path::Path::new("/proc"), flags).step(what)?;
    let mount = mount_id(&proc);
    let proc = Root::new(proc);
    let sys = proc.open(std::path::Path::new("/sys"), flags).step(what)?;
    let sys = Root::new(sys);
    for (path, value) in &plan.sysctl {
        let what = || format!("set sysctl {}", path.display());
        let file = sys
            .open(path, OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW)
            .step(what)?;
        // Written only to the procfs that kelp has mounted: something of the user's or the image's
        // may lie over a part of it, and be another file of /proc.
        let is_proc = rustix::fs::fstatfs(&file).step(what)?.f_type == rustix::fs::PROC_SUPER_MAGIC;
        if !is_proc || mount_id(&file) != mount {
            return Err(Failure::setup(
                "set a sysctl: a mount covers it in the container's /proc/sys",
            ));
        }
        rustix::io::write(&file, value.as_bytes()).step(what)?;
    }
    Ok(())
}

/// Which mount a file is on; `None` before Linux 5.8.
pub(crate) fn mount_id(file: impl AsFd) -> Option<u64> {
    use rustix::fs::{AtFlags, StatxFlags, statx};
    let found = statx(file, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).ok()?;
    (found.stx_mask & StatxFlags::MNT_ID.bits() != 0).then_some(found.stx_mnt_id)
}

/// Tells apt, where the image has it, that there is no other user to become.
///
/// Only in the root itself: what the user has mounted there, or what the image leads to by a link, is
/// not written. And only to a file: a fifo would wait for a reader.
pub(crate) fn settle_apt(root: &Root) -> Result<(), Failure> {
    let (path, content) = crate::seccomp::single_id::APT_SANDBOX;
    let what = || format!("write {path}");
    let Ok((directory, name)) = root.parent(std::path::Path::new(path)) else {
        return Ok(());
    };
    let top = mount_id(root);
    if mount_id(&directory) != top {
        return Ok(());
    }
    let flags = OFlags::WRONLY
        | OFlags::CREATE
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::NOCTTY
        | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(&directory, &name, flags, Mode::from_raw_mode(0o644)) {
        // A link, a fifo, a directory.
        Err(Errno::LOOP | Errno::NXIO | Errno::ISDIR) => return Ok(()),
        result => result.step(what)?,
    };
    let kind = FileType::from_raw_mode(fstat(&file).step(what)?.st_mode);
    if kind != FileType::RegularFile || mount_id(&file) != top {
        return Ok(());
    }
    ftruncate(&file, 0).step(what)?;
    rustix::io::write(&file, content.as_bytes()).step(what)?;
    Ok(())
}

/// Gives what mounts marked `U` show to the container's user.
pub(crate) fn give_mounts(
    given: &[(&MountPlan, OwnedFd)],
    identity: &process::Identity,
) -> Result<(), Failure> {
    for (mount, fd) in given {
        let what = || format!("give {} to the container's user", mount.target.display());
        let (fd, uid, gid) = (fd.as_fd(), identity.uid, identity.gid);
        match mount.source {
            Source::Bind { .. } | Source::Overlay { .. } => {
                chown::recursively(fd, uid, gid, limit(&mount.source, fd))
            }
            Source::FileSystem { .. } | Source::Cgroup { .. } | Source::Remount { .. } => {
                chown::one(fd, uid, gid)
            }
        }
        .step(what)?;
    }
    Ok(())
}

/// The mount to which a gift of what a mount shows is limited: what is mounted below is not shown by a bind
/// that is not recursive, and in an overlay it is the container's other mounts.
fn limit(source: &Source, shown: BorrowedFd<'_>) -> Option<u64> {
    match source {
        Source::Bind {
            recursive: true, ..
        } => None,
        _ => mount_id(shown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_recursive_bind_gives_the_mounts_below_it_away() {
        let directory = tempfile::tempdir().unwrap();
        let open = std::fs::File::open(directory.path()).unwrap();
        for (recursive, limited) in [(true, false), (false, true)] {
            let source = Source::Bind {
                path: c"/".into(),
                recursive,
                beneath: None,
                of: None,
            };
            let expected = limited.then(|| mount_id(&open)).flatten();
            assert_eq!(limit(&source, open.as_fd()), expected);
        }
    }
}
