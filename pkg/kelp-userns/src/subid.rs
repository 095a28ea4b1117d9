//! Subordinate ids: subuid(5), subgid(5), and the maps kelp makes of them.

use std::fs;
use std::io;

use crate::Error;
use crate::map::{IdMap, IdMapping, mapping};

/// A range of host ids that a user may map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdRange {
    /// First id on the host.
    pub start: u32,
    /// How many.
    pub size: u32,
}

/// What the user may map besides the user itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SubIds {
    /// From /etc/subuid.
    pub uids: Vec<IdRange>,
    /// From /etc/subgid.
    pub gids: Vec<IdRange>,
}

impl SubIds {
    /// Reads the ranges of the user `uid`, whose entries may have its name or its number.
    pub fn of_user(uid: u32) -> Result<Self, Error> {
        let name = user_name(uid);
        let read = |path: &str| match fs::read_to_string(path) {
            Ok(text) => Ok(parse(&text, name.as_deref(), uid)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(Error::io(format!("read {path}"))(error)),
        };
        Ok(Self {
            uids: read("/etc/subuid")?,
            gids: read("/etc/subgid")?,
        })
    }

    /// Whether ids besides the user's own can be mapped.
    pub fn is_empty(&self) -> bool {
        self.uids.is_empty() || self.gids.is_empty()
    }

    /// Container 0 is the user, 1 and up are the ranges; only the user where there are none.
    pub fn default_map(&self, uid: u32, gid: u32) -> IdMap {
        let mut map = IdMap::single(uid, gid);
        if !self.is_empty() {
            append(&mut map.uids, &self.uids);
            append(&mut map.gids, &self.gids);
        }
        map
    }

    /// The user keeps `container_uid` and `container_gid`; the ids around them are the ranges.
    pub fn keep_id_map(
        &self,
        uid: u32,
        gid: u32,
        container_uid: u32,
        container_gid: u32,
    ) -> Result<IdMap, Error> {
        if self.is_empty() && (container_uid, container_gid) != (0, 0) {
            return Err(without_range("keep-id"));
        }
        Ok(IdMap {
            uids: keep(&self.uids, container_uid, uid, "uid")?,
            gids: keep(&self.gids, container_gid, gid, "gid")?,
        })
    }

    /// The ranges alone: the user is not mapped.
    pub fn nomap(&self) -> Result<IdMap, Error> {
        if self.is_empty() {
            return Err(without_range("nomap"));
        }
        let mut map = IdMap {
            uids: Vec::new(),
            gids: Vec::new(),
        };
        append(&mut map.uids, &self.uids);
        append(&mut map.gids, &self.gids);
        Ok(map)
    }
}

/// Whoever is not root inside leaves root to an id that this user does not have.
fn without_range(mode: &str) -> Error {
    let name = user_name(rustix::process::getuid().as_raw());
    Error::Map(format!(
        "--userns={mode} needs subordinate ids; add a line for this user to /etc/subuid and \
         /etc/subgid, such as `{}:100000:65536`",
        name.as_deref().unwrap_or("NAME")
    ))
}

fn append(map: &mut Vec<IdMapping>, ranges: &[IdRange]) {
    let mut next = map.last().map_or(0, |line| line.container + line.size);
    for range in ranges {
        let Some(end) = next.checked_add(range.size) else {
            return;
        };
        map.push(mapping(next, range.start, range.size));
        next = end;
    }
}

fn keep(ranges: &[IdRange], kept: u32, host: u32, kind: &str) -> Result<Vec<IdMapping>, Error> {
    let total: u64 = ranges.iter().map(|range| u64::from(range.size)).sum();
    if u64::from(kept) > total {
        return Err(Error::Map(format!(
            "keep-id wants {kind} {kept} inside, but /etc/sub{kind} gives only {total} ids below \
             it; give this user a larger range, or keep-id:{kind}=N with a smaller N"
        )));
    }
    let mut map = Vec::new();
    let mut next: u32 = 0;
    for range in ranges {
        let (mut start, mut size) = (range.start, range.size);
        if next < kept && size > kept - next {
            let below = kept - next;
            map.push(mapping(next, start, below));
            next = kept;
            start += below;
            size -= below;
        }
        if next == kept {
            map.push(mapping(kept, host, 1));
            next += 1;
        }
        let Some(end) = next.checked_add(size) else {
            break;
        };
        if size > 0 {
            map.push(mapping(next, start, size));
        }
        next = end;
    }
    if next == kept {
        map.push(mapping(kept, host, 1));
    }
    Ok(map)
}

/// The lines of `name` or `uid`; malformed lines are passed over, as newuidmap(1) does.
fn parse(text: &str, name: Option<&str>, uid: u32) -> Vec<IdRange> {
    let number = uid.to_string();
    text.lines()
        .filter_map(|line| {
            let mut fields = line.trim().split(':');
            let owner = fields.next()?;
            if Some(owner) != name && owner != number {
                return None;
            }
            let start = fields.next()?.parse().ok()?;
            let size: u32 = fields.next()?.parse().ok()?;
            (size > 0 && fields.next().is_none()).then_some(IdRange { start, size })
        })
        .collect()
}

/// The user's name from /etc/passwd, else from the environment: without NSS, which a static program
/// can't have, a name from LDAP is only known there.
pub fn user_name(uid: u32) -> Option<String> {
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    name_in_passwd(&passwd, uid)
        .map(str::to_owned)
        .or_else(|| std::env::var("USER").ok())
}

fn name_in_passwd(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(start: u32, size: u32) -> IdRange {
        IdRange { start, size }
    }

    fn sub(ranges: &[IdRange]) -> SubIds {
        SubIds {
            uids: ranges.to_vec(),
            gids: ranges.to_vec(),
        }
    }

    #[test]
    fn lines_of_name_and_number_count() {
        let text = "root:1:2\nkim:100000:65536\n1000:300000:10\nkim:bad\nkim:1:2:3\n# kim\n";
        assert_eq!(
            parse(text, Some("kim"), 1000),
            [range(100_000, 65536), range(300_000, 10)]
        );
        assert_eq!(parse(text, None, 7), []);
    }

    #[test]
    fn the_default_map_puts_the_user_at_zero() {
        let map = sub(&[range(100_000, 65536), range(300_000, 10)]).default_map(1000, 1000);
        assert_eq!(
            map.uids,
            [
                mapping(0, 1000, 1),
                mapping(1, 100_000, 65536),
                mapping(65537, 300_000, 10)
            ]
        );
        assert!(sub(&[]).default_map(1000, 100).is_single());
    }

    #[test]
    fn keep_id_splits_the_range_around_the_user() {
        let map = sub(&[range(100_000, 65536)])
            .keep_id_map(1000, 1000, 1000, 1000)
            .unwrap();
        assert_eq!(
            map.uids,
            [
                mapping(0, 100_000, 1000),
                mapping(1000, 1000, 1),
                mapping(1001, 101_000, 64536)
            ]
        );
        map.validate().unwrap();
        let exact = sub(&[range(100_000, 1000), range(300_000, 5)])
            .keep_id_map(1000, 1000, 1000, 1000)
            .unwrap();
        assert_eq!(
            exact.uids,
            [
                mapping(0, 100_000, 1000),
                mapping(1000, 1000, 1),
                mapping(1001, 300_000, 5)
            ]
        );
        let zero = sub(&[range(100_000, 10)])
            .keep_id_map(1000, 1000, 0, 0)
            .unwrap();
        assert_eq!(zero.uids, [mapping(0, 1000, 1), mapping(1, 100_000, 10)]);
        let error = sub(&[range(100_000, 10)]).keep_id_map(1000, 1000, 1000, 1000);
        assert!(
            error
                .unwrap_err()
                .to_string()
                .contains("/etc/subuid gives only 10")
        );
    }

    #[test]
    fn names_come_from_passwd() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nkim:x:1000:1000::/home/kim:/bin/sh\n";
        assert_eq!(name_in_passwd(passwd, 1000), Some("kim"));
        assert_eq!(name_in_passwd(passwd, 1), None);
    }
}
