//! The tree that layers show together, read without an overlay.
//!
//! As overlayfs does it: the topmost layer that has a name decides what it is, and directories of one
//! name are one, down to a whiteout, an opaque directory or something that is none. Where the file
//! system has no whiteouts, a layer keeps the markers of its archive (see [`crate::unpack`]), and they
//! mean the same.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, Dir, Mode, OFlags, Stat, accessat, fstat, openat, statat};
use rustix::io::Errno;

pub use crate::unpack::whiteout::{OPAQUE, is_opaque_at, is_whiteout};
use crate::unpack::whiteout::{OPAQUE_MARKER, PREFIX};

const DIRECTORY: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// A directory that layers show together.
#[derive(Debug)]
pub struct Merged {
    /// What makes it up, topmost first; not empty.
    parts: Vec<OwnedFd>,
    /// Whether files with the names of markers are such.
    has_markers: bool,
}

/// What a directory shows by one name.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    /// What it is.
    pub stat: Stat,
    /// The part that it is of.
    part: usize,
}

impl Merged {
    /// The root of layers, topmost first.
    pub fn open(layers: &[PathBuf]) -> io::Result<Self> {
        Self::open_as(layers, true)
    }

    /// The root of directories that an overlay has, topmost first: there a file with the name of a marker is
    /// a file like any other.
    pub fn open_overlay(directories: &[PathBuf]) -> io::Result<Self> {
        Self::open_as(directories, false)
    }

    fn open_as(layers: &[PathBuf], has_markers: bool) -> io::Result<Self> {
        let mut parts = Vec::with_capacity(layers.len());
        for layer in layers {
            let root = rustix::fs::open(layer, DIRECTORY, Mode::empty())?;
            let last = is_opaque(root.as_fd(), has_markers);
            parts.push(root);
            if last {
                break;
            }
        }
        Ok(Self { parts, has_markers })
    }

    /// The directory itself, as the topmost part has it.
    pub fn top(&self) -> BorrowedFd<'_> {
        self.parts[0].as_fd()
    }

    /// The file systems that the parts are on.
    pub fn devices(&self) -> io::Result<Vec<u64>> {
        let device = |part| Ok(fstat(part)?.st_dev);
        self.parts.iter().map(device).collect()
    }

    /// The directory that has what is shown.
    pub fn of(&self, shown: &Shown) -> BorrowedFd<'_> {
        self.parts[shown.part].as_fd()
    }

    /// What is in the directory.
    pub fn entries(&self) -> io::Result<BTreeMap<CString, Shown>> {
        let mut entries = BTreeMap::new();
        for (part, directory) in self.parts.iter().enumerate() {
            let mut hidden = Vec::new();
            for entry in Dir::read_from(directory)? {
                let name = entry?.file_name().to_owned();
                if matches!(name.to_bytes(), b"." | b"..") {
                    continue;
                }
                if let Some(name) = name.to_bytes().strip_prefix(PREFIX)
                    && self.has_markers
                {
                    hidden.extend(CString::new(name));
                    continue;
                }
                if entries.contains_key(&name) {
                    continue;
                }
                let stat = match statat(directory, &name, AtFlags::SYMLINK_NOFOLLOW) {
                    // A container may be at work in its topmost part.
                    Err(Errno::NOENT) => continue,
                    stat => stat?,
                };
                let shown = (!is_whiteout(&stat)).then_some(Shown { stat, part });
                entries.insert(name, shown);
            }
            // They concern the layers below alone.
            for name in hidden {
                entries.entry(name).or_insert(None);
            }
        }
        Ok(entries
            .into_iter()
            .filter_map(|(name, shown)| Some((name, shown?)))
            .collect())
    }

    /// A directory that is shown by this name.
    pub fn directory(&self, name: &CStr, shown: &Shown) -> io::Result<Self> {
        let marker = [PREFIX, name.to_bytes()].concat();
        let mut parts = Vec::new();
        for part in &self.parts[shown.part..] {
            match openat(part, name, DIRECTORY, Mode::empty()) {
                Ok(directory) => {
                    let last = is_opaque(directory.as_fd(), self.has_markers);
                    parts.push(directory);
                    if last {
                        break;
                    }
                }
                Err(Errno::NOENT) => {}
                // A whiteout, or a file.
                Err(Errno::NOTDIR | Errno::LOOP) => break,
                Err(error) => return Err(error.into()),
            }
            if self.has_markers && exists(part.as_fd(), &marker) {
                break;
            }
        }
        if parts.is_empty() {
            return Err(Errno::NOENT.into());
        }
        Ok(Self {
            parts,
            has_markers: self.has_markers,
        })
    }
}

