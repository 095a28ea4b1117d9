//! Intel's Resource Director Technology: a container's share of the processor's caches and memory bandwidth
//! (runtime-spec, config-linux.md, "IntelRdt"; the kernel's documentation of resctrl).
//!
//! A group is a directory of the resctrl file system, wherever that is mounted: `schemata` says what its tasks
//! get, `tasks` who they are, and below `mon_groups` are groups that only count. A task's children are in its
//! groups.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxIntelRdt;
use serde::{Deserialize, Serialize};

use crate::error::{Error, plain};

/// What resctrl has in the place of groups (its documentation, "Info directory", "Resource alloc and monitor
/// groups").
const NO_GROUPS: [&str; 3] = ["info", "mon_groups", "mon_data"];

/// The groups that a container is to be in.
#[derive(Debug)]
pub struct ResctrlPlan {
    /// The mount.
    mount: PathBuf,
    /// The group by which resources are allotted.
    group: PathBuf,
    /// What has to be in force in a group that is there already.
    wanted: Vec<String>,
    /// What is written to `schemata`, each at once.
    writes: Vec<Vec<String>>,
    /// Whether the group is this container's.
    is_own: bool,
    /// The group that counts.
    monitor: Option<PathBuf>,
}

/// The groups of a container, as its record keeps them.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Groups {
    group: PathBuf,
    monitor: Option<PathBuf>,
    /// Whether the first goes with the container.
    is_own: bool,
}

impl ResctrlPlan {
    /// Checks what is asked for, and finds resctrl; `id` is the container's.
    pub fn new(rdt: &LinuxIntelRdt, id: &str) -> Result<Self, Error> {
        let table = fs::read_to_string("/proc/self/mountinfo")
            .map_err(Error::io("read /proc/self/mountinfo"))?;
        let mount = mount(&table).ok_or_else(|| {
            Error::Spec(
                "linux.intelRdt: no resctrl file system is mounted: mount -t resctrl resctrl \
                 /sys/fs/resctrl, or leave it out"
                    .to_owned(),
            )
        })?;
        Self::at(mount, rdt, id)
    }

    fn at(mount: &Path, rdt: &LinuxIntelRdt, id: &str) -> Result<Self, Error> {
        let refused = |why: &str| Err(Error::Spec(format!("linux.intelRdt.{why}")));
        let closid = rdt.clos_id().as_deref().filter(|name| !name.is_empty());
        let (name, what) = closid.map_or((id, "the container's id"), |name| (name, "closID"));
        let is_name = !matches!(name, "." | "..") && !name.contains(['/', '\n', '\0']);
        let is_group = is_name && !NO_GROUPS.contains(&name);
        if closid != Some("/") && !is_group {
            return Err(Error::Spec(format!(
                "linux.intelRdt: {what} {name:?} can't be the name of a group"
            )));
        }
        let l3 = rdt.l3_cache_schema().iter();
        let bandwidth = rdt.mem_bw_schema().as_ref();
        if bandwidth.is_some_and(|line| !line.starts_with("MB:") || line.contains('\n')) {
            return refused("memBwSchema: it is one line, which begins with MB:");
        }
        let schemata = rdt.schemata().clone().unwrap_or_default();
        if schemata.iter().any(|line| line.contains('\n')) {
            return refused("schemata: each is one line");
        }
        // Some write several lines here, for code and data apart.
        let l3 = l3.flat_map(|text| text.lines());
        let lines = l3.chain(bandwidth.map(String::as_str));
        let wanted: Vec<_> = lines.map(str::to_owned).collect();
        let group = mount.join(if closid == Some("/") { "" } else { name });
        let counts = rdt.enable_monitoring().unwrap_or(false);
        Ok(Self {
            mount: mount.to_owned(),
            monitor: counts.then(|| group.join("mon_groups").join(id)),
            group,
            writes: [wanted.clone(), schemata]
                .into_iter()
                .filter(|lines| !lines.is_empty())
                .collect(),
            wanted,
            is_own: closid.is_none(),
        })
    }

