//! A pod's record, as far as others than its maker have to do with it: who is in it, and who of those that start and
//! end there comes first.
//!
//! `members/` has a file by the id of each container, the infra container too, made before that one's own record is;
//! an id whose record is not there counts for nothing. The lock (flock(2)) of the record's directory is shared by who
//! makes or starts a member, and exclusive for who takes the pod away, ends it, or looks whether it has to end. Who
//! waits for it alone is in nobody's way who shares it.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use rustix::fs::FlockOperation;

use crate::error::Error;
use crate::file::{self, Durability};
use crate::id::ContainerId;
use crate::paths::Paths;
use crate::record;

const MEMBERS: &str = "members";

/// The lock; released when dropped.
#[derive(Debug)]
pub struct PodLock {
    directory: OwnedFd,
}

impl AsFd for PodLock {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }
}

/// Where the members of the pod are noted.
fn place(paths: &Paths, pod: &ContainerId) -> PathBuf {
    paths.pod(pod).join(MEMBERS)
}

/// Makes the place for members in a pod's new record.
pub fn make_place(paths: &Paths, pod: &ContainerId) -> Result<(), Error> {
    let place = place(paths, pod);
    fs::create_dir(&place).map_err(Error::io(format!("create {}", place.display())))
}

/// Notes that a container is about to be made in the pod.
///
/// # Errors
/// [`Error::NoSuchPod`] if the pod was removed meanwhile.
pub fn add(
    paths: &Paths,
    pod: &ContainerId,
    id: &ContainerId,
    durability: Durability,
) -> Result<(), Error> {
    let place = place(paths, pod);
    let what = || format!("write {}", place.display());
    match File::create(place.join(id.as_str())) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(Error::NoSuchPod(pod.to_string()));
        }
        made => made.map_err(Error::io(what()))?,
    };
    match durability {
        Durability::Synced => file::sync_directory(&place).map_err(Error::io(what())),
        Durability::None => Ok(()),
    }
}

/// Notes that a container is in the pod no longer.
pub fn forget(paths: &Paths, pod: &ContainerId, id: &ContainerId) {
    let _ = fs::remove_file(place(paths, pod).join(id.as_str()));
}

/// The containers that are in the pod, or are being made in it, in no order.
pub fn members(paths: &Paths, pod: &ContainerId) -> Vec<ContainerId> {
    let entries = fs::read_dir(place(paths, pod));
    let mut members = Vec::new();
    for entry in entries.into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(id) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let record = paths.container(&id);
        if record::is_finished(&record) || record::is_being_made(&record) {
            members.push(id);
        } else if !record.is_dir() && entry.metadata().is_ok_and(|data| record::is_old(&data)) {
            // Its maker was killed, or its remover.
            let _ = fs::remove_file(entry.path());
        }
    }
    members
}

/// Keeps the pod from being removed or ended while a member is made or started. Waits for who does that.
///
/// # Errors
/// [`Error::NoSuchPod`] if there is none.
pub fn enter(paths: &Paths, pod: &ContainerId) -> Result<PodLock, Error> {
    let lock = lock(paths, pod, FlockOperation::LockShared)?;
    let lock = lock.expect("who waits has it in the end");
    if record::is_finished(&paths.pod(pod)) {
        return Ok(lock);
    }
    Err(Error::NoSuchPod(pod.to_string()))
}

/// Keeps members from being made or started. Waits for those that are.
pub fn close(paths: &Paths, pod: &ContainerId) -> Result<PodLock, Error> {
    let lock = lock(paths, pod, FlockOperation::LockExclusive)?;
    Ok(lock.expect("who waits has it in the end"))
}

/// The same; `None` if one is being made or started.
pub fn try_close(paths: &Paths, pod: &ContainerId) -> Result<Option<PodLock>, Error> {
    let how = FlockOperation::NonBlockingLockExclusive;
    lock(paths, pod, how)
}

fn lock(paths: &Paths, pod: &ContainerId, how: FlockOperation) -> Result<Option<PodLock>, Error> {
    let lock = record::lock_directory(&paths.pod(pod), how).map_err(|error| match error {
        Error::Io { source, .. } if source.kind() == io::ErrorKind::NotFound => {
            Error::NoSuchPod(pod.to_string())
        }
        error => error,
    });
    Ok(lock?.map(|directory| PodLock { directory }))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn paths(root: &Path) -> Paths {
        Paths {
            data: root.join("data"),
            runtime: root.join("run"),
            config: root.join("config"),
        }
    }

    fn pod(paths: &Paths) -> ContainerId {
        let pod = ContainerId::random();
        fs::create_dir_all(paths.pod(&pod)).unwrap();
        make_place(paths, &pod).unwrap();
        pod
    }

    #[test]
    fn a_member_counts_as_long_as_its_record_is_there() {
        let root = tempfile::tempdir().unwrap();
        let paths = paths(root.path());
        let (pod, id) = (pod(&paths), ContainerId::random());
        add(&paths, &pod, &id, Durability::None).unwrap();
        assert!(members(&paths, &pod).is_empty());
        fs::create_dir_all(paths.container(&id)).unwrap();
        fs::write(paths.container(&id).join("config.json"), "{}").unwrap();
        assert_eq!(members(&paths, &pod), std::slice::from_ref(&id));
        forget(&paths, &pod, &id);
        assert!(members(&paths, &pod).is_empty());
        fs::remove_dir_all(paths.pod(&pod)).unwrap();
        let late = add(&paths, &pod, &id, Durability::None);
        assert!(matches!(late, Err(Error::NoSuchPod(_))), "{late:?}");
    }

    #[test]
    fn who_starts_and_who_ends_keep_each_other_away() {
        let root = tempfile::tempdir().unwrap();
        let paths = paths(root.path());
        let pod = pod(&paths);
        // One that is not whole has nobody in it.
        assert!(matches!(enter(&paths, &pod), Err(Error::NoSuchPod(_))));
        fs::write(paths.pod(&pod).join("config.json"), "{}").unwrap();
        let (one, other) = (enter(&paths, &pod).unwrap(), enter(&paths, &pod).unwrap());
        let waits = std::thread::scope(|scope| {
            let waiter = scope.spawn(|| close(&paths, &pod).map(drop));
            // It keeps nobody out meanwhile.
            drop(enter(&paths, &pod).unwrap());
            assert!(try_close(&paths, &pod).unwrap().is_none());
            drop(one);
            drop(enter(&paths, &pod).unwrap());
            drop(other);
            waiter.join().unwrap()
        });
        assert!(waits.is_ok());
        assert!(try_close(&paths, &pod).unwrap().is_some());
    }
}
