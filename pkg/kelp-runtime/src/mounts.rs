//! Mounts of a container, each made detached, given its attributes, and moved to a descriptor.
//!
//! Runs in the container's mount namespace, before the pivot. A target is resolved beneath the new
//! root by descriptor; its path is never walked a second time, so nothing that another process does
//! to the tree meanwhile can move a mount elsewhere (move_mount(2), openat2(2)).

use std::ffi::CStr;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use kelp_copy::Copier;
use kelp_sys::mount_attr::{ATIME, MountAttr, RDONLY, mount_setattr};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, PROC_SUPER_MAGIC, fstat, fstatfs, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags,
    fsconfig_create, fsconfig_reconfigure, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen,
    fspick, move_mount, open_tree,
};
use rustix::process::{Gid, Uid};

use crate::device_nodes::device;
use crate::error::{Failure, Step};
use crate::filling::Filling;
use crate::init::mount_id;
use crate::mount_plan::{MountPlan, Parameters, Source};
use crate::rootfd::Root;
use crate::source::{Bound, bind, clone_tree};

/// A mount that was made.
pub(crate) struct Made {
    /// The mount.
    pub(crate) tree: OwnedFd,
    /// Where it was made: the target, or what is called so in it.
    pub(crate) place: PathBuf,
    /// The directory that was made to mount on, where a volume has nothing in it and the image nothing in
    /// its place: both become the container's user's.
    pub(crate) new_place: Option<OwnedFd>,
}

/// Makes one mount of the plan; `bound` is what [`crate::source::open_source`] opened for it.
pub(crate) fn make(root: &Root, mount: &MountPlan, bound: Bound) -> Result<Made, Failure> {
    let what = || format!("mount {}", mount.target.display());
    let Bound {
        tree: bound,
        filling,
    } = bound;
    let tree = match &mount.source {
        Source::Bind { .. } | Source::Overlay { .. } => {
            bound.ok_or_else(|| Failure::setup(format!("{}: it was not opened", what())))?
        }
        Source::FileSystem {
            kind,
            source,
            parameters,
        } => file_system(kind, source, parameters, &what)?,
        Source::Cgroup { own } => cgroup(*own, &what)?,
        Source::Remount { parameters } => return remount(root, mount, parameters),
    };
    let is_directory = is_directory(tree.as_fd()).step(what)?;
    let place = place(root, mount).step(what)?;
    let (target, is_new) = target(root, &place, is_directory)?;
    if let Some(filling) = &filling {
        filling.wait()?;
    }
    let is_empty = mount.copy_up && is_directory && is_empty(tree.as_fd()).step(what)?;
    if is_empty && !is_new {
        copy_up(root, mount, &tree, target.as_fd(), filling.as_ref())?;
    }
    set_attributes(tree.as_fd(), mount).step(what)?;
    attach(tree.as_fd(), target.as_fd()).step(what)?;
    let is_given = is_empty && is_new && filling.is_some() && mount.attr.set & RDONLY == 0;
    let new_place = is_given.then_some(target);
    Ok(Made {
        tree,
        place,
        new_place,
    })
}

/// Where a mount is made. What is a directory is known now alone: an image's layers, volumes and other mounts have
/// come together.
fn place(root: &Root, mount: &MountPlan) -> std::io::Result<PathBuf> {
    let Some(name) = &mount.within else {
        return Ok(mount.target.clone());
    };
    match root.open(&mount.target, OFlags::PATH | OFlags::CLOEXEC) {
        Ok(found) if is_directory(found.as_fd())? => Ok(mount.target.join(name)),
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(mount.target.clone()),
    }
}

/// Changes a mount that is there already.
fn remount(root: &Root, mount: &MountPlan, parameters: &Parameters) -> Result<Made, Failure> {
    let what = || format!("remount {}", mount.target.display());
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let tree = root.open(&mount.target, flags).step(what)?;
    if !parameters.is_empty() {
        let flags = FsPickFlags::FSPICK_EMPTY_PATH | FsPickFlags::FSPICK_CLOEXEC;
        let context = fspick(&tree, "", flags).step(what)?;
        set_parameters(context.as_fd(), parameters).step(what)?;
        fsconfig_reconfigure(context.as_fd()).step(what)?;
    }
    match set_attributes(tree.as_fd(), mount) {
        Err(error) if Errno::from_io_error(&error) == Some(Errno::INVAL) => {
            let why = "nothing is mounted there";
            return Err(Failure::setup(format!("{}: {why}", what())));
        }
        result => result.step(what)?,
    }
    Ok(Made {
        tree,
        place: mount.target.clone(),
        new_place: None,
    })
}

