//! Mounts that a user looks at and writes to: an image's files, and a container's, in the mount namespace
//! of the calling process, which is root there and has one thread.

use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use kelp_sys::mount_attr::{MountAttr, RDONLY, mount_setattr};
use rustix::mount::{UnmountFlags, unmount};

use crate::error::{Error, Failure, Step};
use crate::mounts::attach;
use crate::overlay::{Overlay, directory};
use crate::plan::Rootfs;
use crate::source;

/// Mounts what layers show, topmost first, so that it can only be read. `at` is an empty directory.
pub fn layers(layers: &[PathBuf], at: &Path) -> Result<(), Error> {
    said(mount_layers(layers, at))
}

/// Mounts the root of a container that does not run. Nobody else may have it mounted: what an overlay shows
/// whose upper directory is in use twice is undefined (overlayfs, "Non-standard behavior").
pub fn root(rootfs: &Rootfs, at: &Path) -> Result<(), Error> {
    said(mount_root(rootfs, at))
}

/// Mounts what a process has for its root, without what is mounted in it.
///
/// The calling process's working directory becomes the root.
pub fn root_of(process: u32, at: &Path) -> Result<(), Error> {
    said(mount_root_of(process, at))
}

fn said(result: Result<(), Failure>) -> Result<(), Error> {
    result.map_err(|failure| Error::Init(failure.text))
}

fn mount_layers(layers: &[PathBuf], at: &Path) -> Result<(), Failure> {
    let mut lower = layers.to_vec();
    if let [_] = lower.as_slice() {
        // The kernel makes no overlay of one directory that can't be written to, and the layer itself would
        // show what it has for the kernel alone, and take what is written to it. An empty one is below it.
        lower.push(at.to_owned());
    }
    let overlay = Overlay::open(&lower, None, false)?;
    place_overlay(&overlay, at, true)
}

fn mount_root(rootfs: &Rootfs, at: &Path) -> Result<(), Failure> {
    match rootfs {
        Rootfs::Overlay {
            lower, upper, work, ..
        } => {
            // Not `volatile`, which leaves a mark that keeps the next mount from being made.
            let overlay = Overlay::open(lower, Some((upper, work)), false)?;
            place_overlay(&overlay, at, false)
        }
        Rootfs::Directory(path) | Rootfs::Copied { root: path, .. } => {
            let what = || format!("show {}", path.display());
            let place = directory(at)?;
            let path = std::ffi::CString::new(path.as_os_str().as_bytes()).step(what)?;
            let tree = source::bind(&path, false)?;
            attach(tree.as_fd(), place.as_fd()).step(what)
        }
    }
}

fn mount_root_of(process: u32, at: &Path) -> Result<(), Failure> {
    let place = directory(at)?;
    let tree = source::bind_of(process, c"/", false)?;
    attach(tree.as_fd(), place.as_fd()).step(|| format!("mount on {}", at.display()))
}

fn place_overlay(overlay: &Overlay, at: &Path, read_only: bool) -> Result<(), Failure> {
    let what = || format!("mount on {}", at.display());
    let place = directory(at)?;
    let tree = overlay.mount(place.as_fd())?;
    // Before Linux 6.5 the overlay was made on a mount there, which is no longer needed.
    let _ = unmount(at, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW);
    if read_only {
        let attr = MountAttr {
            set: RDONLY,
            ..MountAttr::default()
        };
        mount_setattr(tree.as_fd(), false, attr, None).step(what)?;
    }
    attach(tree.as_fd(), place.as_fd()).step(what)
}
