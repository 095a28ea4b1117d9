//! The user namespace that the calling process is in, where its root is the user: as in `kelp unshare`,
//! or for root of a container in which kelp is run.
//!
//! There the files of the system say nothing of the ids that there are: the namespace's own map does.
//! Maps are written as outside of it, so that one map is the same map, with the same key, reservations
//! and records, whichever side kelp is called from; only what is told to the kernel, and what the kernel
//! tells, is in the ids of the namespace.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::OnceLock;

use rustix::process::{getegid, geteuid, getgid, getuid};
use rustix::thread::{CapabilitySet, capabilities};

use crate::Error;
use crate::map::{IdMap, IdMapping, parse_lines};
use crate::subid::{IdRange, SubIds};

/// The map of the namespace that the process is root of, as the namespace around it counts; `None`
/// outside of any, for others than root, and where every id is mapped to itself.
pub fn map() -> Option<&'static IdMap> {
    static MAP: OnceLock<Option<IdMap>> = OnceLock::new();
    if !geteuid().is_root() || !getegid().is_root() {
        return None;
    }
    MAP.get_or_init(|| {
        let side = |name: &str| {
            let text = std::fs::read_to_string(format!("/proc/self/{name}")).ok()?;
            parse_lines(&text)
        };
        let map = IdMap {
            uids: side("uid_map")?,
            gids: side("gid_map")?,
        };
        (!is_whole(&map.uids)).then_some(map)
    })
    .as_ref()
}

/// Whether every id is itself, as in the first namespace.
fn is_whole(lines: &[IdMapping]) -> bool {
    let [line] = lines else { return false };
    line.container == line.host && line.size == u32::MAX
}

/// The user's ids, as maps have them.
pub fn ids() -> (u32, u32) {
    let (uid, gid) = (getuid().as_raw(), getgid().as_raw());
    match map() {
        None => (uid, gid),
        Some(own) => (
            own.host_uid(uid).unwrap_or(uid),
            own.host_gid(gid).unwrap_or(gid),
        ),
    }
}

/// What the user may map besides the user: the ranges of the system's files, or the rest of the
/// namespace's ids.
pub fn subordinate() -> Result<SubIds, Error> {
    let Some(own) = map() else {
        return SubIds::of_user(getuid().as_raw());
    };
    Ok(SubIds {
        uids: ranges(&own.uids, getuid().as_raw()),
        gids: ranges(&own.gids, getgid().as_raw()),
    })
}

/// The ids of a map but for one, in the order of their places in it.
fn ranges(lines: &[IdMapping], but: u32) -> Vec<IdRange> {
    let mut lines = lines.to_vec();
    lines.sort_unstable_by_key(|line| line.container);
    let mut ranges = Vec::new();
    let mut add = |start: u32, size: u32| {
        if size > 0 {
            ranges.push(IdRange { start, size });
        }
    };
    for line in lines {
        match but.checked_sub(line.container) {
            Some(before) if before < line.size => {
                add(line.host, before);
                add(line.host + before + 1, line.size - before - 1);
            }
            _ => add(line.host, line.size),
        }
    }
    ranges
}

/// A map in the ids that the kernel takes from this process.
///
/// # Errors
/// [`Error::Map`] if the namespace lacks one of its ids.
pub fn inner(map: &IdMap) -> Result<IdMap, Error> {
    match self::map() {
        None => Ok(map.clone()),
        Some(own) => map.within(own).ok_or_else(|| {
            Error::Map(
                "the id map has ids that are not in the user namespace that kelp is called in: \
                 leave `kelp unshare` for it"
                    .to_owned(),
            )
        }),
    }
}

/// A map that the kernel tells this process, as maps are written.
pub fn outer(map: &IdMap) -> IdMap {
    let outer = self::map().and_then(|own| map.within(&own.inverse()));
    outer.unwrap_or_else(|| map.clone())
}

/// A descriptor of the process's own namespace if that has this very map and lets the process do in it
/// what containers need: then nobody needs another one.
pub(crate) fn namespace_of(map: &IdMap) -> Option<OwnedFd> {
    let own = self::map()?;
    let mine = map.within(own)?;
    let total = |lines: &[IdMapping]| lines.iter().map(|line| u64::from(line.size)).sum::<u64>();
    let is_own = mine.is_itself()
        && total(&mine.uids) == total(&own.uids)
        && total(&mine.gids) == total(&own.gids);
    if !is_own || !is_capable() {
        return None;
    }
    File::open("/proc/self/ns/user").ok().map(OwnedFd::from)
}

/// Whether the process may make mounts and namespaces where it is.
pub fn is_capable() -> bool {
    capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::map::mapping;

    #[test]
    fn a_map_without_its_root_is_ranges() {
        let range = |start, size| IdRange { start, size };
        for (lines, expected) in [
            (vec![mapping(0, 1000, 1)], vec![]),
            (
                vec![mapping(0, 1000, 1), mapping(1, 100_000, 65536)],
                vec![range(100_000, 65536)],
            ),
            (
                vec![mapping(1, 100_000, 9), mapping(0, 1000, 1)],
                vec![range(100_000, 9)],
            ),
            (vec![mapping(0, 5000, 100)], vec![range(5001, 99)]),
        ] {
            assert_eq!(ranges(&lines, 0), expected, "{lines:?}");
        }
        assert_eq!(
            ranges(&[mapping(0, 500, 10)], 3),
            [range(500, 3), range(504, 6)]
        );
    }

    #[test]
    fn only_the_first_namespaces_map_is_whole() {
        assert!(is_whole(&[mapping(0, 0, u32::MAX)]));
        assert!(!is_whole(&[mapping(0, 0, 65536)]));
        assert!(!is_whole(&[
            mapping(0, 1000, 1),
            mapping(1, 100_000, 65536)
        ]));
    }
}
