//! Id maps: which ids inside a user namespace are which ids outside.

use std::fmt;
use std::hash::{Hash, Hasher};

use crate::Error;

/// One line of `/proc/<pid>/uid_map`: `size` ids from `container` on are those from `host` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct IdMapping {
    /// First id inside the namespace.
    pub container: u32,
    /// First id outside, as the caller's namespace counts.
    pub host: u32,
    /// How many ids.
    pub size: u32,
}

/// The user and group ids of a namespace.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct IdMap {
    /// User ids.
    pub uids: Vec<IdMapping>,
    /// Group ids.
    pub gids: Vec<IdMapping>,
}

impl IdMap {
    /// Container 0 is the user, and nothing else is mapped.
    pub fn single(uid: u32, gid: u32) -> Self {
        let line = |host| {
            vec![IdMapping {
                container: 0,
                host,
                size: 1,
            }]
        };
        Self {
            uids: line(uid),
            gids: line(gid),
        }
    }

    /// Whether only one id is mapped, so that chown(2) can't work.
    pub fn is_single(&self) -> bool {
        matches!(self.uids.as_slice(), [IdMapping { size: 1, .. }])
    }

    /// The directory name for layers extracted with this map: `single`, or 16 hex digits.
    ///
    /// Stable over versions of kelp: FNV-1a of the map's lines.
    pub fn key(&self) -> String {
        if self.is_single() {
            return "single".to_owned();
        }
        let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
        hasher.write(lines(&self.uids).as_bytes());
        hasher.write(b"/");
        hasher.write(lines(&self.gids).as_bytes());
        format!("{:016x}", hasher.finish())
    }

    /// Checks each side: no empty line, no overlap, no id past 2^32 - 2.
    pub fn validate(&self) -> Result<(), Error> {
        for (kind, lines) in [("uid", &self.uids), ("gid", &self.gids)] {
            if lines.is_empty() {
                return Err(Error::Map(format!("the {kind} map is empty")));
            }
            if lines.len() > 340 {
                return Err(Error::Map(format!(
                    "the {kind} map has {} lines; the kernel takes at most 340",
                    lines.len()
                )));
            }
            for side in [
                |line: &IdMapping| line.container,
                |line: &IdMapping| line.host,
            ] {
                check_side(kind, lines, side)?;
            }
        }
        Ok(())
    }

    /// The same map as a process in a namespace with the map `outer` counts: `host` is then the id
    /// there. `None` if `outer` lacks one of the ids.
    pub fn within(&self, outer: &Self) -> Option<Self> {
        Some(Self {
            uids: within(&self.uids, &outer.uids)?,
            gids: within(&self.gids, &outer.gids)?,
        })
    }

    /// Whether every id stands for itself.
    pub fn is_itself(&self) -> bool {
        let mut lines = self.uids.iter().chain(&self.gids);
        lines.all(|line| line.container == line.host)
    }

    /// The same the other way round: whose `container` is this one's `host`.
    #[must_use]
    pub fn inverse(&self) -> Self {
        let turned = |lines: &[IdMapping]| {
            let lines = lines.iter().map(|line| IdMapping {
                container: line.host,
                host: line.container,
                size: line.size,
            });
            lines.collect()
        };
        Self {
            uids: turned(&self.uids),
            gids: turned(&self.gids),
        }
    }

    /// The map in one word, for an argument to another process.
    pub fn to_word(&self) -> String {
        let side = |lines: &[IdMapping]| {
            let lines = lines
                .iter()
                .map(|line| format!("{}:{}:{}", line.container, line.host, line.size));
            lines.collect::<Vec<_>>().join(",")
        };
        format!("{}/{}", side(&self.uids), side(&self.gids))
    }

    /// What [`IdMap::to_word`] wrote.
    pub fn from_word(word: &str) -> Option<Self> {
        let side = |text: &str| parse_lines(&text.replace(',', "\n").replace(':', " "));
        let (uids, gids) = word.split_once('/')?;
        Some(Self {
            uids: side(uids)?,
            gids: side(gids)?,
        })
    }

    /// The container's user id for a host's.
    pub fn container_uid(&self, host: u32) -> Option<u32> {
        to_container(&self.uids, host)
    }

    /// The container's group id for a host's.
    pub fn container_gid(&self, host: u32) -> Option<u32> {
        to_container(&self.gids, host)
    }

    /// The host's id for a container's user id.
    pub fn host_uid(&self, container: u32) -> Option<u32> {
        to_host(&self.uids, container)
    }

    /// The host's id for a container's group id.
    pub fn host_gid(&self, container: u32) -> Option<u32> {
        to_host(&self.gids, container)
    }
}

fn to_host(lines: &[IdMapping], id: u32) -> Option<u32> {
    lines
        .iter()
        .find(|line| id >= line.container && id - line.container < line.size)
        .map(|line| line.host + (id - line.container))
}

