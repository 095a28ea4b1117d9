//! What the host is: its ids, and the user namespace of a container.

use std::io::Write;
use std::path::PathBuf;

use kelp_userns::{IdMap, IdMapping, UserNamespace, own, shared, subid};

use crate::container::config::{MapLines, Namespaces, UserMode};
use crate::{ContainerId, Engine, Error, internal};

/// The id map of a container.
pub fn map_of(namespaces: &Namespaces) -> Result<IdMap, Error> {
    let Some((uids, gids)) = &namespaces.user_map else {
        return id_map(&namespaces.user);
    };
    let side = |lines: &MapLines| {
        let lines = lines.iter().map(|&(container, host, size)| IdMapping {
            container,
            host,
            size,
        });
        lines.collect()
    };
    Ok(IdMap {
        uids: side(uids),
        gids: side(gids),
    })
}

const NO_ROOT: &str = "the id map has no id 0, which a container's root needs";

/// The id map for a mode of user namespace. One that only the container's making settles has the usual
/// map until then: that is what a pull makes layers for.
pub fn id_map(mode: &UserMode) -> Result<IdMap, Error> {
    let (uid, gid) = own::ids();
    let subordinate = own::subordinate()?;
    if uid == 0 && subordinate.is_empty() && own::map().is_none() {
        return Ok(identity());
    }
    Ok(match mode {
        UserMode::Host | UserMode::Auto { .. } | UserMode::Container(_) | UserMode::Path(_) => {
            subordinate.default_map(uid, gid)
        }
        UserMode::KeepId {
            uid: inside_uid,
            gid: inside_gid,
        } => subordinate.keep_id_map(
            uid,
            gid,
            inside_uid.unwrap_or(uid),
            inside_gid.unwrap_or(gid),
        )?,
        UserMode::NoMap => subordinate.nomap()?,
        UserMode::Map(uids, gids) => {
            let usual = subordinate.default_map(uid, gid);
            let map = IdMap {
                uids: outer(uids, &usual.uids)?,
                gids: outer(gids, &usual.gids)?,
            };
            if map.host_uid(0).is_none() || map.host_gid(0).is_none() {
                return Err(Error::invalid(NO_ROOT));
            }
            map
        }
    })
}

/// The usual map, in whose namespace every tree of kelp's can be read, written and removed; and how
/// the ids of `map` are called there, unless it is that map itself.
pub fn translation(map: &IdMap) -> Result<(IdMap, Option<IdMap>), Error> {
    let usual = id_map(&UserMode::Host)?;
    if *map == usual || map.is_single() {
        return Ok((usual, None));
    }
    let ids = map.within(&usual).ok_or_else(|| {
        Error::invalid(
            "the id map has ids that are not in this user's range in /etc/subuid and /etc/subgid",
        )
    })?;
    Ok((usual, Some(ids)))
}

/// Refuses a map of one id that is not the user's: its files would be the user's all the same, for
/// with one id no owner is kept.
pub(crate) fn check_single(map: &IdMap) -> Result<(), Error> {
    if map.is_single() && map.uids[0].host != own::ids().0 {
        return Err(Error::invalid(
            "an id map of one subordinate id is not supported: map the user's own (0:0:1), or more \
             than one",
        ));
    }
    Ok(())
}

/// The user's id, also where that is root of `kelp unshare`.
pub fn user_id() -> u32 {
    own::ids().0
}

/// Whether the user has ids in a container with this map.
pub fn maps_user(map: &IdMap) -> bool {
    let (uid, gid) = own::ids();
    map.container_uid(uid).is_some() && map.container_gid(gid).is_some()
}

/// The ids that the user has in a container with this map; root where the user is not mapped.
pub fn user_inside(map: &IdMap) -> (u32, u32) {
    let (uid, gid) = own::ids();
    let inside = (map.container_uid(uid), map.container_gid(gid));
    (inside.0.unwrap_or(0), inside.1.unwrap_or(0))
}

/// The lines of --uidmap name ids of the usual map, as in podman: 0 is the user, 1 is the first of the
/// range. They become the host's ids.
pub(crate) fn outer(
    lines: &[(u32, u32, u32)],
    usual: &[IdMapping],
) -> Result<Vec<IdMapping>, Error> {
    let mut map = Vec::new();
    for &(container, middle, size) in lines {
        let (mut inside, mut next, mut left) = (container, middle, size);
        while left > 0 {
            let line = usual
                .iter()
                .find(|line| next >= line.container && next - line.container < line.size)
                .ok_or_else(|| {
                    Error::invalid(format!(
                        "the map {container}:{middle}:{size} names id {next}, which is not in this \
                         user's range in /etc/subuid and /etc/subgid"
                    ))
                })?;
            let offset = next - line.container;
            let part = left.min(line.size - offset);
            map.push(IdMapping {
                container: inside,
                host: line.host + offset,
                size: part,
            });
            inside += part;
            next += part;
            left -= part;
        }
    }
    Ok(map)
}

/// Users or groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ids {
    /// Users.
    Users,
    /// Groups.
    Groups,
}

