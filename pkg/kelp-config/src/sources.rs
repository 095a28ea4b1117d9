//! Which files there are, in the order in which they are read.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

/// Where files are looked for.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// `/usr/share/containers`.
    pub vendor: PathBuf,
    /// `/etc/containers`.
    pub machine: PathBuf,
    /// `containers` in `$XDG_CONFIG_HOME`, else in `~/.config`.
    pub user: Option<PathBuf>,
    /// The user's id; none for root, whom the files for other users are not about.
    pub uid: Option<u32>,
    /// The directories of `kelp.conf`, a file of the same shape that only kelp reads, the machine's first.
    pub own: Vec<PathBuf>,
    /// `$CONTAINERS_CONF`: this file instead of all others.
    pub only: Option<PathBuf>,
    /// `$CONTAINERS_CONF_OVERRIDE`: this file after all others.
    pub last: Option<PathBuf>,
}

impl Sources {
    /// From the environment of a user.
    pub fn from_env(uid: u32) -> Self {
        let variable = |name| {
            let value = env::var_os(name).filter(|value| !value.is_empty());
            value.map(PathBuf::from)
        };
        let home = || variable("HOME").map(|home| home.join(".config"));
        let config = variable("XDG_CONFIG_HOME").or_else(home);
        let own = config.as_ref().map(|config| config.join("kelp"));
        Self {
            vendor: "/usr/share/containers".into(),
            machine: "/etc/containers".into(),
            user: config.map(|config| config.join("containers")),
            own: [PathBuf::from("/etc/kelp")]
                .into_iter()
                .chain(own)
                .collect(),
            uid: Some(uid).filter(|&uid| uid != 0),
            only: variable("CONTAINERS_CONF"),
            last: variable("CONTAINERS_CONF_OVERRIDE"),
        }
    }

    /// The files in the order in which they are read, and whether one has to be there.
    pub(crate) fn files(&self) -> Vec<(PathBuf, bool)> {
        let mut files = Vec::new();
        if let Some(only) = &self.only {
            files.push((only.clone(), true));
        } else {
            let file = |directory: &Path, name: &str| (directory.join(name), false);
            files.push(file(&self.vendor, "containers.conf"));
            files.push(file(&self.machine, "containers.conf"));
            files.extend(parts(&self.machine.join("containers.conf.d")));
            if let Some(uid) = self.uid {
                files.push(file(&self.machine, "containers.rootless.conf"));
                let rootless = self.machine.join("containers.rootless.d");
                files.extend(parts(&rootless));
                files.extend(parts(&rootless.join(uid.to_string())));
            }
            if let Some(user) = &self.user {
                files.push(file(user, "containers.conf"));
                files.extend(parts(&user.join("containers.conf.d")));
            }
            files.extend(self.own.iter().map(|own| file(own, "kelp.conf")));
        }
        files.extend(self.last.clone().map(|last| (last, true)));
        files
    }
}

/// The files of a directory whose names end in `.conf`, sorted.
fn parts(directory: &Path) -> Vec<(PathBuf, bool)> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut paths: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "conf") && path.is_file())
        .collect();
    paths.sort();
    paths.into_iter().map(|path| (path, false)).collect()
}