fn set_parameters(context: BorrowedFd<'_>, parameters: &Parameters) -> Result<(), Errno> {
    for (name, value) in parameters {
        match value {
            Some(value) => fsconfig_set_string(context, name.as_c_str(), value.as_c_str())?,
            None => fsconfig_set_flag(context, name.as_c_str())?,
        }
    }
    Ok(())
}

/// Whether a mount has nothing in it. One whose owner has no id in the container may not be its to read: then it is
/// somebody's, and not new.
fn is_empty(tree: BorrowedFd<'_>) -> std::io::Result<bool> {
    match kelp_copy::is_empty(tree) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(false),
        result => result,
    }
}

/// Copies what the image has at a mount's target to the mount, which is empty.
fn copy_up(
    root: &Root,
    mount: &MountPlan,
    tree: &OwnedFd,
    target: BorrowedFd<'_>,
    filling: Option<&Filling>,
) -> Result<(), Failure> {
    let what = || format!("copy the image's {} into the mount", mount.target.display());
    let Some(from) = of_image(root, &mount.target, target).step(what)? else {
        return Ok(());
    };
    // A mode and an owner that were asked for outlive the copy, which brings the image's.
    let stat = fstat(tree).step(what)?;
    let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
    if filling.is_some() {
        // Empty or not, a volume whose owner has no id in the container is somebody's, and stays that one's.
        match rustix::fs::chmodat(tree, ".", mode, AtFlags::empty()) {
            Err(Errno::PERM) => return Ok(()),
            result => result.step(what)?,
        }
    }
    let asks = |wanted: &CStr| match &mount.source {
        Source::FileSystem { parameters, .. } => {
            parameters.iter().any(|(name, _)| name.as_c_str() == wanted)
        }
        _ => false,
    };
    // What a directory itself is can be given to it twice, but whom a volume was given keeps it.
    let from_is_empty = kelp_copy::is_empty(from.as_fd()).step(what)?;
    if filling.is_some() && from_is_empty && (stat.st_uid, stat.st_gid) != (0, 0) {
        return Ok(());
    }
    let filling = filling.filter(|_| !from_is_empty);
    if let Some(filling) = filling {
        filling.begin()?;
    }
    Copier::new(tree.as_fd())
        .and_then(|mut copier| copier.tree(from.as_fd()))
        .step(what)?;
    if let Some(filling) = filling {
        filling.end()?;
    }
    let uid = asks(c"uid").then(|| Uid::from_raw(stat.st_uid));
    let gid = asks(c"gid").then(|| Gid::from_raw(stat.st_gid));
    if uid.is_some() || gid.is_some() {
        rustix::fs::chownat(tree, ".", uid, gid, AtFlags::empty()).step(what)?;
    }
    if asks(c"mode") {
        rustix::fs::chmodat(tree, ".", mode, AtFlags::empty()).step(what)?;
    }
    Ok(())
}

/// The directory that the image has at a path, whatever is mounted there by now: a link in the image may
/// lead to a mount, and what the kernel tells in /proc is not the image's.
fn of_image(root: &Root, path: &Path, target: BorrowedFd<'_>) -> std::io::Result<Option<OwnedFd>> {
    let Ok(image) = clone_tree(root) else {
        // A directory of the host's with mounts in it that are locked to it.
        let is_own = mount_id(root).is_some_and(|own| mount_id(target) == Some(own));
        return is_own.then(|| target.try_clone_to_owned()).transpose();
    };
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    match Root::new(image).open(path, flags) {
        Ok(found) => Ok(Some(found)),
        Err(error) => match Errno::from_io_error(&error) {
            Some(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
            _ => Err(error),
        },
    }
}

/// Moves a detached mount to the place that `target` names.
pub(crate) fn attach(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    move_mount(
        tree,
        "",
        target,
        "",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
    )
}

fn file_system(
    kind: &CStr,
    source: &CStr,
    parameters: &Parameters,
    what: &impl Fn() -> String,
) -> Result<OwnedFd, Failure> {
    match new_file_system(kind, source, parameters) {
        // Where the host's own /proc or /sys has parts covered, as inside another container, the
        // kernel gives no new one that would show them; what is visible there is bound.
        Err(Errno::PERM) if kind == c"proc" => bind(c"/proc", true),
        Err(Errno::PERM) if kind == c"sysfs" => bind(c"/sys", true),
        result => result.step(what),
    }
}

fn new_file_system(kind: &CStr, source: &CStr, parameters: &Parameters) -> Result<OwnedFd, Errno> {
    let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(context.as_fd(), "source", source)?;
    set_parameters(context.as_fd(), parameters)?;
    fsconfig_create(context.as_fd())?;
    fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )
}