/// Where the marker is that hides a path of the layers below.
pub fn marker(path: &Path) -> PathBuf {
    use std::os::unix::ffi::{OsStrExt, OsStringExt};
    let name = path.file_name().unwrap_or_default().as_bytes();
    path.with_file_name(std::ffi::OsString::from_vec([PREFIX, name].concat()))
}

fn is_opaque(directory: BorrowedFd<'_>, has_markers: bool) -> bool {
    is_opaque_at(directory) || has_markers && exists(directory, OPAQUE_MARKER)
}

fn exists(directory: BorrowedFd<'_>, name: &[u8]) -> bool {
    accessat(directory, name, Access::EXISTS, AtFlags::SYMLINK_NOFOLLOW).is_ok()
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, FileType, XattrFlags, fsetxattr, mknodat};
    use std::fs;

    use super::*;

    /// Writes the file's own layer in it.
    fn touch(root: &Path, path: &str) {
        let file = root.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, root.file_name().unwrap().to_str().unwrap()).unwrap();
    }

    fn tree(merged: &Merged, prefix: &str, into: &mut Vec<String>) {
        for (name, shown) in merged.entries().unwrap() {
            let path = format!("{prefix}{}", name.to_str().unwrap());
            if kelp_copy::is_directory(&shown.stat) {
                let directory = merged.directory(&name, &shown).unwrap();
                into.push(format!("{path}/"));
                tree(&directory, &format!("{path}/"), into);
            } else {
                let file = openat(merged.of(&shown), &name, OFlags::RDONLY, Mode::empty()).unwrap();
                let layer = io::read_to_string(fs::File::from(file)).unwrap();
                into.push(format!("{path}={layer}"));
            }
        }
    }

    /// What two layers show, the upper of which says by `hide` and `cover` what it hides.
    fn shown(hide: fn(&Path, &str), cover: fn(&Path, &str)) -> Vec<String> {
        let directory = tempfile::tempdir().unwrap();
        let [low, top] = ["low", "top"].map(|name| directory.path().join(name));
        for path in [
            "a", "d/b", "d/c", "gone/x", "opaque/x", "file", "was/x", "twice/x",
        ] {
            touch(&low, path);
        }
        for path in ["a", "d/c", "d/e", "opaque/y", "file/now", "was", "twice/y"] {
            touch(&top, path);
        }
        hide(&top, "gone");
        cover(&top, "opaque");
        cover(&top, "twice");
        let mut paths = Vec::new();
        tree(&Merged::open(&[top, low]).unwrap(), "", &mut paths);
        paths
    }

    const SHOWN: [&str; 12] = [
        "a=top",
        "d/",
        "d/b=low",
        "d/c=top",
        "d/e=top",
        "file/",
        "file/now=top",
        "opaque/",
        "opaque/y=top",
        "twice/",
        "twice/y=top",
        "was=top",
    ];

    #[test]
    fn whiteouts_and_opaque_directories_hide_what_is_below() {
        let hide = |root: &Path, path: &str| {
            mknodat(
                CWD,
                root.join(path),
                FileType::CharacterDevice,
                Mode::empty(),
                0,
            )
            .unwrap();
        };
        let cover = |root: &Path, path: &str| {
            let file = fs::File::open(root.join(path)).unwrap();
            fsetxattr(file, OPAQUE, b"y", XattrFlags::empty()).unwrap();
        };
        assert_eq!(shown(hide, cover), SHOWN);
    }

    #[test]
    fn markers_of_the_archive_hide_the_same() {
        let marker = |root: &Path, path: &str| touch(root, &format!(".wh.{path}"));
        assert_eq!(
            shown(marker, |root, path| touch(
                root,
                &format!("{path}/.wh..wh..opq")
            )),
            SHOWN
        );
        // A directory beside the marker of its name is one that begins anew.
        assert_eq!(shown(marker, marker), SHOWN);
    }

    #[test]
    fn an_opaque_root_is_the_last() {
        let directory = tempfile::tempdir().unwrap();
        let [low, top] = ["low", "top"].map(|name| directory.path().join(name));
        touch(&low, "a");
        touch(&top, "b");
        touch(&top, ".wh..wh..opq");
        let mut paths = Vec::new();
        tree(&Merged::open(&[top, low]).unwrap(), "", &mut paths);
        assert_eq!(paths, ["b=top"]);
    }
}