    /// Makes the groups that are missing, and writes what they get. If that fails no group is left of it.
    pub fn make(&self) -> Result<Groups, Error> {
        let is_new = self.make_group()?;
        let groups = Groups {
            group: self.group.clone(),
            monitor: self.monitor.clone(),
            is_own: self.is_own && is_new,
        };
        let made = self.fill(is_new);
        if made.is_err() && is_new {
            let _ = fs::remove_dir(&self.group);
        }
        made.map(|()| groups)
    }

    fn make_group(&self) -> Result<bool, Error> {
        if !self.is_own && self.writes.is_empty() && !self.group.is_dir() {
            return Err(Error::Spec(format!(
                "linux.intelRdt.closID: there is no group {}: make it, or say what it gets in \
                 linux.intelRdt.schemata",
                self.group.display()
            )));
        }
        match fs::create_dir(&self.group) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            made => self.step(made.map(|()| true), "make", &self.group),
        }
    }

    fn fill(&self, is_new: bool) -> Result<(), Error> {
        let path = self.group.join("schemata");
        if !is_new && !self.is_own && !self.wanted.is_empty() {
            let text = self.step(fs::read_to_string(&path), "read", &path)?;
            if let Some(line) = self.wanted.iter().find(|line| !is_in_force(line, &text)) {
                return Err(Error::Spec(format!(
                    "linux.intelRdt: {line} is not what {} says: another closID has to be chosen for it",
                    path.display()
                )));
            }
        }
        for lines in &self.writes {
            let text = format!("{}\n", lines.join("\n"));
            let what = format!("write {} to", lines.join(" "));
            self.step(fs::write(&path, text), &what, &path)?;
        }
        match &self.monitor {
            Some(monitor) => self.step(fs::create_dir(monitor), "make", monitor),
            None => Ok(()),
        }
    }

    /// Adds what the kernel says of a step that has failed.
    fn step<T>(&self, result: io::Result<T>, what: &str, path: &Path) -> Result<T, Error> {
        result.map_err(|error| {
            let status = fs::read_to_string(self.mount.join("info/last_cmd_status"));
            let status = status.unwrap_or_default();
            let why = match (status.trim(), error.raw_os_error()) {
                ("" | "ok", _) => plain(&error),
                (status, _) => format!("{} ({status})", plain(&error)),
            };
            Error::Init(format!("linux.intelRdt: {what} {}: {why}", path.display()))
        })
    }
}

impl Groups {
    /// Moves a process to them.
    pub fn add(&self, pid: i32) -> Result<(), Error> {
        for group in [Some(&self.group), self.monitor.as_ref()]
            .into_iter()
            .flatten()
        {
            let path = group.join("tasks");
            let what = format!("write a process to {}", path.display());
            fs::write(&path, pid.to_string()).map_err(Error::io(what))?;
        }
        Ok(())
    }

    /// Removes those that go with the container.
    pub fn remove(&self) {
        if let Some(monitor) = &self.monitor {
            let _ = fs::remove_dir(monitor);
        }
        if self.is_own {
            let _ = fs::remove_dir(&self.group);
        }
    }
}

/// Where resctrl is mounted, as a whole (proc_pid_mountinfo(5)).
fn mount(table: &str) -> Option<&Path> {
    table.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut fields = before.split(' ').skip(3);
        let is_whole = fields.next() == Some("/");
        let place = fields.next().filter(|_| is_whole)?;
        after.starts_with("resctrl ").then(|| Path::new(place))
    })
}

/// Whether each value of a line, such as `L3:0=7f0;1=1f`, is in the kernel's text.
fn is_in_force(line: &str, text: &str) -> bool {
    let Some((name, wanted)) = values(line) else {
        return false;
    };
    let mut lines = text.lines().filter_map(values);
    let found = lines.find(|(found, _)| *found == name);
    found.is_some_and(|(_, found)| wanted.iter().all(|value| found.contains(value)))
}

