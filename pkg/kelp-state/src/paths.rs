//! Where kelp keeps its things: the XDG base directories, checked to be this user's alone.

use std::env;
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

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
    /// From the environment; [`make_private`] makes the first two.
    pub fn from_env() -> Result<Self, Error> {
        let home = home()?;
        Ok(Self {
            data: variable("XDG_DATA_HOME")
                .unwrap_or_else(|| home.join(".local/share"))
                .join("kelp"),
            runtime: runtime_base()?.join("kelp"),
            config: variable("XDG_CONFIG_HOME").unwrap_or_else(|| home.join(".config")),
        })
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

    /// The parent of the pods' records.
    pub fn pods(&self) -> PathBuf {
        self.data.join("pods")
    }

    /// A pod's record.
    pub fn pod(&self, id: &ContainerId) -> PathBuf {
        self.data.join("pods").join(id.as_str())
    }

    /// Where compiled seccomp filters are kept.
    pub fn seccomp(&self) -> PathBuf {
        self.runtime.join("seccomp")
    }

    /// The directory of the names.
    pub fn names(&self) -> PathBuf {
        self.data.join("names")
    }

    /// The directory of the secrets.
    pub fn secrets(&self) -> PathBuf {
        self.data.join("secrets")
    }

    /// The directory of the volumes.
    pub fn volumes(&self) -> PathBuf {
        self.data.join("volumes")
    }
}

/// What a process of another id needs in its environment to find the same directories: in a user
/// namespace the user has another one.
pub fn environment() -> Result<[(&'static str, PathBuf); 2], Error> {
    Ok([("HOME", home()?), ("XDG_RUNTIME_DIR", runtime_base()?)])
}

fn variable(name: &str) -> Option<PathBuf> {
    let value = env::var_os(name).map(PathBuf::from);
    value.filter(|path| path.is_absolute())
}

fn home() -> Result<PathBuf, Error> {
    variable("HOME").or_else(passwd_home).ok_or_else(|| {
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
fn runtime_base() -> Result<PathBuf, Error> {
    // Looked for once: whoever starts a process asks again.
    static BASE: OnceLock<PathBuf> = OnceLock::new();
    if let Some(base) = BASE.get() {
        return Ok(base.clone());
    }
    let session = variable("XDG_RUNTIME_DIR").filter(|path| path.is_dir());
    let session = session.or_else(|| {
        let usual = PathBuf::from(format!("/run/user/{}", geteuid().as_raw()));
        usual.is_dir().then_some(usual)
    });
    let base = match session {
        Some(session) => session,
        None => base_among_others(Path::new("/tmp"))?,
    };
    Ok(BASE.get_or_init(|| base).clone())
}

/// A directory of our own in one where everybody may make names. Whoever may write in it could rename
/// what is there, however private that is: so it is checked itself, and a link is not followed.
fn base_among_others(parent: &Path) -> Result<PathBuf, Error> {
    let base = parent.join(format!("kelp-{}", geteuid().as_raw()));
    let metadata = look_or_make(&base)?;
    if metadata.is_dir() && is_private(&metadata) {
        return Ok(base);
    }
    Err(Error::Insecure {
        path: base.display().to_string(),
        hint: "set XDG_RUNTIME_DIR to a directory of your own with mode 700, or have it removed"
            .to_owned(),
    })
}

/// Makes `path` with mode 0700, or checks that it is the user's and closed to others.
///
/// # Errors
/// [`Error::Insecure`] if it belongs to another user or is open to others.
pub fn make_private(path: &Path) -> Result<(), Error> {
    check_private(path, &look_or_make(path)?)
}

/// What is at `path`: what was there, or a directory with mode 0700. A link is not followed.
fn look_or_make(path: &Path) -> Result<fs::Metadata, Error> {
    let look = || fs::symlink_metadata(path);
    let looked = look().or_else(|error| {
        if error.kind() != io::ErrorKind::NotFound {
            return Err(error);
        }
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)?;
        // Somebody may have been quicker.
        look()
    });
    looked.map_err(Error::io(format!("create {}", path.display())))
}

fn is_private(metadata: &fs::Metadata) -> bool {
    metadata.uid() == geteuid().as_raw() && metadata.mode() & 0o777 == 0o700
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_base_that_others_may_write_in_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let base = base_among_others(parent.path()).unwrap();
        assert_eq!(fs::metadata(&base).unwrap().mode() & 0o777, 0o700);
        // What is in it may be as private as can be.
        make_private(&base.join("kelp")).unwrap();
        assert_eq!(base_among_others(parent.path()).unwrap(), base);
        for mode in [0o777, 0o770, 0o701] {
            fs::set_permissions(&base, fs::Permissions::from_mode(mode)).unwrap();
            let error = base_among_others(parent.path()).unwrap_err();
            let said = format!(
                "{} belongs to somebody else or is open to others: set XDG_RUNTIME_DIR to a \
                 directory of your own with mode 700, or have it removed",
                base.display()
            );
            assert_eq!(error.to_string(), said);
        }
    }

    #[test]
    fn a_base_is_no_link_and_no_file() {
        let parent = tempfile::tempdir().unwrap();
        let elsewhere = parent.path().join("elsewhere");
        make_private(&elsewhere).unwrap();
        let base = parent.path().join(format!("kelp-{}", geteuid().as_raw()));
        symlink(&elsewhere, &base).unwrap();
        base_among_others(parent.path()).unwrap_err();
        fs::remove_file(&base).unwrap();
        fs::write(&base, "").unwrap();
        fs::set_permissions(&base, fs::Permissions::from_mode(0o600)).unwrap();
        base_among_others(parent.path()).unwrap_err();
    }
}
