//! What is in a directory, to the byte where the user may read it, so that two of them can be compared.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use crate::env::mapped;
use crate::image::digest;

/// Each path beneath a directory, with all that is known of it.
pub(crate) type Inventory = BTreeMap<String, String>;

/// What is in a data directory, without what tells of the past (events) or is empty and always there.
///
/// Times count in layers, where the archive gives them, and nowhere else.
pub(crate) fn of(data: &Path) -> Inventory {
    let mut found = Inventory::new();
    if data.exists() {
        add(data, "", &mut found);
    }
    found.retain(|path, what| {
        let past = matches!(path.as_str(), "/events" | "/events.1" | "/lock");
        !(past || what.starts_with('4') && is_structure(path))
    });
    found
}

/// Whether a directory is there whatever else is.
fn is_structure(path: &str) -> bool {
    let parts: Vec<_> = path.split('/').skip(1).collect();
    matches!(parts[..], [_] | ["blobs" | "layers", _])
}

fn add(directory: &Path, name: &str, found: &mut Inventory) {
    // Somebody else's may be closed to the user.
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let entry = entry.unwrap();
        let (path, file) = (entry.path(), entry.file_name());
        let name = format!("{name}/{}", String::from_utf8_lossy(file.as_bytes()));
        let metadata = fs::symlink_metadata(&path);
        let metadata = metadata.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let kind = metadata.file_type();
        let content = if kind.is_symlink() {
            fs::read_link(&path).unwrap().display().to_string()
        } else if kind.is_file() {
            fs::read(&path).map_or_else(|error| error.to_string(), |bytes| digest(&bytes))
        } else {
            String::new()
        };
        // The layer's own directory is made by the extraction, and so are whiteouts.
        let in_layer = name.starts_with("/layers/") && name.split('/').count() > 4;
        let in_layer = in_layer && !kind.is_char_device();
        let time = if in_layer {
            format!("{}.{:09}", metadata.mtime(), metadata.mtime_nsec())
        } else {
            String::new()
        };
        let links = if kind.is_dir() { 0 } else { metadata.nlink() };
        let text = format!(
            "{:o} {}:{} {} links {links} {time} {content}",
            metadata.mode(),
            metadata.uid(),
            metadata.gid(),
            if kind.is_dir() { 0 } else { metadata.len() },
        );
        if kind.is_dir() {
            add(&path, &name, found);
        }
        found.insert(name, text);
    }
}

/// What differs, a line each; nothing if nothing does.
pub(crate) fn difference(expected: &Inventory, found: &Inventory) -> String {
    let mut lines = Vec::new();
    for (path, what) in expected {
        match found.get(path) {
            None => lines.push(format!("missing: {path} {what}")),
            Some(other) if other != what => lines.push(format!("{path}: {what}, is {other}")),
            Some(_) => {}
        }
    }
    let more = found.keys().filter(|path| !expected.contains_key(*path));
    lines.extend(more.map(|path| format!("more: {path} {}", found[path])));
    lines.join("\n")
}

/// What is the same in both.
pub(crate) fn common(one: &Inventory, other: &Inventory) -> Inventory {
    let same = |(path, what): &(&String, &String)| other.get(*path) == Some(*what);
    let same = one.iter().filter(same);
    same.map(|(path, what)| (path.clone(), what.clone()))
        .collect()
}

/// All that a directory has, by the ids that own it: kinds, modes, owners, sizes, times of content and of
/// change, and names.
pub(crate) fn with_times(directory: &Path) -> String {
    let told = mapped("find")
        .arg(directory)
        .args(["-printf", "%y %m %U %s %T@ %C@ %p\\n"])
        .output()
        .unwrap();
    assert!(told.status.success(), "{told:?}");
    String::from_utf8(told.stdout).unwrap()
}