/// The cgroup namespace's tree; where there is no cgroup v2 to mount, an empty directory. In the host's
/// namespace only root may mount it, and what is mounted there is bound.
fn cgroup(own: bool, what: &impl Fn() -> String) -> Result<OwnedFd, Failure> {
    // A mount of one's own in the host's namespace would change the options of the host's.
    if !own
        && let Ok(bound) = bind(c"/sys/fs/cgroup", true)
        && fstatfs(&bound).step(what)?.f_type == CGROUP2_MAGIC
    {
        return Ok(bound);
    }
    match new_file_system(c"cgroup2", c"cgroup", &[]) {
        Err(Errno::PERM | Errno::NODEV | Errno::BUSY) => {}
        mounted if own => return mounted.step(what),
        _ => {}
    }
    new_file_system(c"tmpfs", c"cgroup", &[(c"size".into(), Some(c"0".into()))]).step(what)
}

/// Makes a /dev read-only that was filled first, if that was asked for.
pub(crate) fn finish_dev(tree: BorrowedFd<'_>, mount: &MountPlan) -> Result<(), Failure> {
    let attr = MountAttr {
        set: mount.attr.set & RDONLY,
        ..MountAttr::default()
    };
    mount_setattr(tree, false, attr, None).step(|| "make /dev read-only".to_owned())
}

fn set_attributes(tree: BorrowedFd<'_>, mount: &MountPlan) -> std::io::Result<()> {
    if mount.recursive_attr != MountAttr::default() {
        mount_setattr(tree, true, mount.recursive_attr, None)?;
    }
    if mount.attr == MountAttr::default() {
        return Ok(());
    }
    let mut attr = mount.attr;
    if mount.is_dev() {
        attr.set &= !RDONLY;
    }
    let recursive_bind = matches!(
        mount.source,
        Source::Bind {
            recursive: true,
            ..
        } | Source::Cgroup { own: false }
    );
    // A read-only volume whose sub-mounts can be written would not be read-only: `ro` goes down.
    let down = recursive_bind && attr.set & RDONLY != 0;
    match mount_setattr(tree, down, attr, None) {
        // Attributes that came locked from the outer namespace can't be cleared; one that was not
        // asked to be stricter than it is stays as it is.
        Err(error)
            if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) && attr.clear != 0 =>
        {
            // A time mode replaces another (mount_setattr(2)).
            attr.clear = if attr.set & ATIME == 0 { 0 } else { ATIME };
            mount_setattr(tree, down, attr, None)
        }
        result => result,
    }
}

/// The place to mount on: made, as a directory or a file, where it is missing; and whether it was.
pub(crate) fn target(
    root: &Root,
    path: &Path,
    directory: bool,
) -> Result<(OwnedFd, bool), Failure> {
    let what = || format!("make the mount point {}", path.display());
    match root.open(path, OFlags::PATH | OFlags::CLOEXEC) {
        Ok(place) => {
            check_place(root, path, place.as_fd())?;
            if is_directory(place.as_fd()).step(what)? != directory {
                return Err(Failure::setup(format!(
                    "mount {}: a file can't be mounted on a directory, nor a directory on a file",
                    path.display()
                )));
            }
            Ok((place, false))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let made = if directory {
                root.mkdir_all(path, 0o755)
            } else {
                root.create_file(path, 0o644)
            };
            made.map(|place| (place, true)).step(what)
        }
        Err(error) => Err(error).step(what),
    }
}

/// Refuses a place in /proc or /sys to which a link has led. Who asks for a mount there names the place;
/// it is not for an image to have files of the kernel's covered that the container relies on.
fn check_place(root: &Root, path: &Path, place: BorrowedFd<'_>) -> Result<(), Failure> {
    let what = || format!("look at {}", path.display());
    let kind = fstatfs(place).step(what)?.f_type;
    if (kind == PROC_SUPER_MAGIC || kind == SYSFS_MAGIC)
        && !is_spelled_out(root, path).step(what)?
    {
        return Err(Failure::setup(format!(
            "mount {}: a link in the image leads into /proc or /sys: refusing to mount there",
            path.display()
        )));
    }
    Ok(())
}

