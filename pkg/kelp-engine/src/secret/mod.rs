//! Secrets: values of up to 512,000 bytes that containers get as files or as variables.
//!
//! `place` has the directories and what is in them; what a container gets of a secret is in
//! [`crate::container::secrets`], and is a copy.

mod place;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::SystemTime;

use kelp_image::Digest;
use serde::{Deserialize, Serialize};

use crate::{Engine, Error, Kind};
use place::Place;
pub(crate) use place::write_value;

/// How long a value may be, in bytes.
pub const MAX_SIZE: usize = 512_000;

/// How many digits an id has.
const ID_DIGITS: usize = 25;

/// What is known of a secret, other than its value: `secret.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secret {
    /// 25 hexadecimal digits, others for each value.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// When it was made.
    pub created: SystemTime,
    /// When it got the value that it has.
    pub updated: SystemTime,
    /// The digest of the value.
    value: Digest,
}

/// A request for a new secret.
#[derive(Clone, Debug, Default)]
pub struct SecretOptions {
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Whether one that has the name gets the new value.
    pub replace: bool,
    /// Whether one that has the name stays, and its id is told.
    pub ignore: bool,
}

impl SecretOptions {
    /// Refuses a name that no secret can have, and a combination that makes no sense.
    pub fn check(&self, name: &str) -> Result<(), Error> {
        check_name(name)?;
        if self.replace && self.ignore {
            return Err(Error::invalid("--replace and --ignore exclude each other"));
        }
        Ok(())
    }
}

impl Engine {
    /// Makes a secret, or gives one its new value; its id.
    pub fn create_secret(
        &self,
        name: &str,
        value: &[u8],
        options: &SecretOptions,
    ) -> Result<String, Error> {
        options.check(name)?;
        if value.is_empty() || value.len() > MAX_SIZE {
            let hint = if value.is_empty() {
                "this one is empty"
            } else {
                "mount what is larger with --volume"
            };
            return Err(Error::invalid(format!(
                "a secret's value has 1 to {MAX_SIZE} bytes: {hint}"
            )));
        }
        let place = Place::of(&self.paths, name);
        let writing = place.write()?;
        let now = SystemTime::now();
        let mut created = now;
        if place.is_taken() {
            // One that is damaged is replaced as well.
            let before = place.read();
            if options.ignore {
                return before
                    .map_err(|fault| fault.error(name))?
                    .map(|before| before.id)
                    .ok_or_else(|| absent(name));
            }
            if !options.replace {
                return Err(Error::conflict(format!(
                    "secret name {name:?} is in use: use --replace, or --ignore to leave it as it is"
                )));
            }
            if let Ok(Some(before)) = before {
                created = before.created;
            }
        }
        let secret = Secret {
            id: new_id(),
            name: name.to_owned(),
            labels: options.labels.clone(),
            created,
            updated: now,
            value: Digest::of(value),
        };
        writing.put(&secret, value)?;
        self.note_secret("create", &secret.id, name);
        Ok(secret.id)
    }

    /// Every secret that can be read, by name.
    pub fn secrets(&self) -> Result<Vec<Secret>, Error> {
        let places = Place::all(&self.paths)?;
        let mut secrets: Vec<_> = places
            .iter()
            .filter_map(|place| place.read().ok().flatten())
            .collect();
        secrets.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(secrets)
    }

    /// The secret that a name, an id, or the only beginning of one, means.
    pub fn find_secret(&self, text: &str) -> Result<Secret, Error> {
        let named = Place::of(&self.paths, text).read();
        if let Some(secret) = named.map_err(|fault| fault.error(text))? {
            return Ok(secret);
        }
        if text.is_empty() || text.len() > ID_DIGITS {
            return Err(absent(text));
        }
        let mut fits = self.secrets()?;
        fits.retain(|secret| secret.id.starts_with(text));
        match fits.pop() {
            Some(secret) if fits.is_empty() => Ok(secret),
            Some(_) => Err(Error::invalid(format!(
                "more than one secret has an id that begins with {text}"
            ))),
            None => Err(absent(text)),
        }
    }

