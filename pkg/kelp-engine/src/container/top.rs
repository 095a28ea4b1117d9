//! `top`: the processes of a container.
//!
//! Everything comes from the host's /proc, and nothing of the image is executed (CVE-2022-1227): a
//! `ps` that the container brings along could say or do what it likes. The only files of the
//! container that are read are passwd and group, by descriptor beneath its root and bounded; what
//! comes from there and from command lines is shown without control characters.

mod column;
mod patient;
mod process;
mod ps;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kelp_runtime::cgroup::Cgroup;
use kelp_runtime::rootfd::Root;
use kelp_runtime::user;
use kelp_state::{ContainerId, RunRecord};
use rustix::fs::{Mode, OFlags};

use crate::container::signal::ends_within;
use crate::{Engine, Error};
use column::Column;
use patient::Reader;
use process::{MAX_ARGS, Process};

/// What is shown where nothing is asked for.
const DEFAULT: &[&str] = &[
    "user", "pid", "ppid", "pcpu", "etime", "tty", "time", "args",
];

/// The most that is read of the container's group file, in bytes.
const MAX_FILE: usize = 1 << 20;

impl Engine {
    /// A heading and a row for each process; `descriptors` name the columns, as in podman-top(1), or are
    /// arguments of ps(1).
    pub fn top(&self, id: &ContainerId, descriptors: &[String]) -> Result<Vec<Vec<String>>, Error> {
        let columns = columns(descriptors)?;
        let (run, pidfd) = self.init_of(id).map_err(|_| {
            Error::conflict("top can only be used on running containers: container state improper")
        })?;
        let inside = Inside::new(&run)?;
        let mut reader = Reader::new(MAX_ARGS);
        let mut processes: Vec<_> = pids(&run)?
            .into_iter()
            .filter_map(|pid| Process::read(pid, inside.depth, &mut reader))
            .collect();
        // A number that was handed on meanwhile is another process's: only while the init lives can
        // what was read through its number be its own.
        if ends_within(&pidfd, Duration::ZERO)? {
            return Err(Error::conflict(
                "the container has ended: container state improper",
            ));
        }
        processes.sort_by_key(|process| (process.start, process.host_pid));
        let headings = columns.iter().map(|(heading, _)| heading.clone());
        let mut rows = vec![headings.collect()];
        for process in &processes {
            let row = columns.iter();
            let row = row.map(|(_, column)| column.show(process, &processes, &inside));
            rows.push(row.collect());
        }
        Ok(rows)
    }
}

/// The columns and their headings, by podman-top(1)'s words or as ps(1) would show them.
fn columns(descriptors: &[String]) -> Result<Vec<(String, Column)>, Error> {
    if ps::is_meant(descriptors) {
        return ps::columns(descriptors);
    }
    let words: Vec<&str> = descriptors
        .iter()
        .flat_map(|text| text.split([',', ' ']))
        .filter(|word| !word.is_empty())
        .collect();
    let words = if words.is_empty() { DEFAULT } else { &words };
    let columns = words.iter().map(|word| Column::parse(word));
    columns
        .map(|column| column.map(|column| (column.heading().to_owned(), column)))
        .collect()
}

/// How ids look inside.
struct Inside {
    /// How deep the container's pid namespace lies, counted from the one that this process sees.
    depth: usize,
    uids: Map,
    gids: Map,
    root: Option<Root>,
    groups: BTreeMap<u32, String>,
}

impl Inside {
    fn new(run: &RunRecord) -> Result<Self, Error> {
        let file = |name: &str| {
            let path = format!("/proc/{}/{name}", run.pid);
            fs::read_to_string(&path).map_err(Error::io(format!("read {path}")))
        };
        let root = open_root(run.pid).ok().map(Root::new);
        let groups = root.as_ref().map(read_groups).unwrap_or_default();
        Ok(Self {
            depth: process::ns_pids(&file("status")?).len(),
            uids: Map::parse(&file("uid_map")?),
            gids: Map::parse(&file("gid_map")?),
            root,
            groups,
        })
    }

    /// The name that a user of the host has inside, or its number.
    fn user(&self, host_uid: u32) -> String {
        let Some(uid) = self.uids.inside(host_uid) else {
            return "?".to_owned();
        };
        let no_groups: &[&str] = &[];
        self.root
            .as_ref()
            .and_then(|root| user::resolve(root, &uid.to_string(), no_groups).ok())
            .and_then(|user| user.name)
            .map_or_else(|| uid.to_string(), |name| printable(&name))
    }

