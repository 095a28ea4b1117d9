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
    })
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
        Ok(shared::join_or_create(&self.paths.runtime, map)?)
    }
}
