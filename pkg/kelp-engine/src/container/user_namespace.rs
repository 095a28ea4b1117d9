//! User namespaces that only the making of a container settles: ids of its own from the user's range
//! (`--userns=auto`), another container's, or a file's.
//!
//! A range is reserved by a file in `ranges/` of the data directory, whose name says which ids and whose.
//! It counts as long as the container's record is there, or its maker lives, which a lock on the file
//! tells: what a kill leaves is dropped by whoever looks for a range next.

use std::fs::{self, File};
use std::os::unix::fs::DirBuilderExt;

use kelp_state::{ContainerId, Record};
use kelp_userns::{IdMap, IdMapping, UserNamespace};
use rustix::fs::{FlockOperation, Mode, OFlags, flock};

use crate::container::config::{CreateOptions, MapLines, UserMode};
use crate::{Engine, Error, host};

/// As few ids as a container gets by itself, and as many (podman's limits too).
const LEAST: u32 = 1024;
const MOST: u32 = 65536;
/// The number of the user that owns nothing; no reason to map all ids below it.
const NOBODY: u32 = 65534;

/// Ids in the usual map: the first, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Range {
    first: u32,
    size: u32,
}

impl Range {
    fn end(self) -> u32 {
        self.first.saturating_add(self.size)
    }
}

impl Engine {
    /// Settles the id map of a container that is being made. What is returned keeps its range until its
    /// record is written.
    pub(crate) fn settle_user_namespace(
        &self,
        options: &mut CreateOptions,
        id: &ContainerId,
    ) -> Result<Option<File>, Error> {
        let (map, reserved) = match options.namespaces.user.clone() {
            UserMode::Auto { size, uids, gids } => {
                let size = match size {
                    Some(size) => size,
                    None => self.needed_ids(options)?,
                };
                let usual = host::id_map(&UserMode::Host)?;
                let (range, reserved) = self.reserve_range(id, size, &usual)?;
                let side = |given: &MapLines, usual: &[IdMapping]| {
                    host::outer(&with_given(given, range)?, usual)
                };
                let map = IdMap {
                    uids: side(&uids, &usual.uids)?,
                    gids: side(&gids, &usual.gids)?,
                };
                map.validate()?;
                (map, Some(reserved))
            }
            UserMode::Container(name) => {
                let other = self.find_container(&name)?;
                let config = self.config(&other)?;
                let reserved = self.share_range(&other, id)?;
                options.namespaces.user = UserMode::Container(other.to_string());
                (host::map_of(&config.options.namespaces)?, reserved)
            }
            UserMode::Path(path) => (UserNamespace::at(&path)?.map().clone(), None),
            UserMode::Host | UserMode::KeepId { .. } | UserMode::NoMap | UserMode::Map(..) => {
                return Ok(None);
            }
        };
        let lines = |side: &[IdMapping]| {
            let lines = side.iter();
            lines.map(|l| (l.container, l.host, l.size)).collect()
        };
        options.namespaces.user_map = Some((lines(&map.uids), lines(&map.gids)));
        Ok(reserved)
    }

    /// The namespace that a container with this map starts in: that of a file or a container which it
    /// names, or any with that map.
    pub(crate) fn userns_of(&self, options: &CreateOptions) -> Result<UserNamespace, Error> {
        let names = &options.namespaces;
        let map = host::map_of(names)?;
        let others = names.of_containers();
        let other = match &names.user {
            UserMode::Path(path) => {
                let namespace = UserNamespace::at(path)?;
                if *namespace.map() != map {
                    return Err(Error::conflict(format!(
                        "{} has another id map than when the container was made",
                        path.display()
                    )));
                }
                return Ok(namespace);
            }
            UserMode::Container(id) => Some(id.as_str()),
            // Who joins a namespace needs the capabilities that its owner's user namespace gives, and
            // two that were made at the same time are two, be their maps equal.
            _ => others.first().copied(),
        };
        let Some(other) = other else {
            return self.user_namespace(map);
        };
        let run = self.running(other)?;
        let namespace = UserNamespace::at(format!("/proc/{}/ns/user", run.pid).as_ref())?;
        if *namespace.map() != map {
            return Err(Error::conflict(format!(
                "container {} has other user ids: join its user namespace too, with \
                 --userns=container:{}",
                &other[..12.min(other.len())],
                &other[..12.min(other.len())],
            )));
        }
        Ok(namespace)
    }

