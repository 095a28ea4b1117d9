//! Mounting an overlay of directories that are open already.
//!
//! Nothing leads through the user's directories once the process is the container's root: the parts
//! are opened by the user's own rights before, and the kernel gets descriptors.
//!
//! Since Linux 6.5 the directories are given one by one (`lowerdir+`), and what comes out is a mount
//! that is attached nowhere. Before, all of them are one text: too long for fsconfig(2), which takes
//! 255 bytes, and with real paths for mount(2) as well, which takes a page. There they are named by
//! their descriptors, relative to /proc/self/fd: four bytes for a layer.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use kelp_sys::spawn::number;
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Uid, chmodat, chownat, fstat, mkdirat, open, openat};
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, OpenTreeFlags, fsconfig_create,
    fsconfig_set_fd, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, mount, open_tree,
};
use rustix::process::{chdir, fchdir};

use crate::error::{Failure, Step};

/// With this variable in the environment overlays are mounted as on kernels before 6.5: for tests.
const OLD_KERNEL: &str = "KELP_TEST_OLD_OVERLAY";

/// What an overlay is made of.
#[derive(Debug)]
pub(crate) struct Overlay {
    lower: Vec<OwnedFd>,
    upper: Option<Upper>,
    volatile: bool,
}

/// Where changes go.
#[derive(Debug)]
struct Upper {
    directory: OwnedFd,
    work: OwnedFd,
    shown: PathBuf,
}

impl Overlay {
    /// Opens the layers, topmost first, and the directories for changes and for overlayfs itself.
    pub(crate) fn open(
        lower: &[PathBuf],
        upper: Option<(&PathBuf, &PathBuf)>,
        volatile: bool,
    ) -> Result<Self, Failure> {
        let lower: Result<Vec<_>, _> = lower.iter().map(|path| directory(path)).collect();
        let upper = match upper {
            Some((upper, work)) => Some(Upper {
                directory: directory(upper)?,
                work: directory(work)?,
                shown: upper.clone(),
            }),
            None => None,
        };
        Ok(Self {
            lower: lower?,
            upper,
            volatile,
        })
    }

    /// Where the user is not the container's root, the directories that the user has made for its
    /// files are still the user's; the root of the overlay is what the upper directory is.
    pub(crate) fn give_to_root(&self) -> Result<(), Failure> {
        if rustix::process::geteuid().is_root() {
            return Ok(());
        }
        for (directory, upper) in self.own() {
            give(directory, (0, 0), &upper.shown)?;
        }
        Ok(())
    }

    /// Whether what is written now is the first that is, and goes with the run; the user's own upper
    /// directory stays as the last run left it.
    pub(crate) fn is_new(&self) -> bool {
        self.volatile
    }

    /// Makes the upper directory what the topmost layer's root is, which it covers.
    pub(crate) fn imitate(&self) -> Result<(), Failure> {
        let (Some(upper), Some(top)) = (&self.upper, self.lower.first()) else {
            return Ok(());
        };
        let what = || format!("set the mode of {}", upper.shown.display());
        let stat = fstat(top).step(what)?;
        for (directory, upper) in self.own() {
            // An owner that the container has no id for stays who made it.
            let _ = give(directory, (stat.st_uid, stat.st_gid), &upper.shown);
        }
        let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
        chmodat(&upper.directory, ".", mode, AtFlags::empty()).step(what)
    }

    fn own(&self) -> impl Iterator<Item = (BorrowedFd<'_>, &Upper)> {
        self.upper.iter().flat_map(|upper| {
            [&upper.directory, &upper.work].map(|directory| (directory.as_fd(), upper))
        })
    }

    /// Mounts it, attached nowhere. `stage` is a directory that has nothing of use mounted on it in this
    /// mount namespace.
    pub(crate) fn mount(&self, stage: BorrowedFd<'_>) -> Result<OwnedFd, Failure> {
        self.try_mount(stage).map_err(|(errno, said)| {
            let shown = self.upper.as_ref().map(|upper| upper.shown.display());
            Failure::setup(format!(
                "mount an overlay: {}{}{said}; run `kelp doctor` to see what the file system{} \
                 lacks",
                crate::error::plain(&errno.into()),
                if said.is_empty() { "" } else { ": " },
                shown.map_or_else(String::new, |shown| format!(" of {shown}")),
            ))
        })
    }

    /// The same; an error comes with what the kernel says about it.
    fn try_mount(&self, stage: BorrowedFd<'_>) -> Result<OwnedFd, (Errno, String)> {
        let (errno, said) = if std::env::var_os(OLD_KERNEL).is_some() {
            (Errno::INVAL, String::new())
        } else {
            match self.new_mount() {
                Ok(tree) => return Ok(tree),
                Err(failed) => failed,
            }
        };
        // Before Linux 6.5 overlayfs gets its parameters as one text, and fsconfig(2) takes no
        // descriptor (EOPNOTSUPP).
        match errno {
            Errno::INVAL | Errno::OPNOTSUPP => self.old_mount(stage).map_err(|errno| (errno, said)),
            errno => Err((errno, said)),
        }
    }

