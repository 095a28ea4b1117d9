//! The runtime under test, and what the machine gives it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::outcome::{Outcome, not_applicable};

/// A runtime.
pub(crate) struct Runtime {
    path: PathBuf,
    own_cgroup: String,
    own_ids: (u32, u32),
    /// Holds busybox and, where it is kelp, the link by whose name it is called.
    directory: TempDir,
}

impl Runtime {
    /// A runtime by its path; kelp is called by a link of the name of its role.
    pub(crate) fn new(path: &Path) -> Result<Self, String> {
        let directory = tempfile::Builder::new().prefix("rs-").tempdir();
        let directory = directory.map_err(|error| error.to_string())?;
        let said = |error: std::io::Error| format!("{}: {error}", path.display());
        let mut path = fs::canonicalize(path).map_err(said)?;
        if path.file_name().is_some_and(|name| name == "kelp") {
            let link = directory.path().join("kelp-runtime");
            symlink(&path, &link).map_err(said)?;
            path = link;
        }
        let busybox = static_busybox().ok_or("no static busybox in $PATH")?;
        fs::copy(busybox, directory.path().join("busybox")).map_err(said)?;
        let cgroups = fs::read_to_string("/proc/self/cgroup").map_err(said)?;
        let own_cgroup = cgroups.lines().find_map(|line| line.strip_prefix("0::"));
        Ok(Self {
            path,
            own_cgroup: own_cgroup.unwrap_or("/").to_owned(),
            own_ids: (
                rustix::process::geteuid().as_raw(),
                rustix::process::getegid().as_raw(),
            ),
            directory,
        })
    }

    /// What is executed.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it is this project's.
    pub(crate) fn is_kelp(&self) -> bool {
        self.path.ends_with("kelp-runtime")
    }

    /// A static busybox.
    pub(crate) fn busybox(&self) -> PathBuf {
        self.directory.path().join("busybox")
    }

    /// The cgroup that the suite is in.
    pub(crate) fn own_cgroup(&self) -> &str {
        &self.own_cgroup
    }

    /// The caller's ids.
    pub(crate) fn own_ids(&self) -> (u32, u32) {
        self.own_ids
    }

    /// Where the systemd is that makes scopes for the caller: the session's, or for root the system's.
    pub(crate) fn session(&self) -> PathBuf {
        match std::env::var_os("XDG_RUNTIME_DIR") {
            _ if self.own_ids.0 == 0 => "/run".into(),
            Some(session) => session.into(),
            None => format!("/run/user/{}", self.own_ids.0).into(),
        }
    }

    /// Its name and version, in a line.
    pub(crate) fn version(&self) -> String {
        self.says(&["--version"]).map_or_else(
            || "says no version".to_owned(),
            |text| text.lines().next().unwrap_or_default().to_owned(),
        )
    }

    /// Whether the suite's own cgroup has a controller.
    pub(crate) fn has_controller(&self, name: &str) -> bool {
        let list = format!("/sys/fs/cgroup{}/cgroup.controllers", self.own_cgroup());
        let list = fs::read_to_string(list).unwrap_or_default();
        list.split_whitespace().any(|controller| controller == name)
    }

    /// Whether it knows a command, by what its --help says of it.
    pub(crate) fn knows(&self, verb: &str) -> bool {
        self.says(&[verb, "--help"]).is_some()
    }

    fn says(&self, words: &[&str]) -> Option<String> {
        let output = Command::new(&self.path)
            .args(words)
            .env("XDG_RUNTIME_DIR", self.directory.path())
            .output()
            .ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        output.status.success().then_some(text)
    }

    /// Maps of 65536 ids with the caller, or as root the ids from 100000, at their beginning.
    pub(crate) fn wide_maps(&self) -> Outcome<(Value, Value)> {
        let (uid, gid) = self.own_ids;
        if uid == 0 {
            let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
            return Ok((map.clone(), map));
        }
        let (Some(uids), Some(gids)) = (range("/etc/subuid", uid), range("/etc/subgid", uid))
        else {
            return not_applicable("no range in /etc/subuid and /etc/subgid");
        };
        let map = |own: u32, (first, size): (u32, u32)| {
            json!([
                {"containerID": 0, "hostID": own, "size": 1},
                {"containerID": 1, "hostID": first, "size": size.min(65535)},
            ])
        };
        Ok((map(uid, uids), map(gid, gids)))
    }
}

/// The first range of a user in such a file, subuid(5).
fn range(path: &str, uid: u32) -> Option<(u32, u32)> {
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    let name = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid.to_string()).then(|| name.to_owned())
    });
    let number = uid.to_string();
    fs::read_to_string(path).ok()?.lines().find_map(|line| {
        let mut fields = line.split(':');
        let owner = fields.next()?;
        let is_own = owner == number || Some(owner) == name.as_deref();
        let range = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
        is_own.then_some(range)
    })
}

/// A busybox in $PATH that names no loader.
fn static_busybox() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let mut candidates = std::env::split_paths(&path).map(|directory| directory.join("busybox"));
    // A loader's path is in a dynamic program's first page, right after the program headers.
    candidates.find(|file| {
        let bytes = fs::read(file).unwrap_or_default();
        let first = &bytes[..bytes.len().min(4096)];
        first.starts_with(b"\x7fELF") && !first.windows(7).any(|part| part == b"/ld-lin")
    })
}
