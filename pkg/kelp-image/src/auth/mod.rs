//! Credentials: who the user is to which registry (containers-auth.json(5)).
//!
//! A credential is found for one registry and stays with it: what is returned here is sent to that
//! host and, where that host names one, to its token server; never along a redirect to another
//! host (see [`crate::http`]).

mod file;

use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

use crate::Error;
use crate::config_paths::ConfigPaths;
use crate::credential_helper;
use crate::reference::{DOCKER_HUB, Reference};
use file::{AuthFile, change, malformed};

/// What registries.conf calls the files among the credential helpers.
const FILES: &str = "containers-auth.json";

/// What docker calls its hub in config.json and to its credential helpers.
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// A password or token; its `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// The text itself, for where it is sent or stored.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

/// What proves to a registry who the user is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Credential {
    /// A user's name and password.
    Basic {
        /// The user's name at the registry.
        username: String,
        /// The password.
        password: Secret,
    },
    /// An OAuth 2 refresh token, exchanged for access tokens.
    IdentityToken(Secret),
    /// A bearer token, sent as it is.
    RegistryToken(Secret),
}

/// What [`AuthFiles::logout`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logout {
    /// The credentials are gone.
    Removed,
    /// There were none.
    NotLoggedIn,
    /// There are some in docker's own file, which is left alone.
    InDockerConfig,
}

/// The files that credentials are read from, and the one they are written to.
#[derive(Debug, Clone)]
pub struct AuthFiles {
    read: Vec<PathBuf>,
    write: Option<PathBuf>,
    docker: Option<PathBuf>,
    credential_helpers: Vec<String>,
}

impl AuthFiles {
    /// Finds the files. `authfile` (`--authfile`), else `$REGISTRY_AUTH_FILE`, is the only one
    /// where given.
    pub fn find(paths: &ConfigPaths, authfile: Option<&Path>) -> Self {
        let explicit = authfile
            .map(Path::to_owned)
            .or_else(|| paths.registry_auth_file.clone());
        if let Some(file) = explicit {
            return Self {
                read: vec![file.clone()],
                write: Some(file),
                docker: None,
                credential_helpers: Vec::new(),
            };
        }
        let is_root = kelp_userns::own::ids().0 == 0;
        let runtime = match &paths.runtime_dir {
            Some(directory) => Some(directory.join("containers/auth.json")),
            None if is_root => Some(PathBuf::from("/run/containers/0/auth.json")),
            None => None,
        };
        let config = paths.user_containers("auth.json");
        let docker = paths
            .docker_config
            .as_ref()
            .map(|directory| directory.join("config.json"));
        Self {
            write: runtime.clone().or_else(|| config.clone()),
            read: [runtime, config, docker.clone()]
                .into_iter()
                .flatten()
                .collect(),
            docker,
            credential_helpers: Vec::new(),
        }
    }

    /// With registries.conf's `credential-helpers`, in whose order places are asked;
    /// `containers-auth.json` among them stands for the files.
    #[must_use]
    pub fn with_credential_helpers(mut self, helpers: &[String]) -> Self {
        self.credential_helpers = helpers.to_vec();
        self
    }

    /// The credentials for a repository: the most specific entry of the first file that has one.
    pub fn lookup(&self, reference: &Reference) -> Result<Option<Credential>, Error> {
        self.lookup_key(&reference.name())
    }