    /// By fsconfig(2); an error comes with what the kernel says about it.
    fn new_mount(&self) -> Result<OwnedFd, (Errno, String)> {
        let context = fsopen("overlay", FsOpenFlags::FSOPEN_CLOEXEC)
            .map_err(|errno| (errno, String::new()))?;
        self.configure(context.as_fd())
            .and_then(|()| {
                let flags = FsMountFlags::FSMOUNT_CLOEXEC;
                fsmount(context.as_fd(), flags, MountAttrFlags::empty())
            })
            .map_err(|errno| (errno, messages(context.as_fd())))
    }

    fn configure(&self, context: BorrowedFd<'_>) -> Result<(), Errno> {
        for layer in &self.lower {
            set_directory(context, "lowerdir+", layer.as_fd())?;
        }
        if let Some(upper) = &self.upper {
            set_directory(context, "upperdir", upper.directory.as_fd())?;
            set_directory(context, "workdir", upper.work.as_fd())?;
        }
        fsconfig_set_flag(context, "userxattr")?;
        if self.volatile {
            // Without it, unmounting syncs the whole file system that the upper directory is on.
            fsconfig_set_flag(context, "volatile")?;
        }
        fsconfig_create(context)
    }

    /// By mount(2), which needs a place to mount on. That is in a tmpfs of its own on the stage, so
    /// that it can be named by its parent: the path to the stage is not one that everybody can walk.
    fn old_mount(&self, stage: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
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
        chdir("/proc/self/fd")?;
        let target = format!("{}/overlay", number(place.as_fd()));
        let options = CString::new(self.options()).map_err(|_| Errno::INVAL)?;
        let mounted = mount("overlay", target, "overlay", MountFlags::empty(), &*options);
        fchdir(&before)?;
        mounted?;
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        open_tree(&place, "overlay", flags)
    }

    /// The options of mount(2), whose names are those of descriptors in /proc/self/fd.
    fn options(&self) -> String {
        let name = |directory: &OwnedFd| number(directory.as_fd()).to_string();
        let lower: Vec<_> = self.lower.iter().map(name).collect();
        let mut options = format!("lowerdir={},userxattr", lower.join(":"));
        if let Some(upper) = &self.upper {
            let directories = [&upper.directory, &upper.work].map(name);
            let [directory, work] = directories;
            options.extend([",upperdir=", &directory, ",workdir=", &work]);
        }
        if self.volatile {
            options.push_str(",volatile");
        }
        options
    }
}

/// Mounts an overlay as a container's root is, of three directories of one file system, and writes a
/// file through it. The caller has a mount namespace of its own, in which nothing of use is mounted on
/// `stage`.
///
/// # Errors
/// What the kernel has against it.
pub fn probe(lower: &Path, upper: &Path, work: &Path, stage: &Path) -> std::io::Result<()> {
    let overlay = Overlay {
        lower: vec![place(lower)?],
        upper: Some(Upper {
            directory: place(upper)?,
            work: place(work)?,
            shown: upper.to_owned(),
        }),
        volatile: true,
    };
    let mounted = overlay.try_mount(place(stage)?.as_fd());
    let tree = mounted.map_err(|(errno, _)| errno)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
    let file = openat(&tree, "file", flags, Mode::RUSR | Mode::WUSR)?;
    rustix::io::write(file, b"x")?;
    Ok(())
}

/// A directory of the host, as a place only.
pub(crate) fn directory(path: &Path) -> Result<OwnedFd, Failure> {
    place(path).step(|| format!("open {}", path.display()))
}

fn place(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    open(path, flags, Mode::empty())
}

fn give(directory: BorrowedFd<'_>, owner: (u32, u32), shown: &Path) -> Result<(), Failure> {
    let what = || format!("give {} to the container's root", shown.display());
    let stat = fstat(directory).step(what)?;
    if (stat.st_uid, stat.st_gid) == owner {
        return Ok(());
    }
    let (uid, gid) = (Uid::from_raw(owner.0), Gid::from_raw(owner.1));
    chownat(directory, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH).step(what)
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
        let overlay = Overlay {
            lower,
            upper: Some(Upper {
                directory: any(),
                work: any(),
                shown: PathBuf::new(),
            }),
            volatile: true,
        };
        let text = overlay.options();
        assert!(text.len() < 4096, "{} bytes", text.len());
        let upper = number(overlay.upper.as_ref().unwrap().directory.as_fd());
        assert!(text.contains(&format!(",upperdir={upper},")), "{text}");
    }
}
