//! The rules of ARCHITECTURE.md, held over manifests and sources.
#![allow(clippy::unwrap_used)]

mod imports;
mod sources;

use std::fs;
use std::path::{Path, PathBuf};

/// The repository.
fn root() -> PathBuf {
    // At run time, because the checkout may have moved since the build.
    std::env::var_os("CARGO_MANIFEST_DIR")
        .map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from)
}

/// Every Rust source of the repository, as a path from its root.
fn sources() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for directory in ["src", "pkg", "tests"] {
        collect(&root().join(directory), &mut found);
    }
    found.sort();
    assert!(found.len() > 50, "only {} sources", found.len());
    found
        .iter()
        .map(|path| path.strip_prefix(root()).unwrap().to_owned())
        .collect()
}

fn collect(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.ends_with("target") {
            collect(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

fn read(path: &Path) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}
