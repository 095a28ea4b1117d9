//! The host's devices, for a privileged container.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use crate::container::config::CreateOptions;

/// What a /dev has of its own, or what is the terminal of somebody else's.
const OWN: &[&str] = &[
    "console", "ptmx", "null", "zero", "full", "random", "urandom",
];

/// Directories of /dev that are mounts of their own, or have no devices.
const NOT_DEVICES: &[&str] = &["pts", "shm", "mqueue", "fd", "hugepages"];

/// Every device in the host's /dev that is not there anyway, but no terminals (podman's choice); nothing
/// where something else is mounted in the request. Whether the user may open one is the device's own matter.
pub(crate) fn of_host(options: &CreateOptions) -> Vec<PathBuf> {
    let mut found = Vec::new();
    walk(Path::new("/dev"), &mut found);
    found.retain(|path| {
        let mut mounts = options.mounts.iter();
        !options.devices.contains(path)
            && !mounts.any(|mount| path.starts_with(mount.destination()))
    });
    found
}

/// The devices in a directory, and in those below it, but no terminals.
pub fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() && !NOT_DEVICES.contains(&&*name) {
            walk(&path, found);
        }
        let is_device = kind.is_char_device() || kind.is_block_device();
        if is_device && !name.starts_with("tty") && !OWN.contains(&&*name) {
            found.push(path);
        }
    }
    found.sort();
}
