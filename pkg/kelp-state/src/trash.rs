//! Taking a record away: renamed in one step, deleted after.
//!
//! What a kill leaves in the trash is garbage that the next prune collects; a record is never seen
//! half gone. On a full disk, where there may be no space for another name, it is made into what was never
//! finished, and deleted where it is; so is a volume, after it was closed.

use std::fs::{self, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process;

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, flock, fstat, open, openat, stat, statat};
use rustix::io::Errno;

use crate::error::Error;
use crate::file;
use crate::id::ContainerId;
use crate::paths::Paths;
use crate::record::Record;

/// The file in a volume's directory that says that more than its container use it.
const SHARED: &str = "shared";

/// The mode of a volume's directory that is closed: nobody may search it, and its owner may rename and lock it.
const CLOSED: u32 = 0o600;

/// Takes a container's record away, and its part of the runtime directory. What is returned is no
/// longer a container, and is to be given to [`empty`].
pub fn put_record(paths: &Paths, record: &Record) -> Result<PathBuf, Error> {
    let data = &record.data;
    let place = match put(paths, data, record.id.as_str()) {
        Err(error) if file::is_full(&error) => unfinish(data).map(|()| data.clone()),
        put => put,
    };
    let place = place.map_err(Error::io(format!("remove {}", data.display())))?;
    let _ = fs::remove_dir_all(&record.runtime);
    Ok(place)
}

/// Takes a pod's record away. What is returned is no longer a pod, and is to be given to [`empty`].
pub fn put_pod(paths: &Paths, id: &ContainerId) -> Result<PathBuf, Error> {
    let data = paths.pod(id);
    let place = match put(paths, &data, &format!("pod.{id}")) {
        Err(error) if file::is_full(&error) => unfinish(&data).map(|()| data.clone()),
        put => put,
    };
    place.map_err(Error::io(format!("remove {}", data.display())))
}

