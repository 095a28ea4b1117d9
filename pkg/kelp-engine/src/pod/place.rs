//! Places of the host that containers of a pod are given: what has to be there, and what is made where nothing is.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::Error;

/// A place of the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPlace {
    /// Where; absolute.
    pub path: PathBuf,
    /// What has to be there.
    pub kind: PlaceKind,
}

/// What has to be at a place of the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlaceKind {
    /// Anything that is there.
    Any,
    /// A directory.
    Directory {
        /// Whether it is made where nothing is, with those above it.
        made: bool,
    },
    /// A file.
    File {
        /// Whether an empty one is made where nothing is.
        made: bool,
    },
    /// A socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

impl HostPlace {
    /// Refuses what is there and of another kind. What is not there yet may be made before the pod is.
    pub fn check(&self) -> Result<(), Error> {
        match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            found => self.check_found(found),
        }
    }

    fn check_found(&self, found: io::Result<fs::Metadata>) -> Result<(), Error> {
        let path = self.path.display();
        let found = found
            .map_err(Error::io(format!("host path {path}")))?
            .file_type();
        let (fits, wanted) = match self.kind {
            PlaceKind::Any => (true, "anything"),
            PlaceKind::Directory { .. } => (found.is_dir(), "a directory"),
            PlaceKind::File { .. } => (found.is_file(), "a file"),
            PlaceKind::Socket => (found.is_socket(), "a socket"),
            PlaceKind::CharDevice => (found.is_char_device(), "a character device"),
            PlaceKind::BlockDevice => (found.is_block_device(), "a block device"),
        };
        if fits {
            return Ok(());
        }
        Err(Error::invalid(format!(
            "host path {path} is not {wanted}: name another, or another type"
        )))
    }
}

/// What was made at places, and which file that was (device and inode).
#[derive(Clone, Debug, Default)]
pub struct MadePlaces(Vec<(PathBuf, (u64, u64))>);

impl MadePlaces {
    /// Makes what is to be made at a place, and looks at what has to be there.
    pub(crate) fn settle(&mut self, place: &HostPlace) -> Result<(), Error> {
        let path = &place.path;
        let made = match place.kind {
            PlaceKind::Directory { made: true } => self.make_directory(path),
            PlaceKind::File { made: true } => self.make_file(path),
            _ => Ok(()),
        };
        made.map_err(Error::io(format!("make {}", path.display())))?;
        place.check_found(fs::metadata(path))
    }

    fn make_directory(&mut self, path: &Path) -> io::Result<()> {
        let missing: Vec<_> = path.ancestors().take_while(|it| !it.exists()).collect();
        for directory in missing.into_iter().rev() {
            let made = DirBuilder::new().mode(0o755).create(directory);
            self.note(directory, made)?;
        }
        Ok(())
    }

    fn make_file(&mut self, path: &Path) -> io::Result<()> {
        let mut options = OpenOptions::new();
        let made = options.write(true).create_new(true).mode(0o644).open(path);
        self.note(path, made.map(drop))
    }

    /// Notes what was made; what somebody else has made is theirs.
    fn note(&mut self, path: &Path, made: io::Result<()>) -> io::Result<()> {
        match made {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => {
                made?;
                self.0.push((path.to_owned(), file_at(path)?));
                Ok(())
            }
        }
    }

    /// Takes away what is empty still. A container that was given one of them may have put a link in place of what
    /// was made in it, so only what was made goes.
    pub fn take_away(&self) {
        for (path, made) in self.0.iter().rev() {
            if file_at(path).ok() != Some(*made) {
                continue;
            }
            let _ = match fs::symlink_metadata(path) {
                Ok(file) if file.is_dir() => fs::remove_dir(path),
                Ok(file) if file.len() == 0 => fs::remove_file(path),
                _ => Ok(()),
            };
        }
    }
}

fn file_at(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use super::*;

    const DIRECTORY: PlaceKind = PlaceKind::Directory { made: true };
    const FILE: PlaceKind = PlaceKind::File { made: true };

    #[test]
    fn what_is_at_a_place_has_to_be_of_its_kind() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        fs::write(at("file"), "").unwrap();
        let _socket = UnixListener::bind(at("socket")).unwrap();
        let (directory, file) = (
            PlaceKind::Directory { made: false },
            PlaceKind::File { made: false },
        );
        for (path, kind, said) in [
            (at("file"), PlaceKind::Any, None),
            (at("."), directory, None),
            (at("."), DIRECTORY, None),
            (at("file"), file, None),
            (at("socket"), PlaceKind::Socket, None),
            ("/dev/null".into(), PlaceKind::CharDevice, None),
            (at("file"), DIRECTORY, Some("is not a directory: ")),
            (at("."), FILE, Some("is not a file: ")),
            (at("file"), PlaceKind::Socket, Some("is not a socket: ")),
            (
                at("file"),
                PlaceKind::CharDevice,
                Some("a character device"),
            ),
            (
                "/dev/null".into(),
                PlaceKind::BlockDevice,
                Some("a block device"),
            ),
        ] {
            let mut made = MadePlaces::default();
            let place = HostPlace { path, kind };
            for found in [place.check(), made.settle(&place)] {
                let found = found.err().map(|error| error.to_string());
                assert_eq!(found.is_some(), said.is_some(), "{place:?}: {found:?}");
                assert!(found.unwrap_or_default().contains(said.unwrap_or_default()));
            }
            assert!(made.0.is_empty());
        }
        // What is missing may be made before the pod is; then it has to be there.
        for kind in [PlaceKind::Any, directory, file, PlaceKind::Socket] {
            let path = at("none");
            let place = HostPlace { path, kind };
            place.check().unwrap();
            assert!(MadePlaces::default().settle(&place).is_err(), "{kind:?}");
        }
        assert!(!at("none").exists());
    }

    #[test]
    fn what_was_made_goes_again_if_it_is_empty() {
        let root = tempfile::tempdir().unwrap();
        let at = |name: &str| root.path().join(name);
        let make = |places: &[(&str, PlaceKind)]| {
            let mut made = MadePlaces::default();
            for (name, kind) in places {
                let path = at(name);
                made.settle(&HostPlace { path, kind: *kind }).unwrap();
            }
            made
        };
        let made = make(&[("a/b", DIRECTORY), ("a/b/file", FILE), ("a/b", DIRECTORY)]);
        assert!(at("a/b").is_dir() && at("a/b/file").is_file());
        // What was there is nobody's to take away.
        make(&[("a/b", DIRECTORY), ("a/b/file", FILE)]).take_away();
        assert!(at("a/b/file").is_file());
        made.take_away();
        assert!(!at("a").exists());

        let made = make(&[("a/b", DIRECTORY), ("c", FILE)]);
        fs::write(at("a/note"), "x").unwrap();
        fs::write(at("c"), "x").unwrap();
        made.take_away();
        assert!(at("a/note").exists() && !at("a/b").exists() && at("c").exists());

        // A link that was put in its place leads to what is not its own.
        fs::create_dir(at("own")).unwrap();
        fs::write(at("own/file"), "").unwrap();
        let made = make(&[("d/e", DIRECTORY), ("d/e/file", FILE)]);
        fs::remove_dir_all(at("d/e")).unwrap();
        symlink(at("own"), at("d/e")).unwrap();
        made.take_away();
        assert!(at("own/file").exists());
    }
}
