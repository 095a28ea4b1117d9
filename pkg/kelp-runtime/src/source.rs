//! What mounts show of the host: opened by the user's own rights, and made a mount of by those of
//! the container's root, who may have none on the way there.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, open, openat2};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::error::{Failure, Step};
use crate::filling::Filling;
use crate::mount_plan::{MountPlan, Source};
use crate::mounts::attach;
use crate::overlay::Overlay;
use crate::rootfd::Root;

/// Opens what a mount binds, by the user's own rights: the container's root may have none on the way
/// to it.
pub(crate) fn open_source(mount: &MountPlan) -> Result<Opened, Failure> {
    let filling = mount.volume.as_ref().map(Filling::open).transpose()?;
    if let Some(opened) = &mount.opened {
        let what = || format!("open mount {}", mount.target.display());
        let parts = Parts::Tree(opened.try_clone().step(what)?);
        return Ok(Opened { parts, filling });
    }
    let parts = match &mount.source {
        Source::Bind {
            path,
            recursive,
            of: Some(process),
            ..
        } => Parts::Tree(bind_of(*process, path, *recursive)?),
        Source::Bind {
            path,
            recursive,
            beneath: None,
            ..
        } => Parts::Tree(bind(path, *recursive)?),
        Source::Bind {
            path,
            recursive,
            beneath: Some(place),
            ..
        } => Parts::Tree(bind_beneath(path, place, *recursive)?),
        Source::Overlay {
            lower,
            upper,
            volatile,
            beneath,
        } => {
            let upper = upper.as_ref().map(|(upper, work)| (upper, work));
            let overlay = Overlay::open(lower, upper, *volatile)?;
            Parts::Overlay(overlay, beneath.clone())
        }
        Source::FileSystem { .. } | Source::Cgroup { .. } | Source::Remount { .. } => {
            Parts::Nothing
        }
    };
    Ok(Opened { parts, filling })
}

/// What was opened for a mount.
#[derive(Debug)]
pub(crate) struct Opened {
    parts: Parts,
    /// Where it shows a volume.
    filling: Option<Filling>,
}

/// A mount that is attached nowhere, where it is of what was opened.
#[derive(Debug)]
pub(crate) struct Bound {
    /// The mount.
    pub(crate) tree: Option<OwnedFd>,
    /// The volume that it is, to be waited for.
    pub(crate) filling: Option<Filling>,
}

#[derive(Debug)]
enum Parts {
    /// All is made in the container.
    Nothing,
    /// A mount that is attached nowhere.
    Tree(OwnedFd),
    /// The parts of one, and the place in it that is wanted, instead of the whole.
    Overlay(Overlay, Option<PathBuf>),
}

impl Opened {
    /// Mounts what is not mounted yet, as the container's root, while nothing is attached to `place`.
    pub(crate) fn mount(self, place: BorrowedFd<'_>) -> Result<Bound, Failure> {
        let Self { parts, filling } = self;
        let tree = match parts {
            Parts::Nothing => None,
            Parts::Tree(tree) => Some(tree),
            Parts::Overlay(overlay, beneath) => {
                // A layer that changes below an overlay shows anything. It is not filled from here: the
                // copy goes to the layer above.
                if let Some(filling) = filling {
                    filling.wait()?;
                }
                let tree = mount_overlay(&overlay, beneath.as_deref(), place)?;
                return Ok(Bound {
                    tree: Some(tree),
                    filling: None,
                });
            }
        };
        Ok(Bound { tree, filling })
    }
}

fn mount_overlay(
    overlay: &Overlay,
    beneath: Option<&Path>,
    place: BorrowedFd<'_>,
) -> Result<OwnedFd, Failure> {
    if overlay.is_new() {
        overlay.imitate()?;
    }
    let tree = overlay.mount(place)?;
    let Some(beneath) = beneath else {
        return Ok(tree);
    };
    let what = || format!("find {} in the overlay", beneath.display());
    // Only what is attached can be cloned before Linux 6.15.
    attach(tree.as_fd(), place).step(what)?;
    let found = find(tree, beneath).step(what)?;
    clone_tree(&found).step(what)
}