/// A line's resource, and the value of each of its domains, written one way.
fn values(line: &str) -> Option<(&str, Vec<(&str, String)>)> {
    let (name, domains) = line.split_once(':')?;
    let domains = domains.trim().split(';').map(|domain| {
        let (number, value) = domain.split_once('=')?;
        let value = value.trim().to_ascii_lowercase();
        let value = value.trim_start_matches("0x").trim_start_matches('0');
        Some((number.trim(), value.to_owned()))
    });
    Some((name.trim(), domains.collect::<Option<_>>()?))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A directory in place of the file system: what the kernel makes in a group has to be made.
    struct Mount(tempfile::TempDir);

    impl Mount {
        fn new() -> Self {
            let mount = Self(tempfile::tempdir().unwrap());
            mount.write("info/last_cmd_status", "ok\n");
            mount.write("schemata", "    L3:0=fff;1=fff\n    MB:0=100;1=100\n");
            mount
        }

        fn path(&self, path: &str) -> PathBuf {
            self.0.path().join(path)
        }

        fn write(&self, path: &str, text: &str) {
            let path = self.path(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn read(&self, path: &str) -> String {
            fs::read_to_string(self.path(path)).unwrap()
        }

        fn plan(&self, rdt: Value) -> Result<ResctrlPlan, String> {
            let rdt = serde_json::from_value(rdt).unwrap();
            ResctrlPlan::at(self.0.path(), &rdt, "one").map_err(|error| error.to_string())
        }

        fn make(&self, rdt: Value) -> Result<Groups, String> {
            self.plan(rdt)?.make().map_err(|error| {
                let text = crate::error::one_line(&error);
                text.replace(&self.0.path().display().to_string(), "")
            })
        }
    }

    #[test]
    fn the_mount_is_found_and_not_a_part_of_it() {
        let table = "20 1 0:20 / / rw - ext4 /dev/vda rw\n\
            21 20 0:21 /part /part rw - resctrl resctrl rw\n\
            22 20 0:21 / /own/place rw,nosuid shared:3 - resctrl resctrl rw\n";
        assert_eq!(mount(table), Some(Path::new("/own/place")));
        assert_eq!(mount("20 1 0:20 / /resctrl rw - ext4 /dev/vda rw\n"), None);
    }

    #[test]
    fn without_a_closid_a_group_is_the_containers_and_goes_with_it() {
        let mount = Mount::new();
        let groups = mount
            .make(json!({"memBwSchema": "MB:0=20", "l3CacheSchema": "L3:0=f"}))
            .unwrap();
        assert_eq!(mount.read("one/schemata"), "L3:0=f\nMB:0=20\n");
        groups.add(77).unwrap();
        assert_eq!(mount.read("one/tasks"), "77");
        // The kernel's files go with the directory; here they are removed for it.
        for file in ["schemata", "tasks"] {
            fs::remove_file(mount.path("one").join(file)).unwrap();
        }
        groups.remove();
        assert!(!mount.path("one").exists());
    }

    #[test]
    fn a_group_that_was_there_stays() {
        let mount = Mount::new();
        for (rdt, name) in [(json!({}), "one"), (json!({"closID": "named"}), "named")] {
            fs::create_dir(mount.path(name)).unwrap();
            mount.make(rdt).unwrap().remove();
            assert!(mount.path(name).exists());
            assert!(
                !mount.path(name).join("schemata").exists(),
                "nothing is written"
            );
        }
        // One by a closID stays also if it was made for the container.
        let groups = mount.make(json!({"closID": "new", "schemata": ["L2:0=f"]}));
        groups.unwrap().remove();
        assert_eq!(mount.read("new/schemata"), "L2:0=f\n");
    }

    #[test]
    fn schemata_come_last() {
        let mount = Mount::new();
        let rdt = json!({
            "closID": "named",
            "schemata": ["L2:0=f", "L3:0=ff"],
            "l3CacheSchema": "L3DATA:0=f\nL3CODE:0=f0",
            "memBwSchema": "MB:0=20",
        });
        let plan = mount.plan(rdt).unwrap();
        let writes: [&[&str]; 2] = [
            &["L3DATA:0=f", "L3CODE:0=f0", "MB:0=20"],
            &["L2:0=f", "L3:0=ff"],
        ];
        assert_eq!(plan.writes, writes);
    }

    #[test]
    fn a_closid_that_is_there_has_to_have_what_is_asked_for() {
        let mount = Mount::new();
        mount.write("named/schemata", "    L3:0=00f;1=7ff\n    MB:0= 20;1=100\n");
        for fits in [
            json!({"l3CacheSchema": "L3:0=f"}),
            json!({"l3CacheSchema": "L3:1=7FF;0=0x0f", "memBwSchema": "MB:0=20"}),
        ] {
            let mut rdt = fits;
            rdt["closID"] = "named".into();
            let before = mount.read("named/schemata");
            mount.make(rdt).unwrap();
            mount.write("named/schemata", &before);
        }
        for (name, line) in [
            ("l3CacheSchema", "L3:0=ff"),
            ("l3CacheSchema", "L3:2=f"),
            ("l3CacheSchema", "L2:0=f"),
            ("memBwSchema", "MB:0=30"),
        ] {
            let said = mount
                .make(json!({"closID": "named", name: line}))
                .unwrap_err();
            let expected = format!(
                "linux.intelRdt: {line} is not what /named/schemata says: another closID has to be \
                 chosen for it"
            );
            assert_eq!(said, expected);
        }
    }

    #[test]
    fn a_closid_without_anything_has_to_be_there() {
        let mount = Mount::new();
        let said = mount.make(json!({"closID": "nosuch"})).unwrap_err();
        let expected = "linux.intelRdt.closID: there is no group /nosuch: make it, or say what it gets in \
            linux.intelRdt.schemata";
        assert_eq!(said, expected);
        assert!(!mount.path("nosuch").exists());
    }

    #[test]
    fn the_default_group_can_be_asked_for() {
        let mount = Mount::new();
        let groups = mount.make(json!({"closID": "/"})).unwrap();
        groups.add(7).unwrap();
        groups.remove();
        assert_eq!(mount.read("tasks"), "7");
        assert_eq!(
            mount.read("schemata"),
            "    L3:0=fff;1=fff\n    MB:0=100;1=100\n"
        );
    }

    #[test]
    fn a_group_that_counts_is_the_containers_in_any_case() {
        let mount = Mount::new();
        fs::create_dir_all(mount.path("named/mon_groups")).unwrap();
        let rdt = json!({"closID": "named", "enableMonitoring": true});
        let groups = mount.make(rdt.clone()).unwrap();
        groups.add(7).unwrap();
        assert_eq!(mount.read("named/tasks"), "7");
        assert_eq!(mount.read("named/mon_groups/one/tasks"), "7");
        let again = mount.make(rdt).unwrap_err();
        assert_eq!(
            again,
            "linux.intelRdt: make /named/mon_groups/one: file exists"
        );
        fs::remove_file(mount.path("named/mon_groups/one/tasks")).unwrap();
        groups.remove();
        assert!(!mount.path("named/mon_groups/one").exists());
        assert!(mount.path("named").exists());
    }

    #[test]
    fn what_fails_leaves_no_group_and_says_what_the_kernel_says() {
        let mount = Mount::new();
        mount.write("info/last_cmd_status", "out of CLOSIDs\n");
        // Without `mon_groups`, which the kernel has made there.
        let said = mount.make(json!({"enableMonitoring": true})).unwrap_err();
        let expected =
            "linux.intelRdt: make /one/mon_groups/one: no such file or directory (out of CLOSIDs)";
        assert_eq!(said, expected);
        assert!(!mount.path("one").exists());
    }

    #[test]
    fn values_that_can_not_be_are_refused() {
        let mount = Mount::new();
        for name in ["..", "a/b", "/a", "info", "mon_groups", "a\nb"] {
            let said = mount.plan(json!({"closID": name})).unwrap_err();
            let expected = format!("linux.intelRdt: closID {name:?} can't be the name of a group");
            assert_eq!(said, expected);
        }
        for (name, value, said) in [
            (
                "memBwSchema",
                json!("L3:0=f"),
                "linux.intelRdt.memBwSchema: it is one line, which begins with MB:",
            ),
            (
                "memBwSchema",
                json!("MB:0=1\nL3:0=f"),
                "linux.intelRdt.memBwSchema: it is one line, which begins with MB:",
            ),
            (
                "schemata",
                json!(["L3:0=f\nL2:0=f"]),
                "linux.intelRdt.schemata: each is one line",
            ),
        ] {
            assert_eq!(mount.plan(json!({name: value})).unwrap_err(), said);
        }
    }
}