    fn group(&self, host_gid: u32) -> String {
        match self.gids.inside(host_gid) {
            Some(gid) => match self.groups.get(&gid) {
                Some(name) => name.clone(),
                None => gid.to_string(),
            },
            None => "?".to_owned(),
        }
    }
}

/// A process's root, by a number that the caller verifies after.
fn open_root(pid: u32) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let path = format!("/proc/{pid}/root");
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

fn read_groups(root: &Root) -> BTreeMap<u32, String> {
    let content = root.read_file(Path::new("etc/group"), MAX_FILE);
    let mut groups = BTreeMap::new();
    for line in content.unwrap_or_default().split(|&byte| byte == b'\n') {
        let mut fields = line.split(|&byte| byte == b':');
        let (Some(name), Some(_), Some(gid)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        if let Some(gid) = std::str::from_utf8(gid)
            .ok()
            .and_then(|gid| gid.parse().ok())
            && !name.is_empty()
        {
            groups.entry(gid).or_insert_with(|| printable(name));
        }
    }
    groups
}

/// An id map (user_namespaces(7)), from outside to inside.
struct Map(Vec<[u32; 3]>);

impl Map {
    fn parse(text: &str) -> Self {
        let lines = text.lines().filter_map(|line| {
            let mut numbers = line.split_ascii_whitespace().map(str::parse);
            Some([
                numbers.next()?.ok()?,
                numbers.next()?.ok()?,
                numbers.next()?.ok()?,
            ])
        });
        Self(lines.collect())
    }

    fn inside(&self, outside: u32) -> Option<u32> {
        self.0.iter().find_map(|&[inside, first, size]| {
            let offset = outside.checked_sub(first)?;
            (offset < size).then(|| inside.checked_add(offset))?
        })
    }
}

/// Text from a container: control characters would act on the terminal.
fn printable(text: &[u8]) -> String {
    String::from_utf8_lossy(text)
        .chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

/// The container's processes: those in its cgroup, or without one those in the namespace that only
/// it has.
pub(super) fn pids(run: &RunRecord) -> Result<Vec<u32>, Error> {
    if !run.cgroup.is_empty()
        && let Ok(cgroup) = Cgroup::open(&run.cgroup)
    {
        let mut pids = Vec::new();
        in_cgroup(cgroup.path(), &mut pids);
        return Ok(pids);
    }
    let namespace = |pid: u32, kind: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok();
    let own = std::process::id();
    let shares_pids = namespace(run.pid, "pid") == namespace(own, "pid");
    let kind = if shares_pids { "mnt" } else { "pid" };
    let wanted: Option<PathBuf> = namespace(run.pid, kind);
    let entries = fs::read_dir("/proc").map_err(Error::io("read /proc"))?;
    Ok(entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter(|&pid| wanted.is_some() && namespace(pid, kind) == wanted)
        .collect())
}

fn in_cgroup(directory: &Path, pids: &mut Vec<u32>) {
    let list = fs::read_to_string(directory.join("cgroup.procs")).unwrap_or_default();
    pids.extend(list.lines().filter_map(|line| line.parse::<u32>().ok()));
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            in_cgroup(&entry.path(), pids);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_mapped_back() {
        let map =
            Map::parse("         0       1001          1\n         1     100000      65536\n");
        for (outside, inside) in [
            (1001, Some(0)),
            (100_000, Some(1)),
            (165_535, Some(65_536)),
            (165_536, None),
            (0, None),
            (1002, None),
        ] {
            assert_eq!(map.inside(outside), inside, "{outside}");
        }
        assert_eq!(Map::parse("x\n1 2\n").inside(2), None);
    }

    #[test]
    fn an_unknown_descriptor_is_an_error() {
        let columns = |words: &[&str]| {
            let words: Vec<_> = words.iter().map(|word| (*word).to_owned()).collect();
            columns(&words).map(|columns| columns.len())
        };
        assert_eq!(columns(&[]).unwrap(), 8);
        assert_eq!(columns(&["pid,user", "%C"]).unwrap(), 3);
        for words in [
            &["nothing"][..],
            &["-Z"],
            &["pid", "nothing"],
            &["pid", "-ef"],
        ] {
            assert!(columns(words).is_err(), "{words:?}");
        }
    }

    #[test]
    fn text_of_a_container_does_nothing_to_the_terminal() {
        assert_eq!(printable(b"a\x1b[2Jb\xff\n"), "a?[2Jb\u{fffd}?");
    }
}