/// Opens what a mount marked `U` gives to the container's user, where the container's own mounts do
/// not show: what is bound, and no more of it than that.
pub(crate) fn open_origin(mount: &MountPlan) -> Result<Option<OwnedFd>, Failure> {
    let Source::Bind {
        path,
        beneath,
        of: None,
        ..
    } = &mount.source
    else {
        return Ok(None);
    };
    match beneath {
        _ if !mount.chown => Ok(None),
        Some(place) => open_beneath(path, place).map(Some),
        None => open(
            path.as_c_str(),
            OFlags::PATH | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .map(Some)
        .step(|| format!("open {}", path.to_string_lossy())),
    }
}

/// Opens a place beneath a directory of the host.
fn open_beneath(path: &CStr, place: &Path) -> Result<OwnedFd, Failure> {
    let what = || format!("find {} in {}", place.display(), path.to_string_lossy());
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let base = open(path, flags, Mode::empty()).step(what)?;
    find(base, place).step(what)
}

/// Finds a place beneath a directory whose links are followed as if it were all there is: whoever made
/// them chose neither the place nor the host.
fn find(base: OwnedFd, place: &Path) -> std::io::Result<OwnedFd> {
    Root::new(base).open(place, OFlags::PATH | OFlags::CLOEXEC)
}

/// Binds a place beneath a directory.
fn bind_beneath(path: &CStr, place: &Path, recursive: bool) -> Result<OwnedFd, Failure> {
    clone_found(open_beneath(path, place)?, recursive)
        .step(|| format!("bind {} in {}", place.display(), path.to_string_lossy()))
}

/// A detached copy of a tree of the host's.
pub(crate) fn bind(path: &CStr, recursive: bool) -> Result<OwnedFd, Failure> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    match open_tree(CWD, path, flags) {
        // A tree with mounts in it, which came from the outer namespace, can't be shown without
        // them: the kernel locks them together (mount_namespaces(7)).
        Err(Errno::INVAL) if !recursive => bind(path, true),
        result => result.step(|| format!("bind {}", path.to_string_lossy())),
    }
}

/// A detached copy of a tree in the mount namespace of another container's process, which is not followed
/// over links: its root chose them.
///
/// The caller has one thread, and its working directory becomes the root.
pub(crate) fn bind_of(process: u32, path: &CStr, recursive: bool) -> Result<OwnedFd, Failure> {
    let what = || format!("bind {} of process {process}", path.to_string_lossy());
    let namespace = |process: &str| {
        let file = format!("/proc/{process}/ns/mnt");
        open(file, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
    };
    let own = namespace("self").step(what)?;
    let other = namespace(&process.to_string()).step(what)?;
    let enter = |namespace: &OwnedFd| {
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Mount)).step(what)
    };
    enter(&other)?;
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let found = openat2(CWD, path, flags, Mode::empty(), ResolveFlags::NO_SYMLINKS);
    let tree = found.and_then(|found| clone_found(found, recursive));
    // Before anything else is done.
    enter(&own)?;
    tree.step(what)
}

/// A detached copy of a mount.
pub(crate) fn clone_tree(tree: impl AsFd) -> Result<OwnedFd, Errno> {
    clone_found(tree, false)
}

/// A detached copy of what is open, with or without what is mounted below it.
pub(crate) fn clone_found(found: impl AsFd, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags = OpenTreeFlags::OPEN_TREE_CLONE
        | OpenTreeFlags::OPEN_TREE_CLOEXEC
        | OpenTreeFlags::AT_EMPTY_PATH;
    if recursive {
        flags |= OpenTreeFlags::AT_RECURSIVE;
    }
    open_tree(found, "", flags)
}