    /// How many ids a container's image names, with the user that was asked for.
    fn needed_ids(&self, options: &CreateOptions) -> Result<u32, Error> {
        let base = self.base(options, &host::id_map(&UserMode::Host)?)?;
        let mut largest = 0;
        for (path, fields) in [("/etc/passwd", &[2, 3][..]), ("/etc/group", &[2])] {
            largest = largest.max(largest_id(&base.text(path)?, fields));
        }
        let asked = options.user.as_ref().or(base.config.user().as_ref());
        for id in asked.map_or("", String::as_str).split(':') {
            largest = largest.max(id.parse().unwrap_or(0));
        }
        Ok(largest.saturating_add(1).clamp(LEAST, MOST))
    }

    /// Reserves the first ids that are free, and no reservation of which counts.
    fn reserve_range(
        &self,
        id: &ContainerId,
        size: u32,
        usual: &IdMap,
    ) -> Result<(Range, File), Error> {
        let directory = self.open_ranges()?;
        // Two that look at once would find the same one. Released when it is closed.
        flock(&directory, FlockOperation::LockExclusive)
            .map_err(Error::io("lock the ranges of ids"))?;
        let taken: Vec<_> = self.ranges()?.into_iter().map(|(range, _)| range).collect();
        let whole = [&usual.uids, &usual.gids].map(|side| side.iter().map(|line| line.size).sum());
        let end: u32 = whole.into_iter().min().unwrap_or(0);
        let Some(first) = first_free(taken.clone(), size, end) else {
            return Err(Error::conflict(format!(
                "no {size} ids are free for --userns=auto: {} containers have ids of the {} in \
                 /etc/subuid and /etc/subgid; remove one, give this user a larger range, or ask for \
                 fewer with --userns=auto:size=N",
                taken.len(),
                end.saturating_sub(1),
            )));
        };
        let range = Range { first, size };
        Ok((range, self.enter_range(range, id)?))
    }

    /// Reserves another container's range for this one as well, if it has one.
    fn share_range(&self, other: &ContainerId, id: &ContainerId) -> Result<Option<File>, Error> {
        let directory = self.open_ranges()?;
        flock(&directory, FlockOperation::LockExclusive)
            .map_err(Error::io("lock the ranges of ids"))?;
        let ranges = self.ranges()?;
        let mut of_other = ranges.iter().filter(|(_, owner)| owner == other);
        let range = of_other.next().map(|&(range, _)| range);
        range.map(|range| self.enter_range(range, id)).transpose()
    }

    fn open_ranges(&self) -> Result<File, Error> {
        let path = self.paths.data.join("ranges");
        let what = || format!("open {}", path.display());
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        match made {
            Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => {
                Err(Error::io(what())(error))
            }
            _ => File::open(&path).map_err(Error::io(what())),
        }
    }

    fn enter_range(&self, range: Range, id: &ContainerId) -> Result<File, Error> {
        let name = format!("{}-{}-{id}", range.first, range.size);
        let path = self.paths.data.join("ranges").join(name);
        let what = || format!("create {}", path.display());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::CLOEXEC;
        let mode = Mode::RUSR | Mode::WUSR;
        let file = rustix::fs::open(&path, flags, mode).map_err(Error::io(what()))?;
        flock(&file, FlockOperation::NonBlockingLockExclusive).map_err(Error::io(what()))?;
        Ok(file.into())
    }

