//! Extracting for another id map than that of the process.
//!
//! A container's root may be a subordinate id, and the user may not be mapped at all; no process in
//! such a namespace could write into the user's directories. So an archive is always extracted in the
//! namespace of the usual map, which has the user and every subordinate id, and what it says of ids
//! is translated: owners, the ids in access control lists, and whose root a file capability is for.

use std::os::fd::BorrowedFd;

use kelp_userns::{IdMap, IdMapping};
use rustix::fs::fchown;
use rustix::process::{Gid, Uid, getegid, geteuid};
use rustix::thread::{
    CapabilitiesSecureBits, capabilities_secure_bits, set_capabilities_secure_bits,
    set_thread_res_gid, set_thread_res_uid,
};

use super::path::show;
use crate::Error;
use crate::tar::Entry;

/// What an archive's ids are to the process.
#[derive(Debug)]
pub(crate) struct Translation<'a> {
    map: &'a IdMap,
    root: (u32, u32),
}

impl<'a> Translation<'a> {
    /// A translation by a map whose `host` side is the process's own ids.
    pub(crate) fn new(map: &'a IdMap) -> Result<Self, Error> {
        let root = map.host_uid(0).zip(map.host_gid(0)).ok_or_else(|| {
            Error::Invalid("the id map has no id 0, which owns most files of an image".to_owned())
        })?;
        Ok(Self { map, root })
    }

    /// Who the container's root is.
    pub(crate) fn root(&self) -> (u64, u64) {
        (self.root.0.into(), self.root.1.into())
    }

    /// Gives a directory to the container's root, and makes the calling thread that root, so that
    /// what it makes needs no chown(2). Capabilities stay. Dropping it undoes the latter.
    pub(crate) fn act_on(&self, directory: BorrowedFd<'_>) -> Result<Acting, Error> {
        let (uid, gid) = (Uid::from_raw(self.root.0), Gid::from_raw(self.root.1));
        let what = "become the owner of a layer";
        fchown(directory, Some(uid), Some(gid)).map_err(Error::io(what))?;
        let acting = Acting {
            uid: geteuid(),
            gid: getegid(),
        };
        // Otherwise an effective user id that is not 0 takes the effective capabilities along.
        let bits = capabilities_secure_bits().map_err(Error::io(what))?;
        set_capabilities_secure_bits(bits | CapabilitiesSecureBits::NO_SETUID_FIXUP)
            .map_err(Error::io(what))?;
        set_thread_res_gid(None, gid, None).map_err(Error::io(what))?;
        set_thread_res_uid(None, uid, None).map_err(Error::io(what))?;
        Ok(acting)
    }

    /// Translates an entry.
    pub(crate) fn apply(&self, entry: &mut Entry) -> Result<(), Error> {
        let unmapped = |entry: &Entry| Error::UnmappedId {
            path: show(&entry.path),
            uid: entry.uid,
            gid: entry.gid,
        };
        let uid = to_host(entry.uid, |id| self.map.host_uid(id));
        let gid = to_host(entry.gid, |id| self.map.host_gid(id));
        let (Some(uid), Some(gid)) = (uid, gid) else {
            return Err(unmapped(entry));
        };
        (entry.uid, entry.gid) = (uid.into(), gid.into());
        for (name, value) in &mut entry.xattrs {
            if name.as_slice() == b"security.capability" {
                capability(value, self.root.0);
            } else if name.starts_with(b"system.posix_acl_") {
                access_control_list(value, self.map);
            }
        }
        Ok(())
    }
}

fn to_host(id: u64, map: impl Fn(u32) -> Option<u32>) -> Option<u32> {
    map(u32::try_from(id).ok()?)
}

/// The thread's ids before it took others.
#[derive(Debug)]
pub(crate) struct Acting {
    uid: Uid,
    gid: Gid,
}

impl Drop for Acting {
    fn drop(&mut self) {
        let _ = set_thread_res_gid(None, self.gid, None);
        let _ = set_thread_res_uid(None, self.uid, None);
    }
}

/// Revision 3 of a file's capabilities says which user id is the root they are for; the kernel
/// would write the caller's (capabilities(7), "File capability extended attribute versioning").
pub(crate) fn capability(value: &mut Vec<u8>, root: u32) {
    const REVISION_2: u32 = 0x0200_0000;
    const REVISION_3: u32 = 0x0300_0000;
    const MASK: u32 = 0xff00_0000;
    let Some(&magic) = value.first_chunk::<4>() else {
        return;
    };
    let magic = u32::from_le_bytes(magic);
    if !matches!(magic & MASK, REVISION_2 | REVISION_3) || value.len() < 20 {
        return;
    }
    value.truncate(20);
    value[..4].copy_from_slice(&((magic & !MASK) | REVISION_3).to_le_bytes());
    value.extend(root.to_le_bytes());
}

/// A list is a version of four bytes and entries of eight: kind, permission, id (acl(5)).
pub(crate) fn access_control_list(value: &mut [u8], map: &IdMap) {
    const USER: u16 = 0x02;
    const GROUP: u16 = 0x08;
    for entry in value.get_mut(4..).unwrap_or_default().chunks_exact_mut(8) {
        let lines: &[IdMapping] = match u16::from_le_bytes([entry[0], entry[1]]) {
            USER => &map.uids,
            GROUP => &map.gids,
            _ => continue,
        };
        let id = u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]);
        let line = lines
            .iter()
            .find(|line| id >= line.container && id - line.container < line.size);
        // An id that is not mapped is refused by the kernel then.
        let id = line.map_or(u32::MAX, |line| line.host + (id - line.container));
        entry[4..].copy_from_slice(&id.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map() -> IdMap {
        IdMap::from_word("0:1:10,10:0:1/0:1:10,10:0:1").unwrap()
    }

    #[test]
    fn owners_lists_and_capabilities_are_translated() {
        let map = map();
        let translation = Translation::new(&map).unwrap();
        let list = |user: u8, group: u8| {
            [
                &[2, 0, 0, 0][..],
                &[2, 0, 6, 0, user, 0, 0, 0],
                &[8, 0, 6, 0, group, 0, 0, 0],
                &[4, 0, 4, 0, 255, 255, 255, 255],
            ]
            .concat()
        };
        let capability = [&[1, 0, 0, 2][..], &[0; 16]].concat();
        let mut entry = Entry {
            uid: 10,
            gid: 0,
            xattrs: vec![
                (b"security.capability".to_vec(), capability),
                (b"system.posix_acl_access".to_vec(), list(0, 10)),
                (b"user.x".to_vec(), b"y".to_vec()),
            ],
            ..Entry::default()
        };
        translation.apply(&mut entry).unwrap();
        assert_eq!((entry.uid, entry.gid), (0, 1));
        assert_eq!(
            entry.xattrs[0].1,
            [&[1, 0, 0, 3][..], &[0; 16], &[1, 0, 0, 0]].concat()
        );
        assert_eq!(entry.xattrs[1].1, list(1, 0));
        assert_eq!(entry.xattrs[2].1, b"y");
        let mut foreign = Entry {
            uid: 11,
            ..Entry::default()
        };
        assert!(matches!(
            translation.apply(&mut foreign),
            Err(Error::UnmappedId { uid: 11, .. })
        ));
    }
}