/// Whether no link is on the way to a path, nor its end.
fn is_spelled_out(root: &Root, path: &Path) -> std::io::Result<bool> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut here = openat(root, ".", flags, Mode::empty())?;
    for component in path.components() {
        match component {
            Component::Normal(name) => here = openat(&here, name, flags, Mode::empty())?,
            Component::ParentDir => return Ok(false),
            _ => {}
        }
        if FileType::from_raw_mode(fstat(&here)?.st_mode) == FileType::Symlink {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_directory(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    Ok(FileType::from_raw_mode(fstat(fd)?.st_mode) == FileType::Directory)
}

const READ_ONLY: MountAttr = MountAttr {
    set: RDONLY,
    clear: 0,
    propagation: 0,
};

/// Of statfs(2).
const CGROUP2_MAGIC: rustix::fs::FsWord = 0x6367_7270;
/// Of statfs(2).
const SYSFS_MAGIC: rustix::fs::FsWord = 0x6265_6572;

/// Covers paths: a directory by an empty read-only one, a file by the null device. What is not
/// there needs no cover; a link is refused, for what it points to would be covered in its place.
///
/// Of the machine's root the null device is covered read-only: its owner and mode are the host's.
pub(crate) fn mask(root: &Root, paths: &[PathBuf], host_root: bool) -> Result<(), Failure> {
    let mut empty: Option<OwnedFd> = None;
    for path in paths {
        let what = || format!("mask {}", path.display());
        let Some(place) = existing(root, path).step(what)? else {
            continue;
        };
        let tree = if !is_directory(place.as_fd()).step(what)? {
            let null = device("null", (1, 3))?;
            if host_root {
                mount_setattr(null.as_fd(), false, READ_ONLY, None).step(what)?;
            }
            null
        } else if let Some(first) = &empty {
            // Only what is attached can be cloned before Linux 6.15; the first one is by now.
            clone_tree(first).step(what)?
        } else {
            empty_directory(&what)?
        };
        attach(tree.as_fd(), place.as_fd()).step(what)?;
        if empty.is_none() && is_directory(tree.as_fd()).step(what)? {
            empty = Some(tree);
        }
    }
    Ok(())
}

/// Makes paths read-only by binding them over themselves.
pub(crate) fn readonly(root: &Root, paths: &[PathBuf]) -> Result<(), Failure> {
    for path in paths {
        let what = || format!("make {} read-only", path.display());
        let Some(place) = existing(root, path).step(what)? else {
            continue;
        };
        let tree = open_tree(
            place.as_fd(),
            "",
            OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC
                | OpenTreeFlags::AT_EMPTY_PATH
                | OpenTreeFlags::AT_RECURSIVE,
        )
        .step(what)?;
        mount_setattr(tree.as_fd(), true, READ_ONLY, None).step(what)?;
        attach(tree.as_fd(), place.as_fd()).step(what)?;
    }
    Ok(())
}

fn existing(root: &Root, path: &Path) -> std::io::Result<Option<OwnedFd>> {
    match root.open(path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC) {
        Ok(place) => {
            let kind = FileType::from_raw_mode(fstat(&place)?.st_mode);
            if kind == FileType::Symlink {
                return Err(std::io::Error::other("it is a symbolic link"));
            }
            Ok(Some(place))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn empty_directory(what: &impl Fn() -> String) -> Result<OwnedFd, Failure> {
    let parameters = [
        (c"size".into(), Some(c"0".into())),
        (c"mode".into(), Some(c"0755".into())),
        (c"ro".into(), None),
    ];
    let tree = new_file_system(c"tmpfs", c"tmpfs", &parameters).step(what)?;
    mount_setattr(tree.as_fd(), false, READ_ONLY, None).step(what)?;
    Ok(tree)
}

/// Refuses a root in which a directory that kelp fills is a link: the image would choose where the
/// container's /proc or /dev ends up.
pub(crate) fn check_real_directories(root: &Root) -> Result<(), Failure> {
    for name in ["proc", "sys", "dev"] {
        match rustix::fs::statat(root.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) != FileType::Directory => {
                return Err(Failure::setup(format!(
                    "the image's /{name} is not a directory: refusing to mount over it"
                )));
            }
            Ok(_) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error).step(|| format!("look at /{name}")),
        }
    }
    Ok(())
}
