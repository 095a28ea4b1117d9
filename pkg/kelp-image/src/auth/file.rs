//! auth.json and config.json: reading them, and changing what kelp knows of them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Credential, DOCKER_HUB_KEY, host_of, normalize_key};
use crate::Error;
use crate::credential_helper;
use crate::reference::DOCKER_HUB;

/// What lookups need of auth.json and config.json.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct AuthFile {
    auths: BTreeMap<String, Entry>,
    pub(super) cred_helpers: BTreeMap<String, String>,
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
    pub(super) fn read(file: &Path) -> Result<Self, Error> {
        Self::parse(&read_document(file)?, file)
    }

    pub(super) fn parse(document: &Map<String, Value>, file: &Path) -> Result<Self, Error> {
        Self::deserialize(document).map_err(|error| malformed(file, &error.to_string()))
    }

    /// Forgets a `credsStore` whose program is not there. docker's own file often names one that
    /// went with Docker Desktop, and public images need no credentials.
    pub(super) fn ignore_missing_store(&mut self) {
        if !credential_helper::is_installed(&self.creds_store) {
            self.creds_store.clear();
        }
    }

    pub(super) fn helper_for(&self, host: &str) -> Option<&str> {
        let by_host = self
            .cred_helpers
            .iter()
            .find(|(key, _)| normalize_key(key) == host)
            .map(|(_, helper)| helper.as_str());
        by_host
            .or(Some(self.creds_store.as_str()))
            .filter(|helper| !helper.is_empty())
    }

    pub(super) fn lookup(&self, key: &str, file: &Path) -> Result<Option<Credential>, Error> {
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

pub(super) fn malformed(file: &Path, reason: &str) -> Error {
    Error::Invalid(format!("{}: {}", file.display(), reason.replace('\n', " ")))
}

pub(super) fn read_document(file: &Path) -> Result<Map<String, Value>, Error> {
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
pub(super) fn change(
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
