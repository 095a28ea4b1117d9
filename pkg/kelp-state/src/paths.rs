//! Where kelp keeps its things: the XDG base directories, checked to be this user's alone.

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

use crate::error::Error;
use crate::id::ContainerId;

/// kelp's directories.
#[derive(Clone, Debug)]
pub struct Paths {
    /// What lasts: `$XDG_DATA_HOME/kelp`.
    pub data: PathBuf,
    /// What ends with the session: `$XDG_RUNTIME_DIR/kelp`.
    pub runtime: PathBuf,
    /// What the user wrote: `$XDG_CONFIG_HOME`.
    pub config: PathBuf,
}

impl Paths {
    /// From the environment; makes the directories that are missing.
    ///
    /// # Errors
    /// [`Error::Insecure`] if one belongs to another user or is open to others.
    pub fn from_env() -> Result<Self, Error> {
        let home = home()?;
        let variable = |name: &str| {
            env::var_os(name)
                .map(PathBuf::from)
                .filter(|p| p.is_absolute())
        };
        let paths = Self {
            data: variable("XDG_DATA_HOME")
                .unwrap_or_else(|| home.join(".local/share"))
                .join("kelp"),
            runtime: runtime_base(variable("XDG_RUNTIME_DIR")).join("kelp"),
            config: variable("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config")),
        };
        for directory in [&paths.data, &paths.runtime] {
            private_directory(directory)?;
        }
        Ok(paths)
    }

    /// The directory of the user's session, `$XDG_RUNTIME_DIR`, with other programs' sockets.
    pub fn session(&self) -> &Path {
        self.runtime.parent().unwrap_or(&self.runtime)
    }

    /// The parent of the container records.
    pub fn containers(&self) -> PathBuf {
        self.data.join("containers")
    }

    /// A container's record.
    pub fn container(&self, id: &ContainerId) -> PathBuf {
        self.data.join("containers").join(id.as_str())
    }

    /// A container's part of the runtime directory.
    pub fn container_runtime(&self, id: &ContainerId) -> PathBuf {
        self.runtime.join("c").join(id.as_str())
    }

    /// The directory of the names.
    pub fn names(&self) -> PathBuf {
        self.data.join("names")
    }

    /// The directory of the volumes.
    pub fn volumes(&self) -> PathBuf {
        self.data.join("volumes")
    }
}

fn home() -> Result<PathBuf, Error> {
    env::var_os("HOME")
        .map(PathBuf::from)
        .filter(|home| home.is_absolute())
        .or_else(passwd_home)
        .ok_or_else(|| {
            Error::io("find the home directory: set HOME to an absolute path")(
                io::ErrorKind::NotFound.into(),
            )
        })
}

fn passwd_home() -> Option<PathBuf> {
    let uid = geteuid().as_raw().to_string();
    let passwd = fs::read_to_string("/etc/passwd").ok()?;
    passwd.lines().find_map(|line| {
        let fields: Vec<_> = line.split(':').collect();
        (*fields.get(2)? == uid).then(|| PathBuf::from(fields.get(5).unwrap_or(&"/")))
    })
}

/// Without a session's runtime directory (cron, ssh without PAM), the usual place if it is there,
/// else one of our own in /tmp.
fn runtime_base(variable: Option<PathBuf>) -> PathBuf {
    let uid = geteuid().as_raw();
    variable
        .filter(|path| path.is_dir())
        .or_else(|| {
            let usual = PathBuf::from(format!("/run/user/{uid}"));
            usual.is_dir().then_some(usual)
        })
        .unwrap_or_else(|| PathBuf::from(format!("/tmp/kelp-{uid}")))
}

/// Makes `path` with mode 0700, or checks that it is the user's and closed to others.
fn private_directory(path: &Path) -> Result<(), Error> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => check_private(path, &metadata),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(path)
                .map_err(Error::io(format!("create {}", path.display())))?;
            let metadata = fs::symlink_metadata(path)
                .map_err(Error::io(format!("look at {}", path.display())))?;
            check_private(path, &metadata)
        }
        Err(error) => Err(Error::io(format!("look at {}", path.display()))(error)),
    }
}

fn check_private(path: &Path, metadata: &fs::Metadata) -> Result<(), Error> {
    let insecure = |hint: String| {
        Err(Error::Insecure {
            path: path.display().to_string(),
            hint,
        })
    };
    if metadata.is_symlink() {
        // The user's own link to another disk is fine; what it points to is what counts.
        let target = fs::metadata(path).map_err(Error::io(format!("open {}", path.display())))?;
        if metadata.uid() == geteuid().as_raw() && !target.is_symlink() {
            return check_private(path, &target);
        }
    }
    if !metadata.is_dir() || metadata.uid() != geteuid().as_raw() {
        return insecure(format!(
            "remove it, or chown it to uid {}",
            geteuid().as_raw()
        ));
    }
    if metadata.mode() & 0o077 != 0 {
        return insecure(format!("chmod 700 {}", path.display()));
    }
    Ok(())
}
