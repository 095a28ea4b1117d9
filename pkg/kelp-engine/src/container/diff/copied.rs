//! Comparing a copy of layers with what they show.
//!
//! Content is not read: what a container writes to a file changes its time, and as much is all that
//! docker and podman look at.

use std::collections::BTreeSet;
use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use kelp_copy::{is_directory, names};
use kelp_image::merged::{Merged, Shown};
use rustix::fs::{AtFlags, Mode, OFlags, Stat, openat, statat};
use rustix::io::Errno;

use super::{Change, ChangeKind};

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// How the tree at `root` differs from what the layers show, topmost first; `mounted` is left out.
pub(super) fn changes(
    root: &Path,
    layers: &[PathBuf],
    mounted: &BTreeSet<PathBuf>,
) -> io::Result<Vec<Change>> {
    let root = rustix::fs::open(root, DIRECTORY, Mode::empty())?;
    let mut walk = Walk {
        mounted,
        changes: Vec::new(),
    };
    walk.directory(Path::new("/"), root.as_fd(), Some(&Merged::open(layers)?))?;
    Ok(walk.changes)
}

struct Walk<'a> {
    mounted: &'a BTreeSet<PathBuf>,
    changes: Vec<Change>,
}

/// What a directory has in it.
enum Content {
    Nothing,
    Same,
    /// Places for mounts that the image does not have, and nothing else that differs.
    Mounts,
    Changed,
}

impl Walk<'_> {
    fn directory(
        &mut self,
        path: &Path,
        directory: BorrowedFd<'_>,
        image: Option<&Merged>,
    ) -> io::Result<Content> {
        let before = self.changes.len();
        let mut gone = match image {
            Some(image) => image.entries()?,
            None => std::collections::BTreeMap::new(),
        };
        let names = names(directory)?;
        let mut content = Content::Nothing;
        for name in names {
            let path = path.join(OsStr::from_bytes(name.to_bytes()));
            let shown = gone.remove(&name);
            if self.mounted.contains(&path) {
                if shown.is_none() {
                    content = Content::Mounts;
                }
                continue;
            }
            let image = image.zip(shown.as_ref());
            match self.entry(path, directory, &name, image)? {
                Content::Mounts => content = Content::Mounts,
                _ if matches!(content, Content::Nothing) => content = Content::Same,
                _ => {}
            }
        }
        for name in gone.into_keys() {
            let path = path.join(OsStr::from_bytes(name.to_bytes()));
            if !self.mounted.contains(&path) {
                self.add(path, ChangeKind::Deleted);
            }
        }
        if self.changes.len() > before {
            return Ok(Content::Changed);
        }
        Ok(content)
    }

    /// Compares one entry; `Mounts` if it is there for mounts alone.
    fn entry(
        &mut self,
        path: PathBuf,
        at: BorrowedFd<'_>,
        name: &CString,
        image: Option<(&Merged, &Shown)>,
    ) -> io::Result<Content> {
        let stat = match statat(at, name, AtFlags::SYMLINK_NOFOLLOW) {
            // The container may be at work.
            Err(Errno::NOENT) => return Ok(Content::Same),
            stat => stat?,
        };
        let changed = image.map(|(_, shown)| differs(&stat, &shown.stat));
        let kind = if image.is_some() {
            ChangeKind::Changed
        } else {
            ChangeKind::Added
        };
        if !is_directory(&stat) {
            if changed != Some(false) {
                self.add(path, kind);
            }
            return Ok(Content::Same);
        }
        let place = self.changes.len();
        let opened: OwnedFd = openat(at, name, DIRECTORY, Mode::empty())?;
        let below = match image {
            Some((merged, shown)) if is_directory(&shown.stat) => {
                Some(merged.directory(name, shown)?)
            }
            _ => None,
        };
        let content = self.directory(&path, opened.as_fd(), below.as_ref())?;
        match (content, changed) {
            (Content::Mounts, None) => return Ok(Content::Mounts),
            (Content::Changed, _) | (_, Some(true) | None) => {
                self.changes.insert(place, Change { path, kind });
            }
            (_, Some(false)) => {}
        }
        Ok(Content::Same)
    }

    fn add(&mut self, path: PathBuf, kind: ChangeKind) {
        self.changes.push(Change { path, kind });
    }
}

/// Whether one is not what the other was copied from.
fn differs(stat: &Stat, image: &Stat) -> bool {
    if (stat.st_mode, stat.st_uid, stat.st_gid) != (image.st_mode, image.st_uid, image.st_gid) {
        return true;
    }
    // What is in a directory is compared by itself.
    !is_directory(stat)
        && (stat.st_size, stat.st_mtime, stat.st_mtime_nsec)
            != (image.st_size, image.st_mtime, image.st_mtime_nsec)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn touch(root: &Path, path: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "x").unwrap();
    }

    #[test]
    fn a_copy_is_compared_with_what_it_was_copied_from() {
        let directory = tempfile::tempdir().unwrap();
        let [layer, root] = ["layer", "root"].map(|name| directory.path().join(name));
        fs::create_dir(&root).unwrap();
        for path in [
            "etc/a", "etc/b", "etc/gone", "same/x", "kind/f", "mode/x", "dev/null",
        ] {
            touch(&layer, path);
        }
        symlink("a", layer.join("etc/link")).unwrap();
        let mut copier = kelp_copy::Copier::new(File::open(&root).unwrap().as_fd()).unwrap();
        copier.tree(File::open(&layer).unwrap().as_fd()).unwrap();
        let list = || {
            let mounted = ["/proc", "/srv/data/mount", "/dev/null", "/opt/own/mount"];
            let mounted = mounted.iter().map(PathBuf::from).collect();
            let mut changes = changes(&root, std::slice::from_ref(&layer), &mounted).unwrap();
            changes.sort();
            let line =
                |change: &Change| format!("{} {}", change.kind.letter(), change.path.display());
            changes.iter().map(line).collect::<Vec<_>>()
        };
        assert_eq!(list(), Vec::<String>::new());
        fs::create_dir_all(root.join("srv/data/mount")).unwrap();
        fs::create_dir(root.join("proc")).unwrap();
        assert_eq!(list(), Vec::<String>::new());
        fs::write(root.join("etc/a"), "more").unwrap();
        fs::remove_file(root.join("etc/gone")).unwrap();
        touch(&root, "etc/new");
        fs::remove_file(root.join("etc/link")).unwrap();
        symlink("other", root.join("etc/link")).unwrap();
        fs::remove_dir_all(root.join("kind")).unwrap();
        touch(&root, "kind");
        fs::set_permissions(root.join("mode"), fs::Permissions::from_mode(0o711)).unwrap();
        fs::create_dir_all(root.join("opt/own/mount")).unwrap();
        touch(&root, "opt/own/file");
        fs::create_dir(root.join("empty")).unwrap();
        assert_eq!(
            list(),
            [
                "A /empty",
                "C /etc",
                "C /etc/a",
                "D /etc/gone",
                "C /etc/link",
                "A /etc/new",
                "C /kind",
                "C /mode",
                "A /opt",
                "A /opt/own",
                "A /opt/own/file",
            ]
        );
    }
}