/// A line of --uidmap that names ids of the host (`@`), as lines that name their places in the usual map.
pub fn inner((container, host, size): (u32, u32, u32), ids: Ids) -> Result<MapLines, Error> {
    let usual = id_map(&UserMode::Host)?;
    let (usual, file) = match ids {
        Ids::Users => (usual.uids, "/etc/subuid"),
        Ids::Groups => (usual.gids, "/etc/subgid"),
    };
    let mut lines = Vec::new();
    let mut done = 0;
    while done < size {
        let next = host + done;
        let line = usual
            .iter()
            .find(|line| next >= line.host && next - line.host < line.size)
            .ok_or_else(|| {
                Error::invalid(format!(
                    "the map {container}:@{host}:{size} names id {next}, which is neither this user's \
                     nor in its range in {file}"
                ))
            })?;
        let offset = next - line.host;
        let part = (size - done).min(line.size - offset);
        lines.push((container + done, line.container + offset, part));
        done += part;
    }
    Ok(lines)
}

/// Refuses a container whose first process can't be looked into from `kelp unshare`: it is in a user namespace
/// that is neither the caller's nor beneath it.
pub(crate) fn check_reach(id: &ContainerId, process: u32) -> Result<(), Error> {
    if own::map().is_none() {
        return Ok(());
    }
    match std::fs::metadata(format!("/proc/{process}/ns/user")) {
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            Err(Error::conflict(format!(
                "container {} has a user namespace that was made outside of this one: leave `kelp \
                 unshare` for it, or start it in there",
                id.short()
            )))
        }
        _ => Ok(()),
    }
}

/// Root without a range of its own: every id is itself.
fn identity() -> IdMap {
    let all = vec![IdMapping {
        container: 0,
        host: 0,
        size: u32::MAX,
    }];
    IdMap {
        uids: all.clone(),
        gids: all,
    }
}

/// Runs `kelp internal own UID GID PATH…`, in the usual namespace.
pub(crate) fn own_role(arguments: &[&str]) -> i32 {
    let [uid, gid, paths @ ..] = arguments else {
        return 125;
    };
    let (Ok(uid), Ok(gid)) = (uid.parse(), gid.parse()) else {
        return 125;
    };
    let given = paths
        .iter()
        .all(|path| std::os::unix::fs::lchown(path, Some(uid), Some(gid)).is_ok());
    i32::from(!given)
}

impl Engine {
    /// Says what a user without subordinate ids should know, the first time only.
    pub(crate) fn tell_of_single_id(&self) {
        let told = self.paths.data.join("told-of-single-id");
        if !told.exists() && std::fs::write(told, "").is_ok() {
            let name = subid::user_name(own::ids().0);
            // Nobody may read it.
            let _ = writeln!(
                std::io::stderr(),
                "kelp: this user has no ids in /etc/subuid and /etc/subgid: in containers all files \
                 belong to one user; for more have `{}:100000:65536` added to both (said once)",
                name.as_deref().unwrap_or("NAME")
            );
        }
    }

    /// Gives what the user has made to the root of a container in whose namespace the user is not
    /// mapped, so that nobody there could write it.
    pub(crate) fn give_to_root(&self, map: &IdMap, own: &[PathBuf]) -> Result<(), Error> {
        if maps_user(map) {
            return Ok(());
        }
        let (usual, Some(ids)) = translation(map)? else {
            return Ok(());
        };
        let root = ids
            .host_uid(0)
            .zip(ids.host_gid(0))
            .ok_or_else(|| Error::invalid(NO_ROOT))?;
        if self.give(usual, root, own)? {
            return Ok(());
        }
        Err(Error::new(
            crate::Kind::Failed,
            "the container's directories and files could not be given to its root",
        ))
    }

    /// Gives what the user has made to ids of a container, which have to be among those of its map.
    pub(crate) fn give_to_ids(
        &self,
        map: &IdMap,
        (uid, gid): (u32, u32),
        paths: &[PathBuf],
    ) -> Result<(), Error> {
        let missing = |what: &str, id: u32, file: &str| {
            Error::invalid(format!(
                "the container has no {what} {id}: choose one of its id map, or give this user more ids \
                 in {file}"
            ))
        };
        let host = (
            map.host_uid(uid)
                .ok_or_else(|| missing("user", uid, "/etc/subuid"))?,
            map.host_gid(gid)
                .ok_or_else(|| missing("group", gid, "/etc/subgid"))?,
        );
        if host == own::ids() {
            return Ok(());
        }
        let (usual, ids) = translation(map)?;
        let inside = match ids {
            None => Some((uid, gid)),
            Some(ids) => ids.host_uid(uid).zip(ids.host_gid(gid)),
        };
        if let Some(inside) = inside
            && self.give(usual, inside, paths)?
        {
            return Ok(());
        }
        Err(Error::new(
            crate::Kind::Failed,
            format!("the container's files could not be given to {uid}:{gid}"),
        ))
    }

    /// Gives files to ids of the usual map; whether all of them could be.
    fn give(&self, usual: IdMap, (uid, gid): (u32, u32), own: &[PathBuf]) -> Result<bool, Error> {
        let words = [uid.to_string(), gid.to_string()];
        let paths: Vec<_> = own.iter().map(|path| path.to_string_lossy()).collect();
        let mut role = vec!["own", &words[0], &words[1]];
        role.extend(paths.iter().map(AsRef::as_ref));
        let userns = self.user_namespace(usual)?;
        Ok(internal::run_role(&role, &userns)?.code() == 0)
    }

    /// A user namespace with this map: the process's own, that of a live container, or a new one.
    pub fn user_namespace(&self, map: IdMap) -> Result<UserNamespace, Error> {
        Ok(shared::join_or_begin(&self.paths.runtime, map)?.finish()?)
    }
}