    /// The reservations that count; the others are removed. The directory's lock is had.
    fn ranges(&self) -> Result<Vec<(Range, ContainerId)>, Error> {
        let directory = self.paths.data.join("ranges");
        let what = || format!("read {}", directory.display());
        let mut ranges = Vec::new();
        for entry in fs::read_dir(&directory).map_err(Error::io(what()))? {
            let entry = entry.map_err(Error::io(what()))?;
            let name = entry.file_name();
            let Some((range, id)) = name.to_str().and_then(parse_entry) else {
                continue;
            };
            let has_record = Record::new(&self.paths, id.clone()).data.exists();
            let is_making = || match File::open(entry.path()) {
                Ok(file) => flock(&file, FlockOperation::NonBlockingLockExclusive).is_err(),
                Err(_) => false,
            };
            if has_record || is_making() {
                ranges.push((range, id));
            } else {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(ranges)
    }
}

/// `FIRST-SIZE-ID`.
fn parse_entry(name: &str) -> Option<(Range, ContainerId)> {
    let mut parts = name.splitn(3, '-');
    let mut number = || parts.next()?.parse().ok();
    let (first, size) = (number()?, number()?);
    Some((Range { first, size }, parts.next()?.parse().ok()?))
}

/// The first of `size` ids that nobody has, from 1 (0 is the user) and before `end`.
fn first_free(mut taken: Vec<Range>, size: u32, end: u32) -> Option<u32> {
    taken.sort_unstable();
    let mut first = 1;
    for range in taken {
        if range.first.saturating_sub(first) >= size {
            break;
        }
        first = first.max(range.end());
    }
    (first.checked_add(size)? <= end).then_some(first)
}

/// The largest id that lines of passwd(5) or group(5) name in these fields.
fn largest_id(text: &str, fields: &[usize]) -> u32 {
    let ids = text.lines().flat_map(|line| {
        let of_line: Vec<&str> = line.split(':').collect();
        let numbers = fields
            .iter()
            .filter_map(|&at| of_line.get(at)?.parse().ok());
        numbers.collect::<Vec<u32>>()
    });
    ids.filter(|&id| id < NOBODY).max().unwrap_or(0)
}

/// The lines for a range whose ids are those that no given line has: 0 and up inside.
fn with_given(given: &MapLines, range: Range) -> Result<MapLines, Error> {
    let mut lines = given.clone();
    lines.sort_unstable();
    let (mut inside, mut outside) = (0, range.first);
    let mut map = MapLines::new();
    for &(container, host, size) in &lines {
        if container < inside {
            return Err(Error::invalid(format!(
                "--userns=auto maps id {container} twice"
            )));
        }
        let before = (container - inside).min(range.end() - outside);
        if before > 0 {
            map.push((inside, outside, before));
        }
        outside += before;
        map.push((container, host, size));
        inside = container + size;
    }
    let left = range.end() - outside;
    if left > 0 {
        map.push((inside, outside, left));
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: u32, size: u32) -> Range {
        Range { first, size }
    }

    #[test]
    fn the_first_gap_that_is_large_enough_is_taken() {
        for (taken, expected) in [
            (vec![], Some(1)),
            (vec![range(1, 10)], Some(11)),
            (vec![range(11, 10)], Some(1)),
            (vec![range(6, 10)], Some(16)),
            (vec![range(21, 10), range(1, 10)], Some(11)),
            (vec![range(1, 10), range(1, 10), range(11, 50)], Some(61)),
            (vec![range(1, 85)], Some(86)),
            (vec![range(1, 91)], None),
            (vec![range(1, u32::MAX)], None),
        ] {
            assert_eq!(first_free(taken.clone(), 10, 100), expected, "{taken:?}");
        }
        assert_eq!(first_free(vec![], u32::MAX, 100), None);
    }

    #[test]
    fn given_lines_stand_among_those_of_the_range() {
        for (given, expected) in [
            (vec![], vec![(0, 100, 50)]),
            (
                vec![(10, 0, 1)],
                vec![(0, 100, 10), (10, 0, 1), (11, 110, 40)],
            ),
            (vec![(0, 7, 2)], vec![(0, 7, 2), (2, 100, 50)]),
            (vec![(90, 0, 1)], vec![(0, 100, 50), (90, 0, 1)]),
        ] {
            assert_eq!(with_given(&given, range(100, 50)).unwrap(), expected);
        }
        assert!(with_given(&vec![(0, 1, 5), (3, 9, 1)], range(100, 50)).is_err());
    }

    #[test]
    fn files_of_users_tell_how_many_ids_there_are() {
        let passwd =
            "root:x:0:0::/:/bin/sh\napp:x:3000:4000::/:\nnobody:x:65534:65534::/:\nbad:x:y";
        assert_eq!(largest_id(passwd, &[2, 3]), 4000);
        assert_eq!(largest_id("", &[2]), 0);
    }

    #[test]
    fn names_of_reservations_are_strict() {
        let id = "ab".repeat(32);
        let (range, owner) = parse_entry(&format!("1-1024-{id}")).unwrap();
        assert_eq!((range.first, range.size), (1, 1024));
        assert_eq!(owner.as_str(), id);
        for wrong in ["", "1", "1-2", "x-2-ab", "1-2-not-an-id"] {
            assert!(parse_entry(wrong).is_none(), "{wrong}");
        }
    }
}