    /// The same, with its value.
    pub fn secret_value(&self, text: &str) -> Result<(Secret, Vec<u8>), Error> {
        loop {
            let secret = self.find_secret(text)?;
            let place = Place::of(&self.paths, &secret.name);
            match place.whole_value(&secret) {
                Ok(Some(value)) => return Ok((secret, value)),
                // It got another value meanwhile, or is gone.
                Ok(None) => {}
                Err(fault) => return Err(fault.error(&secret.name)),
            }
        }
    }

    /// Removes a secret, also one that is damaged; its id, or its name where that is all that is known.
    pub fn remove_secret(&self, text: &str) -> Result<String, Error> {
        let mut place = Place::of(&self.paths, text);
        if !place.is_taken() {
            // One that is damaged may have lost its name.
            place = match Place::called(&self.paths, text) {
                Some(place) => place,
                None => Place::of(&self.paths, &self.find_secret(text)?.name),
            };
        }
        self.remove_secret_at(&place, text)?
            .ok_or_else(|| absent(text))
    }

    /// Removes every secret, damaged or not; for each its id, if that is known, or why it is still there.
    pub fn remove_secrets(&self) -> Result<Vec<Result<String, Error>>, Error> {
        let places = Place::all(&self.paths)?;
        let removed = places.iter();
        Ok(removed
            .filter_map(|place| self.remove_secret_at(place, place.key()).transpose())
            .collect())
    }

    /// Removes one: its id, or what it was called by if that is not known; `None` if it is gone already.
    fn remove_secret_at(&self, place: &Place, called: &str) -> Result<Option<String>, Error> {
        let writing = place.write()?;
        if !place.is_taken() {
            return Ok(None);
        }
        let known = place.read().ok().flatten();
        writing.remove()?;
        let (id, name) = match known {
            Some(secret) => (secret.id, secret.name),
            None => (called.to_owned(), called.to_owned()),
        };
        self.note_secret("remove", &id, &name);
        Ok(Some(id))
    }

    /// Deletes what killed commands have left among the secrets.
    pub(crate) fn forget_half_made_secrets(&self) {
        for place in Place::all(&self.paths).unwrap_or_default() {
            let _ = place.write().and_then(|writing| writing.tidy());
        }
    }

    /// The secrets that are not as they should be: where each is, what it is called, and what is wrong.
    pub(crate) fn damaged_secrets(&self) -> Result<Vec<(String, String)>, Error> {
        let places = Place::all(&self.paths)?;
        let found = places.iter().filter_map(|place| {
            let secret = match place.read() {
                Ok(secret) => secret?,
                Err(fault) => return Some((place.key().to_owned(), fault.what())),
            };
            let fault = place.whole_value(&secret).err()?;
            Some((secret.name, fault.what()))
        });
        Ok(found.collect())
    }

    /// Where values are.
    pub fn secrets_directory(&self) -> PathBuf {
        self.paths.secrets()
    }
}

fn absent(text: &str) -> Error {
    Error::new(
        Kind::NotFound,
        format!(
            "no such secret: {text:?}: kelp secret ls shows those that are here, kelp secret create makes one"
        ),
    )
}

/// Checks a name: 1 to 253 bytes without `,`, `/`, `=` and null, as in podman; and neither `.` nor `..`,
/// which are no files' names.
fn check_name(name: &str) -> Result<(), Error> {
    let is_bad = |letter| matches!(letter, ',' | '/' | '=' | '\0');
    if name.is_empty() || name.len() > 253 || name.contains(is_bad) || matches!(name, "." | "..") {
        return Err(Error::invalid(format!(
            "invalid secret name {name:?}: it has 1 to 253 bytes, without commas, slashes and equals signs"
        )));
    }
    Ok(())
}

fn new_id() -> String {
    let id = crate::ContainerId::random();
    id.as_str()[..ID_DIGITS].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_podmans() {
        let long = "x".repeat(253);
        for name in ["a", "-", "a b", ".hidden", "ü", "a\nb", &long] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        let longer = "x".repeat(254);
        for name in ["", ".", "..", "../x", "a/b", "a,b", "a=b", "a\0", &longer] {
            assert!(check_name(name).is_err(), "{name}");
        }
    }
}
