//! A root file system of a container's own, copied from layers: for hosts on which no overlay can be
//! mounted.
//!
//! Each file is copied once, from the topmost layer that has it, and shares its blocks with the layer
//! where the file system can do that.

use std::ffi::{CStr, OsStr};
use std::fmt;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use kelp_copy::{Copier, is_directory, make_directory};
use rustix::fs::{Gid, Mode, OFlags, Uid, fchown, fstat};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::merged::Merged;

/// What could not be copied, and why.
#[derive(Debug)]
struct Fault {
    path: PathBuf,
    source: io::Error,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = self.source.to_string();
        // Without Rust's number.
        let why = why.split(" (os error").next().unwrap_or_default();
        write!(f, "copy /{}: {why}", self.path.display())?;
        let full = [Errno::NOSPC, Errno::DQUOT].map(|errno| Some(errno.raw_os_error()));
        if full.contains(&self.source.raw_os_error()) {
            f.write_str("; free some space (kelp system prune), or move $XDG_DATA_HOME")?;
        }
        Ok(())
    }
}

/// The role's arguments, after `kelp internal populate`: layers are topmost first. `root` is who the
/// root directory is for, and `synced` whether the copy must be on the disk at the end.
pub fn arguments(target: &Path, root: (u32, u32), synced: bool, layers: &[PathBuf]) -> Vec<String> {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let synced = if synced { "synced" } else { "-" };
    let (uid, gid) = root;
    let mut arguments = vec![
        text(target),
        uid.to_string(),
        gid.to_string(),
        synced.to_owned(),
    ];
    arguments.extend(layers.iter().map(|layer| text(layer)));
    arguments
}

/// Runs `kelp internal populate TARGET UID GID synced|- LAYER…`, inside a user namespace that has the ids of
/// the layers' files; the exit code, with a line on standard output if it is not 0.
pub fn main(arguments: &[String]) -> i32 {
    let [target, uid, gid, synced, layers @ ..] = arguments else {
        return 125;
    };
    let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse()) else {
        return 125;
    };
    rustix::process::umask(Mode::empty());
    let layers: Vec<_> = layers.iter().map(PathBuf::from).collect();
    match populate(Path::new(target), (uid, gid), &layers, synced == "synced") {
        Ok(()) => 0,
        Err(fault) => {
            let _ = io::stdout().write_all(fault.to_string().as_bytes());
            1
        }
    }
}

/// Copies what layers show to an empty directory, whose own mode stays as it is.
fn populate(
    target: &Path,
    (uid, gid): (u32, u32),
    layers: &[PathBuf],
    synced: bool,
) -> Result<(), Fault> {
    let fault = |source: io::Error| Fault {
        path: PathBuf::new(),
        source,
    };
    // Each level of the tree has a descriptor of each layer open.
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        ..limit
    };
    setrlimit(Resource::Nofile, raised).map_err(|error| fault(error.into()))?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root =
        rustix::fs::open(target, flags, Mode::empty()).map_err(|error| fault(error.into()))?;
    let merged = Merged::open(layers).map_err(fault)?;
    let mut copier = Copier::new(root.as_fd()).map_err(fault)?;
    beneath(&mut copier, &merged, root.as_fd(), Path::new(""))?;
    fchown(&root, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))
        .map_err(|error| fault(error.into()))?;
    if synced {
        rustix::fs::syncfs(&root).map_err(|error| fault(error.into()))?;
    }
    Ok(())
}

fn beneath(
    copier: &mut Copier,
    merged: &Merged,
    to: BorrowedFd<'_>,
    path: &Path,
) -> Result<(), Fault> {
    let fault = |path: &Path| {
        let path = path.to_owned();
        move |source| Fault { path, source }
    };
    for (name, shown) in merged.entries().map_err(fault(path))? {
        let path = path.join(as_path(&name));
        if is_directory(&shown.stat) {
            let from = merged.directory(&name, &shown).map_err(fault(&path))?;
            let made = make_directory(to, &name).map_err(fault(&path))?;
            beneath(copier, &from, made.as_fd(), &path)?;
            fstat(from.top())
                .map_err(io::Error::from)
                .and_then(|stat| copier.finish_directory(from.top(), &stat, made.as_fd()))
                .map_err(fault(&path))?;
        } else {
            copier
                .file(merged.of(&shown), &name, &shown.stat, to, &path)
                .map_err(fault(&path))?;
        }
    }
    Ok(())
}

fn as_path(name: &CStr) -> &Path {
    Path::new(OsStr::from_bytes(name.to_bytes()))
}
