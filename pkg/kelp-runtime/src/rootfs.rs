//! The container's root: an overlay, or a directory mounted on itself.
//!
//! Runs in the container's mount namespace, before the pivot.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use kelp_sys::mount_attr::{MountAttr, mount_setattr};
use rustix::fs::{CWD, Mode, OFlags, open};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
};

use crate::error::{Failure, Step};
use crate::plan::Rootfs;

/// Makes the root and attaches it over `attach`; returns a descriptor of the root directory.
pub(crate) fn mount(rootfs: &Rootfs, attach: &Path) -> Result<OwnedFd, Failure> {
    let tree = match rootfs {
        Rootfs::Directory(path) => open_tree(
            CWD,
            path,
            OpenTreeFlags::OPEN_TREE_CLONE
                | OpenTreeFlags::OPEN_TREE_CLOEXEC
                | OpenTreeFlags::AT_RECURSIVE,
        )
        .step(|| format!("open root file system {}", path.display()))?,
        Rootfs::Overlay {
            lower,
            upper,
            work,
            volatile,
        } => overlay(lower, upper, work, *volatile)?,
    };
    attach_tree(tree.as_fd(), attach)?;
    Ok(tree)
}

/// Attaches a detached mount over a path of the host, which kelp owns.
fn attach_tree(tree: BorrowedFd<'_>, path: &Path) -> Result<(), Failure> {
    move_mount(tree, "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
        .step(|| format!("attach the root file system to {}", path.display()))
}

fn overlay(
    lower: &[PathBuf],
    upper: &Path,
    work: &Path,
    volatile: bool,
) -> Result<OwnedFd, Failure> {
    let what = || "mount the root file system (overlay)".to_owned();
    let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).step(what)?;
    for layer in lower {
        add_layer(context.as_fd(), layer, lower.len())?;
    }
    let set = |key: &str, value: &Path| {
        fsconfig_set_string(context.as_fd(), key, value)
            .step(|| format!("overlay: {key} {}", value.display()))
    };
    set("upperdir", upper)?;
    set("workdir", work)?;
    fsconfig_set_flag(context.as_fd(), "userxattr").step(what)?;
    if volatile {
        // Without it, unmounting syncs the whole file system that the upper directory is on.
        fsconfig_set_flag(context.as_fd(), "volatile").step(what)?;
    }
    if let Err(error) = fsconfig_create(context.as_fd()) {
        let said = messages(context.as_fd());
        return Err(Failure::setup(format!(
            "{}: {}{}{said}; run `kelp doctor` to see what the file system of {} lacks",
            what(),
            crate::error::plain(&error.into()),
            if said.is_empty() { "" } else { ": " },
            upper.display(),
        )));
    }
    fsmount(
        context.as_fd(),
        FsMountFlags::FSMOUNT_CLOEXEC,
        MountAttrFlags::empty(),
    )
    .step(what)
}

/// `lowerdir+` takes one layer at a time, with no limit on the text (Linux 6.5). The path may hold
/// any character, unlike in `lowerdir`, where a colon separates.
fn add_layer(context: BorrowedFd<'_>, layer: &Path, count: usize) -> Result<(), Failure> {
    match fsconfig_set_string(context, "lowerdir+", layer) {
        Ok(()) => Ok(()),
        Err(Errno::INVAL) if count == 1 => {
            fsconfig_set_string(context, "lowerdir", layer).step(|| "overlay: lowerdir".to_owned())
        }
        Err(error) => Err(Failure::setup(format!(
            "overlay: layer {}: {}",
            layer.display(),
            crate::error::plain(&error.into())
        ))),
    }
}

/// What the kernel says about a file system that it refused: the messages of the fs context.
fn messages(context: BorrowedFd<'_>) -> String {
    let mut text = String::new();
    let mut buffer = [0_u8; 512];
    while let Ok(length @ 1..) = rustix::io::read(context, &mut buffer) {
        let message = String::from_utf8_lossy(&buffer[..length]);
        let message = message.trim().trim_start_matches("e ");
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str(message);
    }
    text
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

/// Sets the root's own attributes and propagation; the last act on it.
pub(crate) fn finish(readonly: bool, propagation: (u64, bool)) -> Result<(), Failure> {
    let root = open(
        "/",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .step(|| "open /".to_owned())?;
    let (bits, recursive) = propagation;
    // The namespace was made private below the host's; what a private or slave root shows is the
    // same, and only `shared` needs a call.
    if bits != kelp_sys::mount_attr::MS_SLAVE {
        let attr = MountAttr {
            propagation: bits,
            ..MountAttr::default()
        };
        mount_setattr(root.as_fd(), recursive, attr, None)
            .step(|| "set the propagation of /".to_owned())?;
    }
    if readonly {
        let attr = MountAttr {
            set: kelp_sys::mount_attr::RDONLY,
            ..MountAttr::default()
        };
        mount_setattr(root.as_fd(), false, attr, None).step(|| "make / read-only".to_owned())?;
    }
    Ok(())
}
