//! The host's devices.

use std::fs;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

/// What a /dev has of its own.
const OWN: &[&str] = &[
    "console", "ptmx", "null", "zero", "full", "random", "urandom",
];

/// Directories of /dev that are mounts of their own, or have no devices.
const NOT_DEVICES: &[&str] = &["pts", "shm", "mqueue", "fd", "hugepages"];

/// The devices in a directory, and in those below it, but none that a container has anyway and no
/// terminals (podman's choice).
pub fn below(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    walk(directory, &mut found);
    found.sort();
    found
}

fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
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
}
