//! Names of containers and pods: one symbolic link each, whose creation is the reservation.
//!
//! Both are in one name space, as in podman. The link's text is a container's id, or says that it is a pod's.
//!
//! A link is removed only by who holds the lock on their directory, and has looked whose it is since:
//! else it could be another container's by the time it is unlinked. Making one takes no lock.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::FlockOperation;

use crate::error::Error;
use crate::id::ContainerId;
use crate::paths::Paths;
use crate::record;

/// Checks `[a-zA-Z0-9][a-zA-Z0-9_.-]*`.
pub fn validate(name: &str) -> Result<(), Error> {
    let mut bytes = name.bytes();
    let first = bytes
        .next()
        .is_some_and(|byte| byte.is_ascii_alphanumeric());
    let rest = bytes.all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte));
    if first && rest && name.len() <= 255 {
        return Ok(());
    }
    Err(Error::InvalidName(name.to_owned()))
}

/// What the link of a pod's name has before the id.
const POD: &str = "pod:";

/// Whose a name is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Owner {
    Container(ContainerId),
    Pod(ContainerId),
}

impl Owner {
    fn of(paths: &Paths, name: &str) -> Option<Self> {
        validate(name).ok()?;
        let target = fs::read_link(paths.names().join(name)).ok()?;
        let text = target.to_str()?;
        match text.strip_prefix(POD) {
            Some(id) => Some(Self::Pod(id.parse().ok()?)),
            None => Some(Self::Container(text.parse().ok()?)),
        }
    }

    fn is_abandoned(&self, paths: &Paths) -> bool {
        record::is_abandoned(&match self {
            Self::Container(id) => paths.container(id),
            Self::Pod(id) => paths.pod(id),
        })
    }

    fn in_the_way(self, name: &str) -> Error {
        let name = name.to_owned();
        match self {
            Self::Container(id) => Error::NameInUse {
                name,
                id: id.to_string(),
            },
            Self::Pod(id) => Error::NameOfPod {
                name,
                id: id.to_string(),
            },
        }
    }
}

/// Reserves `name` for a container. A link whose owner is gone is taken over.
pub fn reserve(paths: &Paths, name: &str, id: &ContainerId) -> Result<(), Error> {
    reserve_as(paths, name, id.as_str())
}

/// The same for a pod.
pub fn reserve_for_pod(paths: &Paths, name: &str, id: &ContainerId) -> Result<(), Error> {
    reserve_as(paths, name, &format!("{POD}{id}"))
}

fn reserve_as(paths: &Paths, name: &str, text: &str) -> Result<(), Error> {
    validate(name)?;
    let link = paths.names().join(name);
    let what = || format!("create {}", link.display());
    for _ in 0..16 {
        match symlink(text, &link) {
            Ok(()) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(paths.names()).map_err(Error::io(what()))?;
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                if let Some(owner) = take_over(paths, name)? {
                    return Err(owner.in_the_way(name));
                }
            }
            Err(error) => return Err(Error::io(what())(error)),
        }
    }
    Err(Error::NameInUse {
        name: name.to_owned(),
        id: "a container that is being removed".to_owned(),
    })
}

/// Removes a link whose owner is gone or was never made; else tells whose it is.
fn take_over(paths: &Paths, name: &str) -> Result<Option<Owner>, Error> {
    let _lock = lock(paths)?;
    let link = paths.names().join(name);
    // One that is gone is left to who is about to make it: that takes no lock.
    if fs::symlink_metadata(&link).is_err() {
        return Ok(None);
    }
    match Owner::of(paths, name) {
        Some(owner) if !owner.is_abandoned(paths) => Ok(Some(owner)),
        // Left by a kill: while the record was made, or between its removal and the name's.
        _ => {
            fs::remove_file(&link).map_err(Error::io(format!("remove {}", link.display())))?;
            Ok(None)
        }
    }
}

/// Gives `name` up, if it is that container's. One that can't be given up is taken over by who wants it.
pub fn release(paths: &Paths, name: &str, id: &ContainerId) {
    release_as(paths, name, &Owner::Container(id.clone()));
}

/// The same for a pod's.
pub fn release_of_pod(paths: &Paths, name: &str, id: &ContainerId) {
    release_as(paths, name, &Owner::Pod(id.clone()));
}

fn release_as(paths: &Paths, name: &str, owner: &Owner) {
    let Ok(_lock) = lock(paths) else { return };
    if Owner::of(paths, name).as_ref() == Some(owner) {
        let _ = fs::remove_file(paths.names().join(name));
    }
}

