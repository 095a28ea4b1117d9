//! What the host is: its ids, and the user namespace of a container.

use kelp_userns::subid::SubIds;
use kelp_userns::{IdMap, UserNamespace, shared};

use crate::container::config::UserMode;
use crate::{Engine, Error};

/// The id map for a mode of user namespace.
pub fn id_map(mode: &UserMode) -> Result<IdMap, Error> {
    let uid = rustix::process::getuid().as_raw();
    let gid = rustix::process::getgid().as_raw();
    let subordinate = SubIds::of_user(uid)?;
    if uid == 0 && subordinate.is_empty() {
        return Ok(identity());
    }
    Ok(match mode {
        UserMode::Host => subordinate.default_map(uid, gid),
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
        UserMode::Map(uids, gids) => IdMap {
            uids: outer(uids, &subordinate.default_map(uid, gid).uids)?,
            gids: outer(gids, &subordinate.default_map(uid, gid).gids)?,
        },
    })
}

/// The lines of --uidmap name ids of the usual map, as in podman: 0 is the user, 1 is the first of the
/// range. They become the host's ids.
fn outer(
    lines: &[(u32, u32, u32)],
    usual: &[kelp_userns::IdMapping],
) -> Result<Vec<kelp_userns::IdMapping>, Error> {
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
            map.push(kelp_userns::IdMapping {
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

/// Root without a range of its own: every id is itself.
fn identity() -> IdMap {
    let all = vec![kelp_userns::IdMapping {
        container: 0,
        host: 0,
        size: u32::MAX,
    }];
    IdMap {
        uids: all.clone(),
        gids: all,
    }
}

impl Engine {
    /// A user namespace with this map: that of a live container, or a new one.
    pub fn user_namespace(&self, map: IdMap) -> Result<UserNamespace, Error> {
        Ok(shared::join_or_begin(&self.paths.runtime, map)?.finish()?)
    }
}