    /// The credentials for `host[:port][/namespace]`.
    pub fn lookup_key(&self, key: &str) -> Result<Option<Credential>, Error> {
        if self.credential_helpers.is_empty() {
            return self.lookup_in_files(key);
        }
        for helper in &self.credential_helpers {
            let found = if helper == FILES {
                self.lookup_in_files(key)?
            } else {
                credential_helper::get(helper, host_of(key))?
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    fn lookup_in_files(&self, key: &str) -> Result<Option<Credential>, Error> {
        for file in &self.read {
            let mut content = AuthFile::read(file)?;
            if Some(file) == self.docker.as_ref() {
                content.ignore_missing_store();
            }
            if let Some(found) = content.lookup(key, file)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Stores credentials for `host[:port][/namespace]`, in the first place that takes them; where.
    pub fn login(&self, key: &str, username: &str, password: &str) -> Result<PathBuf, Error> {
        let key = normalize_key(key);
        if username.contains(':') {
            return Err(Error::Invalid(
                "a user name can't contain a colon".to_owned(),
            ));
        }
        let mut first_error = None;
        for helper in self.stores() {
            let stored = if helper == FILES {
                self.login_in_file(&key, username, password)
            } else if key.contains('/') {
                Err(Error::Invalid(format!(
                    "docker-credential-{helper} keeps credentials for registries, and not for {key}"
                )))
            } else {
                credential_helper::store(helper, &key, username, password)
                    .map(|()| PathBuf::from(format!("docker-credential-{helper}")))
            };
            match stored {
                Ok(place) => return Ok(place),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        Err(first_error
            .unwrap_or_else(|| Error::Invalid("there is no credential store".to_owned())))
    }

    /// Where credentials are kept, in order.
    fn stores(&self) -> Vec<&str> {
        if self.credential_helpers.is_empty() {
            return vec![FILES];
        }
        self.credential_helpers.iter().map(String::as_str).collect()
    }

    fn login_in_file(&self, key: &str, username: &str, password: &str) -> Result<PathBuf, Error> {
        let file = self.file_to_write()?;
        change(&file, |document| {
            let parsed = AuthFile::parse(document, &file)?;
            if let Some(helper) = parsed.helper_for(host_of(key)) {
                credential_helper::store(helper, host_of(key), username, password)?;
                return Ok(false);
            }
            let auths = document
                .entry("auths")
                .or_insert_with(|| Value::Object(Map::new()));
            let Some(auths) = auths.as_object_mut() else {
                return Err(malformed(&file, "auths is not an object"));
            };
            auths.retain(|other, _| normalize_key(other) != key);
            let auth = STANDARD.encode(format!("{username}:{password}"));
            auths.insert(key.to_owned(), serde_json::json!({ "auth": auth }));
            Ok(true)
        })?;
        Ok(file)
    }

    /// Forgets the credentials for `host[:port][/namespace]`, wherever they are.
    pub fn logout(&self, key: &str) -> Result<Logout, Error> {
        let key = normalize_key(key);
        let mut found = Logout::NotLoggedIn;
        for helper in self.stores() {
            let here = if helper == FILES {
                self.logout_in_file(&key)?
            } else if !key.contains('/') && credential_helper::erase(helper, &key)? {
                Logout::Removed
            } else {
                Logout::NotLoggedIn
            };
            if found != Logout::Removed && here != Logout::NotLoggedIn {
                found = here;
            }
        }
        Ok(found)
    }

    fn logout_in_file(&self, key: &str) -> Result<Logout, Error> {
        let file = self.file_to_write()?;
        let mut removed = false;
        change(&file, |document| {
            let parsed = AuthFile::parse(document, &file)?;
            if let Some(helper) = parsed.helper_for(host_of(key)) {
                removed |= credential_helper::erase(helper, host_of(key))?;
            }
            let Some(auths) = document.get_mut("auths").and_then(Value::as_object_mut) else {
                return Ok(false);
            };
            let before = auths.len();
            auths.retain(|other, _| normalize_key(other) != key);
            removed |= auths.len() < before;
            Ok(auths.len() < before)
        })?;
        if removed {
            return Ok(Logout::Removed);
        }
        if let Some(docker) = &self.docker
            && AuthFile::read(docker)?.lookup(key, docker)?.is_some()
        {
            return Ok(Logout::InDockerConfig);
        }
        Ok(Logout::NotLoggedIn)
    }

    /// Forgets everything in the file that is written to, and in the helpers.
    pub fn logout_all(&self) -> Result<(), Error> {
        for helper in self.stores() {
            if helper == FILES {
                self.logout_all_in_file()?;
            } else {
                for server in credential_helper::list(helper)? {
                    credential_helper::erase(helper, &server)?;
                }
            }
        }
        Ok(())
    }

    fn logout_all_in_file(&self) -> Result<(), Error> {
        let file = self.file_to_write()?;
        change(&file, |document| {
            let parsed = AuthFile::parse(document, &file)?;
            for (host, helper) in &parsed.cred_helpers {
                credential_helper::erase(helper, host)?;
            }
            Ok(document.remove("auths").is_some())
        })
    }

    fn file_to_write(&self) -> Result<PathBuf, Error> {
        self.write.clone().ok_or_else(|| {
            Error::Invalid(
                "there is no place for auth.json: set XDG_RUNTIME_DIR or REGISTRY_AUTH_FILE"
                    .to_owned(),
            )
        })
    }
}

/// `host[:port][/namespace]` without scheme or trailing slash, with one name for the docker hub.
pub fn normalize_key(key: &str) -> String {
    let bare = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"));
    let bare = match bare {
        // docker's keys with a scheme end in the API's version; they mean the host.
        Some(url) => host_of(url),
        None => key.trim_end_matches('/'),
    };
    for old in ["index.docker.io", "registry-1.docker.io"] {
        if let Some(rest) = bare.strip_prefix(old)
            && (rest.is_empty() || rest.starts_with('/'))
        {
            return format!("{DOCKER_HUB}{rest}");
        }
    }
    bare.to_owned()
}

fn host_of(key: &str) -> &str {
    key.split('/').next().unwrap_or(key)
}

#[cfg(test)]
mod tests;
