//! Comparing the upper directory of an overlay with its layers.
//!
//! No link is followed: the trees are a container's.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use kelp_copy::{is_directory, names};
use kelp_image::merged::{Merged, Shown, is_opaque_at, is_whiteout};
use rustix::fs::{AtFlags, Mode, OFlags, openat, statat};
use rustix::io::Errno;

use super::{Change, ChangeKind};

/// Deeper trees than this would take too many descriptors.
const MAX_DEPTH: usize = 200;

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// What `upper` changes in the layers, topmost first; `mounted` is left out.
pub(super) fn changes(
    upper: &Path,
    layers: &[PathBuf],
    mounted: &BTreeSet<PathBuf>,
) -> io::Result<Vec<Change>> {
    let directory = rustix::fs::open(upper, DIRECTORY, Mode::empty())?;
    let upper = Upper {
        directory: directory.as_fd(),
        image: Some(&Merged::open(layers)?),
        is_opaque: false,
    };
    let mut walk = Walk {
        mounted,
        changes: Vec::new(),
    };
    walk.directory(Path::new("/"), &upper, 0)?;
    Ok(walk.changes)
}

/// A directory that the container has, and the image's of that name.
struct Upper<'a> {
    directory: BorrowedFd<'a>,
    image: Option<&'a Merged>,
    /// Whether the image's is hidden: it was removed and made again.
    is_opaque: bool,
}

struct Walk<'a> {
    mounted: &'a BTreeSet<PathBuf>,
    changes: Vec<Change>,
}

impl Walk<'_> {
    /// Compares one directory. Whether all it holds are places for mounts, and at least one.
    fn directory(&mut self, path: &Path, upper: &Upper<'_>, depth: usize) -> io::Result<bool> {
        if depth > MAX_DEPTH {
            return Err(io::Error::other(format!("{}: too deep", path.display())));
        }
        let mut gone = match upper.image {
            Some(image) => image.entries()?,
            None => BTreeMap::new(),
        };
        let mut only_mounts = None;
        for name in names(upper.directory)? {
            let path = path.join(OsStr::from_bytes(name.to_bytes()));
            let shown = gone.remove(&name);
            if self.mounted.contains(&path) {
                only_mounts.get_or_insert(true);
                continue;
            }
            let image = upper.image.zip(shown.as_ref());
            let is_mount = self.entry(path, upper.directory, &name, image, depth)?;
            only_mounts = Some(only_mounts.unwrap_or(true) && is_mount);
        }
        for name in gone.into_keys().filter(|_| upper.is_opaque) {
            let path = path.join(OsStr::from_bytes(name.to_bytes()));
            if !self.mounted.contains(&path) {
                self.add(path, ChangeKind::Deleted);
            }
        }
        Ok(only_mounts.unwrap_or(false))
    }

    /// Compares one entry; whether it is there for mounts alone.
    fn entry(
        &mut self,
        path: PathBuf,
        at: BorrowedFd<'_>,
        name: &CStr,
        image: Option<(&Merged, &Shown)>,
        depth: usize,
    ) -> io::Result<bool> {
        let stat = match statat(at, name, AtFlags::SYMLINK_NOFOLLOW) {
            // The container may be at work.
            Err(Errno::NOENT) => return Ok(false),
            stat => stat?,
        };
        if is_whiteout(&stat) {
            if image.is_some() {
                self.add(path, ChangeKind::Deleted);
            }
            return Ok(false);
        }
        let kind = if image.is_some() {
            ChangeKind::Changed
        } else {
            ChangeKind::Added
        };
        if !is_directory(&stat) {
            self.add(path, kind);
            return Ok(false);
        }
        let directory = openat(at, name, DIRECTORY, Mode::empty())?;
        let image = match image {
            Some((image, shown)) if is_directory(&shown.stat) => {
                Some(image.directory(name, shown)?)
            }
            _ => None,
        };
        let upper = Upper {
            directory: directory.as_fd(),
            image: image.as_ref(),
            is_opaque: is_opaque_at(directory.as_fd()),
        };
        let place = self.changes.len();
        let only_mounts = self.directory(&path, &upper, depth + 1)?;
        if !only_mounts {
            self.changes.insert(place, Change { path, kind });
        }
        Ok(only_mounts)
    }

    fn add(&mut self, path: PathBuf, kind: ChangeKind) {
        self.changes.push(Change { path, kind });
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use kelp_image::merged::OPAQUE;
    use rustix::fs::{CWD, FileType, XattrFlags, fsetxattr, mknodat};

    use super::*;

    fn touch(root: &Path, path: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }

    fn white_out(root: &Path, path: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        mknodat(CWD, &path, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
    }

    fn make_opaque(root: &Path, path: &str) {
        let fd = rustix::fs::open(root.join(path), DIRECTORY, Mode::empty()).unwrap();
        fsetxattr(&fd, OPAQUE, b"y", XattrFlags::empty()).unwrap();
    }

    #[test]
    fn an_upper_directory_is_compared_with_what_shows_below() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let [upper, top, bottom] = ["upper", "top", "bottom"].map(|name| root.join(name));
        for path in [
            "etc/a", "etc/b", "etc/gone", "opt/x/1", "opt/x/2", "kind/f", "dead",
        ] {
            touch(&bottom, path);
        }
        touch(&top, "etc/c");
        white_out(&top, "etc/gone");
        white_out(&top, "dead");
        // Changed, added, deleted; and what a layer had deleted already is new.
        touch(&upper, "etc/a");
        touch(&upper, "etc/new");
        touch(&upper, "etc/gone");
        white_out(&upper, "etc/c");
        // A whiteout of nothing is nothing.
        white_out(&upper, "dead");
        // Removed and made again.
        touch(&upper, "opt/x/1");
        make_opaque(&upper, "opt/x");
        // A directory became a file.
        fs::write(upper.join("kind"), "").unwrap();
        // A link is not followed.
        std::os::unix::fs::symlink("/etc", upper.join("link")).unwrap();
        // Places for mounts, and what is there for them alone.
        touch(&upper, "run/.containerenv");
        fs::create_dir_all(upper.join("proc")).unwrap();
        touch(&upper, "srv/data/mount");
        touch(&upper, "srv/data/own");
        let mounted = ["/run/.containerenv", "/proc", "/srv/data/mount"];
        let mounted = mounted.iter().map(PathBuf::from).collect();
        let mut changes = changes(&upper, &[top, bottom], &mounted).unwrap();
        changes.sort();
        let lines: Vec<_> = changes
            .iter()
            .map(|change| format!("{} {}", change.kind.letter(), change.path.display()))
            .collect();
        assert_eq!(
            lines,
            [
                "C /etc",
                "C /etc/a",
                "D /etc/c",
                "A /etc/gone",
                "A /etc/new",
                "C /kind",
                "A /link",
                "C /opt",
                "C /opt/x",
                "C /opt/x/1",
                "D /opt/x/2",
                "A /srv",
                "A /srv/data",
                "A /srv/data/own",
            ]
        );
    }
}
