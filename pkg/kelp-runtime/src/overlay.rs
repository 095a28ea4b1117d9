//! Mounting an overlay of directories that are open already.
//!
//! Since Linux 6.5 the directories are given one by one (`lowerdir+`), and what comes out is a mount
//! that is attached nowhere. Before, all of them are one text: too long for fsconfig(2), which takes
//! 255 bytes, and with real paths for mount(2) as well, which takes a page. There they are named by
//! their descriptors, relative to /proc/self/fd: four bytes for a layer.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use kelp_sys::spawn::number;
use rustix::fs::{Mode, OFlags, mkdirat, open};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_fd, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, open_tree,
};

use crate::error::{Failure, Step};

/// With this variable in the environment overlays are mounted as on kernels before 6.5: for tests.
const OLD_KERNEL: &str = "KELP_TEST_OLD_OVERLAY";

/// What an overlay is made of.
#[derive(Debug)]
pub(crate) struct Parts {
    /// The layers, topmost first.
    pub(crate) lower: Vec<OwnedFd>,
    /// Where changes go.
    pub(crate) upper: OwnedFd,
    /// The overlay's own scratch directory, on the same file system.
    pub(crate) work: OwnedFd,
    /// Whether what is written may be lost with the machine's power.
    pub(crate) volatile: bool,
    /// The upper directory's path, for errors.
    pub(crate) shown: PathBuf,
}

/// Opens a directory of the host as a part.
pub(crate) fn directory(path: &Path) -> Result<OwnedFd, Failure> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    open(path, flags, Mode::empty()).step(|| format!("open {}", path.display()))
}

/// Mounts an overlay that is attached nowhere. `stage` is a directory that nothing else needs in this
/// mount namespace; `what` is for errors.
pub(crate) fn mount(parts: &Parts, stage: BorrowedFd<'_>, what: &str) -> Result<OwnedFd, Failure> {
    let (errno, said) = if std::env::var_os(OLD_KERNEL).is_some() {
        (Errno::INVAL, String::new())
    } else {
        match new_mount(parts) {
            Ok(tree) => return Ok(tree),
            Err(failed) => failed,
        }
    };
    // An older kernel finds out about the unknown parameter only when it has all of them.
    let errno = match errno {
        Errno::INVAL => match old_mount(parts, stage) {
            Ok(tree) => return Ok(tree),
            Err(errno) => errno,
        },
        errno => errno,
    };
    Err(Failure::setup(format!(
        "mount {what} (overlay): {}{}{said}; run `kelp doctor` to see what the file system of {} lacks",
        crate::error::plain(&errno.into()),
        if said.is_empty() { "" } else { ": " },
        parts.shown.display(),
    )))
}

/// By fsconfig(2); an error comes with what the kernel says about it.
fn new_mount(parts: &Parts) -> Result<OwnedFd, (Errno, String)> {
    let context =
        fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC).map_err(|errno| (errno, String::new()))?;
    configure(context.as_fd(), parts)
        .and_then(|()| {
            let flags = FsMountFlags::FSMOUNT_CLOEXEC;
            fsmount(context.as_fd(), flags, MountAttrFlags::empty())
        })
        .map_err(|errno| (errno, messages(context.as_fd())))
}

fn configure(context: BorrowedFd<'_>, parts: &Parts) -> Result<(), Errno> {
    for layer in &parts.lower {
        set_directory(context, "lowerdir+", layer.as_fd())?;
    }
    set_directory(context, "upperdir", parts.upper.as_fd())?;
    set_directory(context, "workdir", parts.work.as_fd())?;
    fsconfig_set_flag(context, "userxattr")?;
    if parts.volatile {
        // Without it, unmounting syncs the whole file system that the upper directory is on.
        fsconfig_set_flag(context, "volatile")?;
    }
    fsconfig_create(context)
}

/// Names a directory by its descriptor; where the kernel takes none (before Linux 6.15 none that is
/// only a place), by the link that /proc has of it, which asks for no rights along the path either.
fn set_directory(
    context: BorrowedFd<'_>,
    key: &str,
    directory: BorrowedFd<'_>,
) -> Result<(), Errno> {
    match fsconfig_set_fd(context, key, directory) {
        Err(Errno::INVAL | Errno::BADF) => {
            let path = format!("/proc/self/fd/{}", number(directory));
            fsconfig_set_string(context, key, path)
        }
        result => result,
    }
}

/// By mount(2), which needs a place to mount on. That is in a tmpfs of its own on the stage, so that
/// it can be named by its parent: the path to the stage is not one that everybody can walk.
fn old_mount(parts: &Parts, stage: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let context = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_create(context.as_fd())?;
    let flags = FsMountFlags::FSMOUNT_CLOEXEC;
    let place = fsmount(context.as_fd(), flags, MountAttrFlags::empty())?;
    crate::mounts::attach(place.as_fd(), stage)?;
    mkdirat(&place, "overlay", Mode::RWXU)?;
    let before = open(
        ".",
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    rustix::process::chdir("/proc/self/fd")?;
    let target = format!("{}/overlay", number(place.as_fd()));
    let options = CString::new(options(parts)).map_err(|_| Errno::INVAL)?;
    let mounted =
        rustix::mount::mount("overlay", target, "overlay", MountFlags::empty(), &*options);
    rustix::process::fchdir(&before)?;
    mounted?;
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    open_tree(&place, "overlay", flags)
}

/// The options of mount(2), whose names are those of descriptors in /proc/self/fd.
fn options(parts: &Parts) -> String {
    let name = |directory: &OwnedFd| number(directory.as_fd()).to_string();
    let lower: Vec<_> = parts.lower.iter().map(name).collect();
    let mut options = format!(
        "lowerdir={},upperdir={},workdir={},userxattr",
        lower.join(":"),
        name(&parts.upper),
        name(&parts.work),
    );
    if parts.volatile {
        options.push_str(",volatile");
    }
    options
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_layers_as_overlayfs_takes_fit_into_a_page() {
        let any = || directory(Path::new("/")).unwrap();
        let first = any();
        // The kernel's limit is 500 (OVL_MAX_STACK).
        let lower: Vec<_> = (0..500).map(|_| first.try_clone().unwrap()).collect();
        let parts = Parts {
            lower,
            upper: any(),
            work: any(),
            volatile: true,
            shown: PathBuf::new(),
        };
        let text = options(&parts);
        assert!(text.len() < 4096, "{} bytes", text.len());
        let upper = number(parts.upper.as_fd());
        assert!(text.contains(&format!(",upperdir={upper},")), "{text}");
    }
}