/// Removes the names whose owner is gone or was never made.
pub fn forget_stale(paths: &Paths) {
    let names = fs::read_dir(paths.names());
    for entry in names.into_iter().flatten().flatten() {
        if let Ok(name) = entry.file_name().into_string() {
            let _ = take_over(paths, &name);
        }
    }
}

/// The lock on the links, for as long as it is held: a few system calls.
fn lock(paths: &Paths) -> Result<OwnedFd, Error> {
    let lock = record::lock_directory(&paths.names(), FlockOperation::LockExclusive)?;
    Ok(lock.expect("who waits has it in the end"))
}

/// The container whose name it is.
pub fn owner(paths: &Paths, name: &str) -> Option<ContainerId> {
    match Owner::of(paths, name)? {
        Owner::Container(id) => Some(id),
        Owner::Pod(_) => None,
    }
}

/// The pod whose name it is.
pub fn owning_pod(paths: &Paths, name: &str) -> Option<ContainerId> {
    match Owner::of(paths, name)? {
        Owner::Pod(id) => Some(id),
        Owner::Container(_) => None,
    }
}

/// The container that a user means by a name, an id, or the beginning of one.
pub fn find(paths: &Paths, text: &str) -> Result<ContainerId, Error> {
    let named = owner(paths, text);
    match find_in(&paths.containers(), named, text) {
        Found::One(id) => Ok(id),
        Found::Several => Err(Error::Ambiguous(text.to_owned())),
        Found::None => Err(Error::NotFound(text.to_owned())),
    }
}

/// The pod that a user means by a name, an id, or the beginning of one.
pub fn find_pod(paths: &Paths, text: &str) -> Result<ContainerId, Error> {
    let named = owning_pod(paths, text);
    match find_in(&paths.pods(), named, text) {
        Found::One(id) => Ok(id),
        Found::Several => Err(Error::AmbiguousPod(text.to_owned())),
        Found::None => Err(Error::NoSuchPod(text.to_owned())),
    }
}

/// What a text means.
enum Found {
    One(ContainerId),
    Several,
    None,
}

