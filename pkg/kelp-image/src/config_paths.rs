//! Where podman's and docker's configuration files are: read from the environment once.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use crate::Error;

/// The directories and variables that the files of registries, credentials and certificates are
/// found by.
#[derive(Debug, Clone, Default)]
pub struct ConfigPaths {
    /// `/etc`.
    pub etc: PathBuf,
    /// `$HOME`.
    pub home: Option<PathBuf>,
    /// `$XDG_CONFIG_HOME`, else `~/.config`.
    pub config_home: Option<PathBuf>,
    /// `$XDG_CACHE_HOME`, else `~/.cache`.
    pub cache_home: Option<PathBuf>,
    /// `$XDG_DATA_HOME`, else `~/.local/share`.
    pub data_home: Option<PathBuf>,
    /// `$XDG_RUNTIME_DIR`.
    pub runtime_dir: Option<PathBuf>,
    /// `$CONTAINERS_REGISTRIES_CONF`.
    pub registries_conf: Option<PathBuf>,
    /// `$REGISTRY_AUTH_FILE`.
    pub registry_auth_file: Option<PathBuf>,
    /// `$DOCKER_CONFIG`, else `~/.docker`.
    pub docker_config: Option<PathBuf>,
}

impl ConfigPaths {
    /// Reads the environment.
    pub fn from_env() -> Self {
        let home = variable("HOME");
        let beneath_home = |name| home.as_deref().map(|home: &Path| home.join(name));
        Self {
            etc: PathBuf::from("/etc"),
            config_home: variable("XDG_CONFIG_HOME").or_else(|| beneath_home(".config")),
            cache_home: variable("XDG_CACHE_HOME").or_else(|| beneath_home(".cache")),
            data_home: variable("XDG_DATA_HOME").or_else(|| beneath_home(".local/share")),
            runtime_dir: variable("XDG_RUNTIME_DIR"),
            registries_conf: variable("CONTAINERS_REGISTRIES_CONF"),
            registry_auth_file: variable("REGISTRY_AUTH_FILE"),
            docker_config: variable("DOCKER_CONFIG").or_else(|| beneath_home(".docker")),
            home,
        }
    }

    /// The file with the answers that a person has given.
    pub(crate) fn short_name_aliases(&self) -> Option<PathBuf> {
        let cache = self.cache_home.as_ref()?;
        Some(cache.join("containers/short-name-aliases.conf"))
    }

    /// A file or directory of the containers projects' in the user's configuration.
    pub(crate) fn user_containers(&self, name: &str) -> Option<PathBuf> {
        let home = self.config_home.as_ref()?;
        Some(home.join("containers").join(name))
    }

    /// The same for the whole machine.
    pub(crate) fn system_containers(&self, name: &str) -> PathBuf {
        self.etc.join("containers").join(name)
    }
}

/// An empty variable counts as unset, as the XDG base directory specification asks.
fn variable(name: &str) -> Option<PathBuf> {
    env::var_os(name)
        .filter(|value| !value.is_empty())
        .map(PathBuf::from)
}

/// The files of a directory whose names have this ending, in the order of their names.
pub(crate) fn drop_ins(directory: &Path, ending: &str) -> Result<Vec<PathBuf>, Error> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(config_error(directory, &error.to_string())),
    };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|found| found == ending))
        .collect();
    files.sort();
    Ok(files)
}

/// A file's text, if it is there.
pub(crate) fn read_if_there(file: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(config_error(file, &error.to_string())),
    }
}

/// What is wrong with a file.
pub(crate) fn config_error(file: &Path, reason: &str) -> Error {
    Error::Invalid(format!("{}: {reason}", file.display()))
}
