//! The container's root: an overlay, or a directory mounted on itself.
//!
//! Runs in the container's mount namespace, before the pivot.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use kelp_sys::mount_attr::{MountAttr, mount_setattr};
use rustix::fs::{CWD, Mode, OFlags, open};
use rustix::io::Errno;
use rustix::mount::{OpenTreeFlags, open_tree};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::error::{Failure, Step};
use crate::overlay::{Overlay, directory};
use crate::plan::Rootfs;
use crate::source::clone_found;

/// What the root is made of, opened by the user's own rights.
///
/// The container's root may be a subordinate id, or the user not be mapped at all: then nothing
/// leads through the user's directories once the process is the container's root, and all that is on
/// the host's side must be open before.
#[derive(Debug)]
pub(crate) struct Opened {
    parts: Parts,
    /// Where the root is attached until the pivot.
    attach: OwnedFd,
}

#[derive(Debug)]
enum Parts {
    Tree(OwnedFd),
    Overlay(Overlay),
}

impl Opened {
    /// Where the root will be attached, and nothing is yet.
    pub(crate) fn place(&self) -> BorrowedFd<'_> {
        self.attach.as_fd()
    }
}

/// Opens what the root is made of; `attach` is a directory of the host, which kelp owns.
pub(crate) fn open_parts(rootfs: &Rootfs, attach: &Path) -> Result<Opened, Failure> {
    let parts = match rootfs {
        Rootfs::Directory(path) | Rootfs::Copied { root: path, .. } => {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC
                | OpenTreeFlags::AT_RECURSIVE;
            let tree = open_tree(CWD, path, flags)
                .step(|| format!("open root file system {}", path.display()))?;
            Parts::Tree(tree)
        }
        Rootfs::Overlay {
            lower,
            upper,
            work,
            volatile,
        } => {
            let opened = Overlay::open(lower, Some((upper, work)), *volatile)?;
            opened.give_to_root()?;
            Parts::Overlay(opened)
        }
    };
    let attach = directory(attach)?;
    Ok(Opened { parts, attach })
}

/// Makes the root and attaches it; returns a descriptor of the root directory.
pub(crate) fn mount(opened: Opened) -> Result<OwnedFd, Failure> {
    let Opened { parts, attach } = opened;
    let tree = match parts {
        Parts::Tree(tree) => tree,
        Parts::Overlay(overlay) => overlay.mount(attach.as_fd())?,
    };
    crate::mounts::attach(tree.as_fd(), attach.as_fd())
        .step(|| "attach the root file system".to_owned())?;
    Ok(tree)
}

/// Makes `root` the root directory, and lets go of the old one.
///
/// pivot_root(2) with both arguments the same directory: the old root ends up mounted over the new
/// one, and is unmounted from there, with no directory needed for it.
pub(crate) fn pivot(root: BorrowedFd<'_>) -> Result<(), Failure> {
    let what = || "pivot into the root file system".to_owned();
    let old = open(
        "/",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .step(what)?;
    rustix::process::fchdir(root).step(what)?;
    rustix::process::pivot_root(".", ".").step(what)?;
    rustix::process::fchdir(&old).step(what)?;
    // Nothing that is unmounted here may go on to the host.
    rustix::mount::mount_change(
        ".",
        rustix::mount::MountPropagationFlags::DOWNSTREAM
            | rustix::mount::MountPropagationFlags::REC,
    )
    .step(what)?;
    rustix::mount::unmount(".", rustix::mount::UnmountFlags::DETACH).step(what)?;
    rustix::process::chdir("/").step(what)
}

/// Makes a copy of the tree at `root` the root directory of this process, in a mount namespace of others.
///
/// Nothing is attached in there, not for a moment: the tree was made in a namespace that ends with this step, and
/// the copy belongs to none. Once its descriptor is closed it is as after a lazy unmount, but in one piece
/// (open_tree(2), `OPEN_TREE_CLONE`), for as long as a process has its root or a file in it. Nobody can get out
/// of it by `..`: above it is nothing.
pub(crate) fn enter_among(root: BorrowedFd<'_>, namespace: BorrowedFd<'_>) -> Result<(), Failure> {
    let what = || "enter the root file system in the mount namespace that is joined".to_owned();
    let tree = clone_found(root, true).step(what)?;
    match move_into_link_name_space(namespace, Some(LinkNameSpaceType::Mount)) {
        Err(Errno::PERM) => {
            return Err(Failure::setup(
                "join the mount namespace: it is another user namespace's: join that one as well, or have a new \
                 mount namespace",
            ));
        }
        joined => joined.step(|| "join the mount namespace".to_owned())?,
    }
    enter(tree.as_fd()).step(what)
}

/// Makes a directory the root directory of this process alone.
pub(crate) fn enter(root: BorrowedFd<'_>) -> Result<(), Errno> {
    rustix::process::fchdir(root)?;
    rustix::process::chroot(".")
}

/// Sets the root's own attributes and propagation; the last act on it.
pub(crate) fn finish(
    root: BorrowedFd<'_>,
    readonly: bool,
    propagation: (u64, bool),
) -> Result<(), Failure> {
    let (bits, recursive) = propagation;
    // The namespace was made private below the host's; what a private or slave root shows is the
    // same, and only `shared` needs a call.
    if bits != kelp_sys::mount_attr::MS_SLAVE {
        let attr = MountAttr {
            propagation: bits,
            ..MountAttr::default()
        };
        mount_setattr(root, recursive, attr, None)
            .step(|| "set the propagation of /".to_owned())?;
    }
    if readonly {
        let attr = MountAttr {
            set: kelp_sys::mount_attr::RDONLY,
            ..MountAttr::default()
        };
        mount_setattr(root, false, attr, None).step(|| "make / read-only".to_owned())?;
    }
    Ok(())
}