/// Takes away what makes a directory a record, and then what a monitor would start it by.
fn unfinish(data: &Path) -> io::Result<()> {
    for name in ["config.json", "launch.json"] {
        match fs::remove_file(data.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    // Before the rest goes, so that a power cut does not bring it back alone.
    file::sync_removal(data)
}

/// Moves a volume, by its directory, to the trash; where it is to be deleted. That is its own place, closed
/// (see [`is_closed`]), where there is no space for another name.
pub fn put_volume(paths: &Paths, volume: &Path) -> Result<PathBuf, Error> {
    let name = volume.file_name().unwrap_or_default().to_string_lossy();
    // Another volume may have had the name a moment ago.
    let unused = format!("{}.{name}", process::id());
    let place = match put(paths, volume, &format!("volume.{unused}")) {
        // There may be no trash yet, or no space in it. So is called what is being made, beside the others.
        Err(error) if file::is_full(&error) => {
            let place = volume.with_file_name(format!(".{unused}"));
            match fs::rename(volume, &place) {
                Err(error) if file::is_full(&error) => close(volume).map(|()| volume.to_owned()),
                renamed => renamed.map(|()| place),
            }
        }
        put => put,
    };
    place.map_err(Error::io(format!("remove {}", volume.display())))
}

/// Makes a volume into none without a name for it, which a mode can: that needs no space.
fn close(volume: &Path) -> io::Result<()> {
    fs::set_permissions(volume, Permissions::from_mode(CLOSED))?;
    // Before its files go, so that a power cut does not bring back some of them.
    file::sync_removal(volume)
}

/// Whether a volume is being deleted where it is, or was by a command that was killed: it is none any more.
pub fn is_closed(volume: &Path) -> bool {
    fs::symlink_metadata(volume)
        .is_ok_and(|found| found.is_dir() && found.permissions().mode() & 0o111 == 0)
}

/// Marks a volume as one that more than its container use, so that [`put_own_volume`] lets it be; false if
/// it is gone already.
pub fn share_volume(volume: &Path) -> Result<bool, Error> {
    let what = || format!("share {}", volume.display());
    let Some(lock) = lock_volume(volume).map_err(Error::io(what()))? else {
        return Ok(false);
    };
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(&lock, SHARED, flags, Mode::from_raw_mode(0o644))
        .map_err(|error| Error::io(what())(error.into()))?;
    Ok(true)
}

/// Moves a container's volume to the trash, unless others use it; where it is to be deleted.
pub fn put_own_volume(paths: &Paths, volume: &Path) -> Result<Option<PathBuf>, Error> {
    let what = || format!("remove {}", volume.display());
    let Some(lock) = lock_volume(volume).map_err(Error::io(what()))? else {
        return Ok(None);
    };
    match statat(&lock, SHARED, AtFlags::SYMLINK_NOFOLLOW) {
        Err(Errno::NOENT) => put_volume(paths, volume).map(Some),
        Ok(_) => Ok(None),
        Err(error) => Err(Error::io(what())(error.into())),
    }
}

/// Keeps a volume's directory from being shared and from being removed by others; `None` if there is
/// none, or not any more.
fn lock_volume(volume: &Path) -> io::Result<Option<OwnedFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = match open(volume, flags, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        directory => directory?,
    };
    while let Err(error) = flock(&directory, FlockOperation::LockExclusive) {
        if error != Errno::INTR {
            return Err(error.into());
        }
    }
    let locked = fstat(&directory)?;
    let is_same =
        |now: rustix::fs::Stat| (now.st_dev, now.st_ino) == (locked.st_dev, locked.st_ino);
    let is_there = stat(volume).is_ok_and(is_same);
    Ok(is_there.then_some(directory))
}

/// Renames what may be gone already.
fn put(paths: &Paths, path: &Path, name: &str) -> io::Result<PathBuf> {
    let trash = paths.data.join("trash");
    let place = trash.join(name);
    let rename = || fs::rename(path, &place);
    let renamed = rename().or_else(|error| match error.kind() {
        io::ErrorKind::NotFound if path.exists() => {
            fs::create_dir_all(&trash).and_then(|()| rename())
        }
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    });
    renamed.map(|()| place)
}

/// Deletes what was put in the trash. The caller must be able to delete what the container's users
/// own: be in its user namespace.
pub fn empty(place: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(place) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io(format!("remove {}", place.display()))(error))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_volume_is_none_and_can_be_moved() {
        let root = tempfile::tempdir().unwrap();
        let volume = root.path().join("v");
        fs::create_dir_all(volume.join("_data")).unwrap();
        assert!(!is_closed(&volume));
        assert!(!is_closed(&root.path().join("missing")));
        close(&volume).unwrap();
        assert!(is_closed(&volume));
        assert!(lock_volume(&volume).unwrap().is_some());
        let moved = root.path().join("trash");
        fs::create_dir(&moved).unwrap();
        let moved = moved.join("v");
        fs::rename(&volume, &moved).unwrap();
        // An ordinary user's directory is deleted after the test.
        fs::set_permissions(moved, Permissions::from_mode(0o700)).unwrap();
    }

    #[test]
    fn a_volume_is_shared_or_removed_and_never_both() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths {
            data: root.path().join("d"),
            runtime: root.path().join("r"),
            config: root.path().join("c"),
        };
        let volume = paths.volumes().join("v");
        for round in 0..2000 {
            fs::create_dir_all(volume.join("_data")).unwrap();
            let (shared, removed) = std::thread::scope(|scope| {
                let removed = scope.spawn(|| put_own_volume(&paths, &volume).unwrap());
                (share_volume(&volume).unwrap(), removed.join().unwrap())
            });
            assert_ne!(shared, removed.is_some(), "{round}");
            assert_eq!(volume.join("_data").exists(), shared, "{round}");
            fs::remove_dir_all(removed.unwrap_or_else(|| volume.clone())).unwrap();
        }
        assert!(!share_volume(&volume).unwrap());
        assert_eq!(put_own_volume(&paths, &volume).unwrap(), None);
    }
}
