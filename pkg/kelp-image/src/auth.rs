//! Credentials: who the user is to which registry (containers-auth.json(5)).
//!
//! A credential is found for one registry and stays with it: what is returned here is sent to that
//! host and, where that host names one, to its token server; never along a redirect to another
//! host (see [`crate::http`]).

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::Error;
use crate::config_paths::ConfigPaths;
use crate::credential_helper;
use crate::reference::{DOCKER_HUB, Reference};

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
        let user = rustix::process::getuid();
        let runtime = match &paths.runtime_dir {
            Some(directory) => Some(directory.join("containers/auth.json")),
            None if user.is_root() => Some(PathBuf::from("/run/containers/0/auth.json")),
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
            let found = if helper == "containers-auth.json" {
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
            if let Some(found) = AuthFile::read(file)?.lookup(key, file)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// Stores credentials for `host[:port][/namespace]`; where.
    pub fn login(&self, key: &str, username: &str, password: &str) -> Result<PathBuf, Error> {
        let key = normalize_key(key);
        if username.contains(':') {
            return Err(Error::Invalid(
                "a user name can't contain a colon".to_owned(),
            ));
        }
        let file = self.file_to_write()?;
        change(&file, |document| {
            let parsed = AuthFile::parse(document, &file)?;
            if let Some(helper) = parsed.helper_for(host_of(&key)) {
                credential_helper::store(helper, host_of(&key), username, password)?;
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
            auths.insert(key.clone(), serde_json::json!({ "auth": auth }));
            Ok(true)
        })?;
        Ok(file)
    }

    /// Forgets the credentials for `host[:port][/namespace]`.
    pub fn logout(&self, key: &str) -> Result<Logout, Error> {
        let key = normalize_key(key);
        let file = self.file_to_write()?;
        let mut removed = false;
        change(&file, |document| {
            let parsed = AuthFile::parse(document, &file)?;
            if let Some(helper) = parsed.helper_for(host_of(&key)) {
                removed |= credential_helper::erase(helper, host_of(&key))?;
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
            && AuthFile::read(docker)?.lookup(&key, docker)?.is_some()
        {
            return Ok(Logout::InDockerConfig);
        }
        Ok(Logout::NotLoggedIn)
    }

    /// Forgets everything in the file that is written to, helpers included.
    pub fn logout_all(&self) -> Result<(), Error> {
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

/// What lookups need of auth.json and config.json.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct AuthFile {
    auths: BTreeMap<String, Entry>,
    cred_helpers: BTreeMap<String, String>,
    creds_store: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

impl AuthFile {
    fn read(file: &Path) -> Result<Self, Error> {
        Self::parse(&read_document(file)?, file)
    }

    fn parse(document: &Map<String, Value>, file: &Path) -> Result<Self, Error> {
        Self::deserialize(document).map_err(|error| malformed(file, &error.to_string()))
    }

    fn helper_for(&self, host: &str) -> Option<&str> {
        let by_host = self
            .cred_helpers
            .iter()
            .find(|(key, _)| normalize_key(key) == host)
            .map(|(_, helper)| helper.as_str());
        by_host
            .or(Some(self.creds_store.as_str()))
            .filter(|helper| !helper.is_empty())
    }

    fn lookup(&self, key: &str, file: &Path) -> Result<Option<Credential>, Error> {
        let key = normalize_key(key);
        let host = host_of(&key);
        if let Some(helper) = self.helper_for(host) {
            let mut names = vec![host];
            if host == DOCKER_HUB {
                names.push(DOCKER_HUB_KEY);
            }
            for name in names {
                if let Some(found) = credential_helper::get(helper, name)? {
                    return Ok(Some(found));
                }
            }
        }
        let entries: Vec<(String, &Entry)> = self
            .auths
            .iter()
            .map(|(key, entry)| (normalize_key(key), entry))
            .collect();
        let mut candidate = key.as_str();
        loop {
            for (_, entry) in entries.iter().filter(|(key, _)| key == candidate) {
                if let Some(found) = entry.credential(candidate, file)? {
                    return Ok(Some(found));
                }
            }
            match candidate.rsplit_once('/') {
                Some((shorter, _)) => candidate = shorter,
                None => return Ok(None),
            }
        }
    }
}

impl Entry {
    fn credential(&self, key: &str, file: &Path) -> Result<Option<Credential>, Error> {
        if !self.identitytoken.is_empty() {
            let token = self.identitytoken.clone();
            return Ok(Some(Credential::IdentityToken(token.into())));
        }
        if !self.registrytoken.is_empty() {
            let token = self.registrytoken.clone();
            return Ok(Some(Credential::RegistryToken(token.into())));
        }
        if self.auth.is_empty() {
            return Ok((!self.username.is_empty()).then(|| Credential::Basic {
                username: self.username.clone(),
                password: self.password.clone().into(),
            }));
        }
        let decoded = STANDARD
            .decode(&self.auth)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .ok_or_else(|| malformed(file, &format!("auth of {key} is not base64 of text")))?;
        let (username, password) = decoded
            .split_once(':')
            .ok_or_else(|| malformed(file, &format!("auth of {key} has no colon")))?;
        if username.is_empty() {
            return Ok(None);
        }
        Ok(Some(Credential::Basic {
            username: username.to_owned(),
            // docker once padded with zero bytes.
            password: password.trim_end_matches('\0').to_owned().into(),
        }))
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

fn malformed(file: &Path, reason: &str) -> Error {
    Error::Invalid(format!("{}: {}", file.display(), reason.replace('\n', " ")))
}

fn read_document(file: &Path) -> Result<Map<String, Value>, Error> {
    match fs::read(file) {
        Ok(text) if text.trim_ascii().is_empty() => Ok(Map::new()),
        Ok(text) => {
            serde_json::from_slice(&text).map_err(|error| malformed(file, &error.to_string()))
        }
        Err(error)
            if matches!(
                error.kind(),
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
            ) =>
        {
            Ok(Map::new())
        }
        Err(error) => Err(malformed(file, &error.to_string())),
    }
}

/// Reads a file, lets `edit` change it, and puts the result in its place if `edit` says so. Keys
/// that kelp does not know stay.
fn change(
    file: &Path,
    edit: impl FnOnce(&mut Map<String, Value>) -> Result<bool, Error>,
) -> Result<(), Error> {
    // What a symbolic link points to is replaced, not the link.
    let file = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    let directory = match file.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let failed = |error: &dyn fmt::Display| malformed(&file, &error.to_string());
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .map_err(|error| failed(&error))?;
    // Two logins at once must not lose one of them; the lock ends with the descriptor.
    let lock = fs::File::open(directory).map_err(|error| failed(&error))?;
    lock.lock().map_err(|error| failed(&error))?;
    let mut document = read_document(&file)?;
    if !edit(&mut document)? {
        return Ok(());
    }
    let mut text = serde_json::to_string_pretty(&document).map_err(|error| failed(&error))?;
    text.push('\n');
    let name = file.file_name().unwrap_or_default().to_string_lossy();
    let temporary = directory.join(format!(".{name}.{}", std::process::id()));
    let _ = fs::remove_file(&temporary);
    let written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&temporary)
        .and_then(|mut out| {
            out.write_all(text.as_bytes())?;
            out.sync_all()
        })
        .and_then(|()| fs::rename(&temporary, &file));
    if let Err(error) = written {
        let _ = fs::remove_file(&temporary);
        return Err(failed(&error));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn basic(username: &str, password: &str) -> Credential {
        Credential::Basic {
            username: username.to_owned(),
            password: password.to_owned().into(),
        }
    }

    fn paths(root: &Path) -> ConfigPaths {
        ConfigPaths {
            runtime_dir: Some(root.join("run")),
            config_home: Some(root.join("config")),
            docker_config: Some(root.join("docker")),
            ..ConfigPaths::default()
        }
    }

    fn write(file: &Path, text: &str) {
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    #[test]
    fn the_most_specific_entry_wins() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("auth.json");
        let encode = |text: &str| STANDARD.encode(text);
        let text = serde_json::json!({ "auths": {
            "quay.io": { "auth": encode("host:1") },
            "quay.io/org": { "auth": encode("org:2:3") },
            "quay.io/org/repo": { "auth": encode("repo:4") },
            "https://index.docker.io/v1/": { "auth": encode("hub:5") },
            "https://legacy.example/v2/": { "auth": encode("legacy:6") },
            "plain.example": { "username": "plain", "password": "7" },
            "token.example": { "identitytoken": "abc", "auth": encode("x:") },
            "empty.example": {},
        }});
        write(&file, &text.to_string());
        let files = AuthFiles::find(&ConfigPaths::default(), Some(&file));
        for (name, expected) in [
            ("quay.io/x", Some(basic("host", "1"))),
            ("quay.io/org/x", Some(basic("org", "2:3"))),
            ("quay.io/org/repo:tag", Some(basic("repo", "4"))),
            ("quay.io/organisation/x", Some(basic("host", "1"))),
            ("docker.io/alpine", Some(basic("hub", "5"))),
            ("legacy.example/x", Some(basic("legacy", "6"))),
            ("plain.example/x", Some(basic("plain", "7"))),
            (
                "token.example/x",
                Some(Credential::IdentityToken("abc".to_owned().into())),
            ),
            ("empty.example/x", None),
            ("quay.io:443/x", None),
            ("other.example/x", None),
        ] {
            let reference = Reference::parse(name).unwrap();
            assert_eq!(files.lookup(&reference).unwrap(), expected, "{name}");
        }
    }

    #[test]
    fn files_are_asked_in_order() {
        let root = tempfile::tempdir().unwrap();
        let files = AuthFiles::find(&paths(root.path()), None);
        let lookup = || files.lookup_key("r.example/x").unwrap();
        let entry = |user: &str| {
            let auth = STANDARD.encode(format!("{user}:p"));
            format!(r#"{{"auths":{{"r.example":{{"auth":"{auth}"}}}}}}"#)
        };
        assert_eq!(lookup(), None);
        for (file, user) in [
            ("docker/config.json", "docker"),
            ("config/containers/auth.json", "config"),
            ("run/containers/auth.json", "run"),
        ] {
            write(&root.path().join(file), &entry(user));
            assert_eq!(lookup(), Some(basic(user, "p")));
        }
    }

    #[test]
    fn login_and_logout_keep_what_they_do_not_know() {
        let root = tempfile::tempdir().unwrap();
        let files = AuthFiles::find(&paths(root.path()), None);
        let file = root.path().join("run/containers/auth.json");
        write(
            &file,
            r#"{"auths":{"o.example":{"auth":"bzpw","extra":1}},"HttpHeaders":{"a":"b"}}"#,
        );
        assert_eq!(files.login("r.example/ns", "u", "p:w").unwrap(), file);
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let document = read_document(&file).unwrap();
        assert_eq!(document["HttpHeaders"]["a"], "b");
        assert_eq!(document["auths"]["o.example"]["extra"], 1);
        assert_eq!(
            files.lookup_key("r.example/ns/x").unwrap(),
            Some(basic("u", "p:w"))
        );
        assert_eq!(files.lookup_key("r.example/other").unwrap(), None);

        assert_eq!(files.logout("r.example").unwrap(), Logout::NotLoggedIn);
        assert_eq!(files.logout("r.example/ns").unwrap(), Logout::Removed);
        assert_eq!(files.lookup_key("r.example/ns/x").unwrap(), None);
        assert_eq!(
            files.lookup_key("o.example").unwrap(),
            Some(basic("o", "p"))
        );
        files.logout_all().unwrap();
        assert_eq!(files.lookup_key("o.example").unwrap(), None);
        let names: Vec<_> = fs::read_dir(file.parent().unwrap()).unwrap().collect();
        assert_eq!(names.len(), 1, "no temporary file stays");
    }

    #[test]
    fn dockers_own_login_is_left_alone() {
        let root = tempfile::tempdir().unwrap();
        let files = AuthFiles::find(&paths(root.path()), None);
        write(
            &root.path().join("docker/config.json"),
            r#"{"auths":{"r.example":{"auth":"dTpw"}}}"#,
        );
        assert_eq!(files.logout("r.example").unwrap(), Logout::InDockerConfig);
        assert_eq!(
            files.lookup_key("r.example").unwrap(),
            Some(basic("u", "p"))
        );
    }

    #[test]
    fn a_helper_name_is_never_a_path() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("auth.json");
        write(&file, r#"{"credHelpers":{"r.example":"../../bin/x"}}"#);
        let files = AuthFiles::find(&ConfigPaths::default(), Some(&file));
        let error = files.lookup_key("r.example").unwrap_err();
        assert!(error.to_string().contains("not a path"), "{error}");
    }

    #[test]
    fn what_is_malformed_names_the_file() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("auth.json");
        for text in ["{", "[]", r#"{"auths":{"r.example":{"auth":"!!"}}}"#] {
            write(&file, text);
            let files = AuthFiles::find(&ConfigPaths::default(), Some(&file));
            let error = files.lookup_key("r.example").unwrap_err().to_string();
            assert!(error.contains("auth.json"), "{error}");
            assert!(!error.contains('\n'), "{error}");
        }
    }

    #[test]
    fn secrets_are_not_printed() {
        let credential = basic("user", "hunter2");
        assert!(!format!("{credential:?}").contains("hunter2"));
    }
}
