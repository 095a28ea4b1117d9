//! The oracle: of an archive that is well formed, GNU tar and the extractor make the same tree.

use std::collections::BTreeMap;
use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::process::Command;

use kelp_image::merged::OPAQUE;
use kelp_image::unpack::{MODE_XATTR, Options, Ownership, unpack};
use rustix::fs::{Mode, OFlags};

use crate::archive::{Choice, Item, encode, well_formed};
use crate::tree::{self, Node};

/// Bytes that choose an archive, which two programs extract.
pub fn gnu_tar(input: &[u8]) {
    if let Err(difference) = compare(input) {
        panic!("{difference}");
    }
}

/// What the two make differently of the archive that these bytes choose.
///
/// By its owner's id, which must be the only one that is not root's, or by whoever has every id of a
/// user namespace.
pub fn compare(input: &[u8]) -> Result<(), String> {
    let ownership = if rustix::process::geteuid().is_root() {
        Ownership::Mapped
    } else {
        Ownership::Single
    };
    let mut items = well_formed(&mut Choice::new(input));
    if ownership == Ownership::Single {
        items.iter_mut().for_each(for_one_id);
    }
    let archive = encode(&items);
    let directory = tempfile::tempdir().map_err(|error| error.to_string())?;
    let (ours, theirs) = (
        directory.path().join("ours"),
        directory.path().join("theirs"),
    );
    let file = directory.path().join("archive.tar");
    for root in [&ours, &theirs] {
        fs::create_dir(root).map_err(|error| error.to_string())?;
    }
    fs::write(&file, &archive).map_err(|error| error.to_string())?;
    let result = extract_both(&archive, &file, &ours, &theirs, ownership);
    let compared = result.map(|()| {
        let implied = implied(&items);
        let tree = |root: &Path| prepared(tree::read(root), &implied);
        tree::differences(&tree(&ours), &tree(&theirs))
    });
    let _ = kelp_image::remove::remove_trees(&[ours, theirs]);
    match compared {
        Ok(differences) if differences.is_empty() => Ok(()),
        Ok(differences) => Err(format!("{}\n{}", differences.join("\n"), list(&items))),
        Err(error) => Err(format!("{error}\n{}", list(&items))),
    }
}

fn extract_both(
    archive: &[u8],
    file: &Path,
    ours: &Path,
    theirs: &Path,
    ownership: Ownership,
) -> Result<(), String> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(ours, flags, Mode::empty()).map_err(|error| error.to_string())?;
    let source = Cursor::new(archive.to_vec());
    let summary = unpack(source, root, Options::layer(ownership), None)
        .map_err(|error| format!("it is not extracted: {error}"))?;
    if summary.skipped_xattrs != 0 {
        return Err("an attribute was left out".to_owned());
    }
    let output = Command::new("tar")
        .args([
            "--xattrs",
            "--xattrs-include=*",
            "--acls",
            "--numeric-owner",
        ])
        // Otherwise it is done with a directory once another one comes, and entries that come back to
        // the first change its time; and links that lead up would be made at the end.
        .args(["--delay-directory-restore", "--absolute-names", "-xpf"])
        .arg(file)
        .arg("-C")
        .arg(theirs)
        .env("LC_ALL", "C")
        .output()
        .map_err(|error| format!("start tar: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(format!("tar: {said}"))
}

/// Files that are not to be written to have no attributes that tar could set, and are nobody else's.
fn for_one_id(item: &mut Item) {
    (item.entry.uid, item.entry.gid) = (0, 0);
    if !item.entry.xattrs.is_empty() {
        item.entry.mode |= 0o600;
    }
}

/// Directories that no entry is of, and so have the time at which they were made.
fn implied(items: &[Item]) -> Vec<Vec<u8>> {
    let clean = |path: &[u8]| {
        let parts = path.split(|&byte| byte == b'/');
        let parts: Vec<_> = parts.filter(|part| !matches!(*part, b"" | b".")).collect();
        parts.join(&b'/')
    };
    let named: Vec<_> = items.iter().map(|item| clean(&item.entry.path)).collect();
    let mut implied = vec![Vec::new()];
    for path in &named {
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        let parents = slashes.map(|(at, _)| path[..at].to_vec());
        implied.extend(parents.filter(|parent| !named.contains(parent)));
    }
    implied
}

/// A tree as it is to be compared: with what one id keeps in attributes where it belongs, and without
/// what is said of other layers.
fn prepared(mut tree: BTreeMap<Vec<u8>, Node>, implied: &[Vec<u8>]) -> BTreeMap<Vec<u8>, Node> {
    for (path, node) in &mut tree {
        if implied.contains(path) {
            node.mtime = (0, 0);
        }
        // A directory in the place of a file hides what lower layers have, which tar knows nothing of.
        node.xattrs.remove(OPAQUE.as_bytes());
        let kept = node.xattrs.remove(MODE_XATTR.as_bytes());
        let kept = kept.and_then(|text| String::from_utf8(text).ok());
        if let Some(mode) = kept.and_then(|text| u32::from_str_radix(&text, 8).ok()) {
            node.mode = (node.mode & !0o7777) | mode;
        }
    }
    tree
}

fn list(items: &[Item]) -> String {
    let line = |item: &Item| {
        let entry = &item.entry;
        format!(
            "{:?} {:?} {} {:o} {}.{} -> {} {} bytes, {:?}\n",
            item.format,
            entry.kind,
            entry.path.escape_ascii(),
            entry.mode,
            entry.mtime,
            entry.mtime_nanoseconds,
            entry.link.escape_ascii(),
            item.content.len(),
            entry.sparse
        )
    };
    items.iter().map(line).collect()
}