/// Finds a record among the others of its kind.
fn find_in(records: &Path, named: Option<ContainerId>, text: &str) -> Found {
    let is_there = |id: &ContainerId| records.join(id.as_str()).is_dir();
    if let Some(id) = named.filter(is_there) {
        return Found::One(id);
    }
    if let Some(id) = text.parse().ok().filter(is_there) {
        return Found::One(id);
    }
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if !digits || text.len() >= 64 {
        return Found::None;
    }
    let mut found = None;
    for entry in fs::read_dir(records).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| name.starts_with(text)) else {
            continue;
        };
        let Ok(id) = name.parse::<ContainerId>() else {
            continue;
        };
        if found.replace(id).is_some() {
            return Found::Several;
        }
    }
    found.map_or(Found::None, Found::One)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(root: &Path) -> Paths {
        Paths {
            data: root.join("data"),
            runtime: root.join("run"),
            config: root.join("config"),
        }
    }

    #[test]
    fn names_have_a_grammar() {
        for good in ["a", "0", "web_1.x-y"] {
            validate(good).unwrap();
        }
        for bad in ["", "-a", ".a", "a/b", "ä", "a b", "../x"] {
            assert!(validate(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_has_one_owner_and_dead_owners_lose_it() {
        let root = tempfile::tempdir().unwrap();
        let paths = paths(root.path());
        let (first, second) = (ContainerId::random(), ContainerId::random());
        fs::create_dir_all(paths.container(&first)).unwrap();
        let making = record::making(&paths.container(&first)).unwrap();
        assert!(making.is_some());
        reserve(&paths, "web", &first).unwrap();
        let error = reserve(&paths, "web", &second).unwrap_err();
        assert!(matches!(error, Error::NameInUse { .. }));
        assert_eq!(find(&paths, "web").unwrap(), first);
        assert_eq!(find(&paths, first.short()).unwrap(), first);
        // The maker is killed before the record is whole.
        drop(making);
        reserve(&paths, "web", &second).unwrap();
        release(&paths, "web", &first);
        assert_eq!(owner(&paths, "web"), Some(second));
    }

    #[test]
    fn pods_and_containers_share_names_and_are_found_apart() {
        let root = tempfile::tempdir().unwrap();
        let paths = paths(root.path());
        let (pod, container) = (ContainerId::random(), ContainerId::random());
        for place in [paths.pod(&pod), paths.container(&container)] {
            fs::create_dir_all(&place).unwrap();
            fs::write(place.join("config.json"), "{}").unwrap();
        }
        reserve_for_pod(&paths, "web", &pod).unwrap();
        let error = reserve(&paths, "web", &container).unwrap_err();
        assert!(matches!(error, Error::NameOfPod { .. }), "{error}");
        // No name of hexadecimal digits alone: the pod's id could begin with it.
        reserve(&paths, "store", &container).unwrap();
        let error = reserve_for_pod(&paths, "store", &pod).unwrap_err();
        assert!(matches!(error, Error::NameInUse { .. }), "{error}");
        for (text, is_pod) in [
            ("web", true),
            (pod.short(), true),
            ("store", false),
            (container.as_str(), false),
        ] {
            assert_eq!(find_pod(&paths, text).is_ok(), is_pod, "{text}");
            assert_eq!(find(&paths, text).is_ok(), !is_pod, "{text}");
        }
        for twin in ["ab".repeat(32), "ab".repeat(31) + "cd"] {
            fs::create_dir_all(paths.pods().join(twin)).unwrap();
        }
        let found = find_pod(&paths, "abab");
        assert!(matches!(found, Err(Error::AmbiguousPod(_))), "{found:?}");
        // What is removed by another kind's hand stays.
        release(&paths, "web", &pod);
        release_of_pod(&paths, "store", &container);
        forget_stale(&paths);
        assert_eq!(owning_pod(&paths, "web"), Some(pod.clone()));
        assert_eq!(owner(&paths, "store"), Some(container.clone()));
        fs::remove_dir_all(paths.pod(&pod)).unwrap();
        reserve(&paths, "web", &container).unwrap();
        assert_eq!(owner(&paths, "web"), Some(container));
    }

    /// Containers that are being made, with what says so.
    fn makers(paths: &Paths, count: usize) -> Vec<(ContainerId, OwnedFd)> {
        let make = |_| {
            let id = ContainerId::random();
            fs::create_dir_all(paths.container(&id)).unwrap();
            let lock = record::making(&paths.container(&id)).unwrap();
            (id, lock.unwrap())
        };
        (0..count).map(make).collect()
    }

    #[test]
    fn one_of_many_takes_a_dead_owners_name() {
        let root = tempfile::tempdir().unwrap();
        let paths = paths(root.path());
        fs::create_dir_all(paths.names()).unwrap();
        let makers = makers(&paths, 8);
        for round in 0..300 {
            let link = paths.names().join("web");
            let _ = fs::remove_file(&link);
            symlink(ContainerId::random().as_str(), &link).unwrap();
            let barrier = std::sync::Barrier::new(makers.len());
            let owners = std::thread::scope(|scope| {
                let threads: Vec<_> = makers
                    .iter()
                    .map(|(id, _)| {
                        scope.spawn(|| {
                            barrier.wait();
                            reserve(&paths, "web", id).is_ok()
                        })
                    })
                    .collect();
                let won = threads.into_iter().map(|thread| thread.join().unwrap());
                won.filter(|won| *won).count()
            });
            assert_eq!(owners, 1, "{round}");
        }
    }

    /// A removal gives up its own name, and not that of who was quicker to take it.
    #[test]
    fn a_removal_leaves_the_next_owners_name() {
        let root = tempfile::tempdir().unwrap();
        let paths = paths(root.path());
        let makers = makers(&paths, 4);
        for round in 0..300 {
            let old = ContainerId::random();
            fs::create_dir_all(paths.container(&old)).unwrap();
            fs::write(paths.container(&old).join("config.json"), "{}").unwrap();
            reserve(&paths, "web", &old).unwrap();
            let barrier = std::sync::Barrier::new(makers.len() + 2);
            let (paths, old, barrier) = (&paths, &old, &barrier);
            let won: Vec<_> = std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(move || {
                        barrier.wait();
                        // Twice, as by a removal and by a prune.
                        let _ = fs::remove_dir_all(paths.container(old));
                        release(paths, "web", old);
                        forget_stale(paths);
                    });
                }
                let threads: Vec<_> = makers
                    .iter()
                    .map(|(id, _)| {
                        scope.spawn(move || {
                            barrier.wait();
                            loop {
                                match reserve(paths, "web", id) {
                                    Ok(()) => return Some(id),
                                    // The one that is removed still has it.
                                    Err(Error::NameInUse { id, .. }) if id == old.to_string() => {}
                                    Err(_) => return None,
                                }
                            }
                        })
                    })
                    .collect();
                let won = threads.into_iter().map(|thread| thread.join().unwrap());
                won.flatten().collect()
            });
            assert_eq!(won.len(), 1, "{round}");
            assert_eq!(owner(paths, "web").as_ref(), Some(won[0]), "{round}");
            release(paths, "web", won[0]);
        }
    }
}
