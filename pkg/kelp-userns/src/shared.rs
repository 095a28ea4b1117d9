//! Sharing one user namespace between live containers, with no process that only holds it.
//!
//! Each monitor, and whoever waits for the command of an unshare, registers its pid in
//! `userns/<map key>/<pid>` of the runtime directory. Whoever needs a namespace opens
//! `/proc/<pid>/ns/user` of one of them. The pid may have been recycled: the descriptor counts only if the
//! namespace was made by this user, from this namespace or one beneath it, with this very map, so that at
//! worst it is another, equal namespace.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use kelp_sys::stat::Stat;
use rustix::fs::{Mode, OFlags};
use rustix::process::getuid;

use crate::error::Error;
use crate::map::{IdMap, parse_lines};
use crate::namespace::{Making, UserNamespace, depth_beneath_own};
use crate::own;

/// A namespace that is there, or soon will be.
#[derive(Debug)]
pub enum Coming {
    /// The process's own, or that of a live monitor or unshare.
    Joined(UserNamespace),
    /// A new one.
    Making(Making),
}

impl Coming {
    /// Waits until it is there.
    pub fn finish(self) -> Result<UserNamespace, Error> {
        match self {
            Self::Joined(namespace) => Ok(namespace),
            Self::Making(making) => making.finish(),
        }
    }
}

/// The process's own namespace if it has this map, else that of a live monitor; or begins to make one.
pub fn join_or_begin(runtime_dir: &Path, map: IdMap) -> Result<Coming, Error> {
    if let Some(fd) = own::namespace_of(&map) {
        return Ok(Coming::Joined(UserNamespace::from_parts(fd, map)));
    }
    match join(runtime_dir, &map) {
        Some(namespace) => Ok(Coming::Joined(namespace)),
        None => UserNamespace::begin_beneath(map).map(Coming::Making),
    }
}

/// Joins the namespace of a live monitor with this map, if there is one.
pub fn join(runtime_dir: &Path, map: &IdMap) -> Option<UserNamespace> {
    let directory = directory(runtime_dir, map);
    for entry in fs::read_dir(directory).ok()?.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let Ok(pid) = name.parse::<u32>() else {
            continue;
        };
        if let Some(fd) = open_equal(pid, map) {
            return Some(UserNamespace::from_parts(fd, map.clone()));
        }
        // A monitor that was killed could not remove its entry. That of a live one is of use to who
        // is in another namespace than the caller.
        if has_ended(name) {
            let _ = fs::remove_file(entry.path());
        }
    }
    None
}

/// Removes the entries of monitors that were killed.
pub fn forget_dead(runtime_dir: &Path) {
    let maps = fs::read_dir(runtime_dir.join("userns"));
    for map in maps.into_iter().flatten().flatten() {
        let entries = fs::read_dir(map.path());
        for entry in entries.into_iter().flatten().flatten() {
            if has_ended(&entry.file_name().to_string_lossy()) {
                let _ = fs::remove_file(entry.path());
            }
        }
    }
}

/// Whether a process is gone, or waits for its parent as a zombie (proc_pid_stat(5), field 3).
fn has_ended(pid: &str) -> bool {
    let stat = pid.parse().ok().and_then(|pid| Stat::of(pid).ok());
    let state = stat.and_then(|stat| stat.state());
    state.is_none_or(|state| matches!(state, 'Z' | 'X'))
}

/// A monitor's entry; removed when it is dropped.
#[derive(Debug)]
pub struct Registration(PathBuf);

/// Tells others that the calling process's namespace, which has the map named by `key`, can be
/// joined. `pid` is the caller's.
pub fn register(runtime_dir: &Path, key: &str, pid: u32) -> Result<Registration, Error> {
    let directory = runtime_dir.join("userns").join(key);
    let path = directory.join(pid.to_string());
    let create = || fs::File::create(&path);
    create()
        .or_else(|error| match error.kind() {
            io::ErrorKind::NotFound => fs::create_dir_all(&directory).and_then(|()| create()),
            _ => Err(error),
        })
        .map_err(Error::io(format!("create {}", path.display())))?;
    Ok(Registration(path))
}

impl Drop for Registration {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn directory(runtime_dir: &Path, map: &IdMap) -> PathBuf {
    runtime_dir.join("userns").join(map.key())
}

fn open_equal(pid: u32, map: &IdMap) -> Option<OwnedFd> {
    let open = |name: &str| {
        rustix::fs::open(
            format!("/proc/{pid}/{name}"),
            OFlags::RDONLY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .ok()
    };
    let namespace = open("ns/user")?;
    let owner = kelp_sys::namespace::owner_uid(namespace.as_fd()).ok()?;
    if owner != getuid().as_raw() {
        return None;
    }
    let depth = depth_beneath_own(namespace.as_fd())?;
    // Root of a container may make a namespace with the same map: its process is in another namespace of
    // process numbers, and is not who registered under this one.
    if depth > 1 {
        let numbers = |process: &str| rustix::fs::stat(format!("/proc/{process}/ns/pid")).ok();
        if numbers(&pid.to_string())?.st_ino != numbers("self")?.st_ino {
            return None;
        }
    }
    let map = own::inner(map).ok()?;
    let equal = |name: &str, lines: &[crate::IdMapping]| {
        let text = fs::read_to_string(format!("/proc/{pid}/{name}")).ok()?;
        (parse_lines(&text)? == lines).then_some(())
    };
    equal("uid_map", &map.uids)?;
    equal("gid_map", &map.gids)?;
    // The files above were opened by number: the process that has the map must be the one whose
    // namespace was opened, so the namespace is looked at once more.
    let again = open("ns/user")?;
    let (first, second) = (
        rustix::fs::fstat(&namespace).ok()?,
        rustix::fs::fstat(&again).ok()?,
    );
    (first.st_ino == second.st_ino).then_some(namespace)
}