fn to_container(lines: &[IdMapping], id: u32) -> Option<u32> {
    lines
        .iter()
        .find(|line| id >= line.host && id - line.host < line.size)
        .map(|line| line.container + (id - line.host))
}

fn within(lines: &[IdMapping], outer: &[IdMapping]) -> Option<Vec<IdMapping>> {
    let mut map = Vec::new();
    for line in lines {
        let mut done = 0;
        while done < line.size {
            let host = line.host + done;
            let around = outer
                .iter()
                .find(|outer| host >= outer.host && host - outer.host < outer.size)?;
            let offset = host - around.host;
            let size = (line.size - done).min(around.size - offset);
            map.push(IdMapping {
                container: line.container + done,
                host: around.container + offset,
                size,
            });
            done += size;
        }
    }
    Some(map)
}

fn check_side(kind: &str, lines: &[IdMapping], first: fn(&IdMapping) -> u32) -> Result<(), Error> {
    let mut sorted: Vec<_> = lines.iter().map(|line| (first(line), line.size)).collect();
    sorted.sort_unstable();
    let mut next = 0;
    for (id, size) in sorted {
        let end = u64::from(id) + u64::from(size);
        if size == 0 || end > u64::from(u32::MAX) {
            return Err(Error::Map(format!(
                "the {kind} map line {id}:{size} is empty or goes past the last id"
            )));
        }
        if u64::from(id) < next {
            return Err(Error::Map(format!("the {kind} map names id {id} twice")));
        }
        next = end;
    }
    Ok(())
}

/// The text that goes into `/proc/<pid>/uid_map`.
pub fn lines(map: &[IdMapping]) -> String {
    use fmt::Write;
    let mut text = String::new();
    for line in map {
        let _ = writeln!(text, "{} {} {}", line.container, line.host, line.size);
    }
    text
}

/// Parses the text of `/proc/<pid>/uid_map`; `None` if it is not one.
pub fn parse_lines(text: &str) -> Option<Vec<IdMapping>> {
    text.lines()
        .map(|line| {
            let mut fields = line.split_ascii_whitespace().map(str::parse);
            let mut next = || fields.next()?.ok();
            Some(IdMapping {
                container: next()?,
                host: next()?,
                size: next()?,
            })
        })
        .collect()
}

struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

pub(crate) fn mapping(container: u32, host: u32, size: u32) -> IdMapping {
    IdMapping {
        container,
        host,
        size,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_name_maps() {
        assert_eq!(IdMap::single(1000, 1000).key(), "single");
        let map = IdMap {
            uids: vec![mapping(0, 1000, 1), mapping(1, 100_000, 65536)],
            gids: vec![mapping(0, 1000, 1), mapping(1, 100_000, 65536)],
        };
        assert_eq!(map.key().len(), 16);
        let mut other = map.clone();
        other.gids[1].size = 65535;
        assert_ne!(map.key(), other.key());
    }

    #[test]
    fn a_map_is_seen_from_inside_another() {
        let both = |lines: &[IdMapping]| IdMap {
            uids: lines.to_vec(),
            gids: lines.to_vec(),
        };
        let usual = both(&[mapping(0, 1000, 1), mapping(1, 100_000, 100)]);
        let keep_id = both(&[
            mapping(0, 100_000, 10),
            mapping(10, 1000, 1),
            mapping(11, 100_010, 90),
        ]);
        let inside = keep_id.within(&usual).unwrap();
        assert_eq!(
            inside,
            both(&[mapping(0, 1, 10), mapping(10, 0, 1), mapping(11, 11, 90)])
        );
        assert_eq!(inside.within(&usual.inverse()), Some(keep_id.clone()));
        assert_eq!(IdMap::from_word(&inside.to_word()), Some(inside));
        assert_eq!(keep_id.container_uid(1000), Some(10));
        assert_eq!(keep_id.container_gid(7), None);
        assert_eq!(both(&[mapping(0, 100_050, 60)]).within(&usual), None);
    }

    #[test]
    fn overlaps_and_overflows_are_refused() {
        let good = vec![mapping(0, 1000, 1)];
        for (uids, said) in [
            (vec![mapping(0, 1000, 2), mapping(1, 5000, 1)], "twice"),
            (vec![mapping(0, 1000, 2), mapping(2, 1001, 1)], "twice"),
            (vec![mapping(u32::MAX, 1000, 1)], "past the last"),
            (vec![mapping(0, 1000, 0)], "empty"),
            (vec![], "empty"),
        ] {
            let map = IdMap {
                uids,
                gids: good.clone(),
            };
            let error = map.validate().unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn text_goes_both_ways() {
        let map = vec![mapping(0, 1000, 1), mapping(1, 100_000, 65536)];
        assert_eq!(parse_lines(&lines(&map)), Some(map.clone()));
        assert_eq!(parse_lines("   0   1000   1\n"), Some(vec![map[0]]));
        assert_eq!(parse_lines("0 x 1"), None);
        assert_eq!(parse_lines("0 1"), None);
    }
}
