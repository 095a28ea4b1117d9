//! Comparing the upper directory of an overlay with its layers.
//!
//! A directory is looked at together with those that it covers, one descriptor each, and no link is
//! followed: the trees are a container's. Whiteouts are character devices 0:0; an opaque directory
//! hides all that lies below it (overlayfs, "Whiteouts and opaque directories", with `userxattr`).

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CStr, CString, OsStr};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat, fgetxattr, openat, statat};
use rustix::io::Errno;

use super::{Change, ChangeKind};

const OPAQUE: &str = "user.overlay.opaque";

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
    let open = |path: &Path| rustix::fs::open(path, DIRECTORY, Mode::empty());
    let upper = open(upper)?;
    let layers = layers
        .iter()
        .map(|path| open(path))
        .collect::<Result<Vec<_>, _>>()?;
    let mut walk = Walk {
        mounted,
        changes: Vec::new(),
    };
    let covered = if is_opaque(upper.as_fd()) {
        Vec::new()
    } else {
        layers
    };
    walk.directory(Path::new("/"), upper.as_fd(), &covered, &[], 0)?;
    Ok(walk.changes)
}

struct Walk<'a> {
    mounted: &'a BTreeSet<PathBuf>,
    changes: Vec<Change>,
}

impl Walk<'_> {
    /// Compares one directory. `covered` are those of the layers that show through; `hidden` are
    /// those that would, were the directory not opaque. Whether all it holds are places for mounts,
    /// and at least one.
    fn directory(
        &mut self,
        path: &Path,
        upper: BorrowedFd<'_>,
        covered: &[OwnedFd],
        hidden: &[OwnedFd],
        depth: usize,
    ) -> io::Result<bool> {
        if depth > MAX_DEPTH {
            return Err(io::Error::other(format!("{}: too deep", path.display())));
        }
        let mut only_mounts = None;
        let mut kept = BTreeSet::new();
        for name in names(upper)? {
            let path = path.join(OsStr::from_bytes(name.to_bytes()));
            if self.mounted.contains(&path) {
                only_mounts.get_or_insert(true);
                kept.insert(name);
                continue;
            }
            let is_mount = self.entry(path, upper, &name, covered, hidden, depth)?;
            only_mounts = Some(only_mounts.unwrap_or(true) && is_mount);
            kept.insert(name);
        }
        // What an opaque directory no longer has.
        for name in merged(hidden)? {
            let path = path.join(OsStr::from_bytes(name.to_bytes()));
            if !kept.contains(&name) && !self.mounted.contains(&path) {
                self.add(path, ChangeKind::Deleted);
            }
        }
        Ok(only_mounts.unwrap_or(false))
    }

    /// Compares one entry; whether it is there for mounts alone.
    fn entry(
        &mut self,
        path: PathBuf,
        upper: BorrowedFd<'_>,
        name: &CStr,
        covered: &[OwnedFd],
        hidden: &[OwnedFd],
        depth: usize,
    ) -> io::Result<bool> {
        let stat = match statat(upper, name, AtFlags::SYMLINK_NOFOLLOW) {
            // The container may be at work.
            Err(Errno::NOENT) => return Ok(false),
            stat => stat?,
        };
        let all: Vec<_> = covered.iter().chain(hidden).collect();
        let below = look_up(&all, name)?;
        if is_whiteout(&stat) {
            if below.exists {
                self.add(path, ChangeKind::Deleted);
            }
            return Ok(false);
        }
        let kind = if below.exists {
            ChangeKind::Changed
        } else {
            ChangeKind::Added
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            self.add(path, kind);
            return Ok(false);
        }
        let directory = openat(upper, name, DIRECTORY, Mode::empty())?;
        let place = self.changes.len();
        let (covered, hidden) = if is_opaque(directory.as_fd()) {
            (Vec::new(), below.directories)
        } else {
            (below.directories, Vec::new())
        };
        let only_mounts = self.directory(&path, directory.as_fd(), &covered, &hidden, depth + 1)?;
        if !only_mounts {
            self.changes.insert(place, Change { path, kind });
        }
        Ok(only_mounts)
    }

    fn add(&mut self, path: PathBuf, kind: ChangeKind) {
        self.changes.push(Change { path, kind });
    }
}

/// What the layers have by a name.
#[derive(Default)]
struct Below {
    exists: bool,
    /// If it is a directory, those that make it up.
    directories: Vec<OwnedFd>,
}

fn look_up(layers: &[&OwnedFd], name: &CStr) -> io::Result<Below> {
    let mut below = Below::default();
    for layer in layers {
        let stat = match statat(layer, name, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => continue,
            stat => stat?,
        };
        if is_whiteout(&stat) {
            break;
        }
        let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        if below.exists && !is_directory {
            break;
        }
        below.exists = true;
        if !is_directory {
            break;
        }
        let directory = openat(layer, name, DIRECTORY, Mode::empty())?;
        let opaque = is_opaque(directory.as_fd());
        below.directories.push(directory);
        if opaque {
            break;
        }
    }
    Ok(below)
}

/// The names that directories of layers show together, topmost first.
fn merged(layers: &[OwnedFd]) -> io::Result<Vec<CString>> {
    let mut seen = BTreeMap::new();
    for layer in layers {
        for name in names(layer.as_fd())? {
            let stat = statat(layer, &name, AtFlags::SYMLINK_NOFOLLOW)?;
            seen.entry(name).or_insert(!is_whiteout(&stat));
        }
    }
    Ok(seen
        .into_iter()
        .filter_map(|(name, shows)| shows.then_some(name))
        .collect())
}

pub(super) fn names(directory: BorrowedFd<'_>) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

fn is_whiteout(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn is_opaque(directory: BorrowedFd<'_>) -> bool {
    let mut value = [0; 1];
    fgetxattr(directory, OPAQUE, &mut value[..]).is_ok_and(|length| length == 1 && value[0] == b'y')
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rustix::fs::{CWD, XattrFlags, fsetxattr, mknodat};

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
