//! Where a secret is: `secrets/<digest of its name>/`, with `secret.json` and a file that has the value.
//!
//! The value's file is called as the id of the secret, which each new value changes, and is there before the
//! record says so: so one rename is all that makes, replaces or (an unlink) removes a secret. Whoever writes
//! has a lock on the directory of all; whoever reads has none. Whatever else is in a secret's directory was
//! left by a command that was killed.

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use kelp_image::Digest;
use kelp_state::file::{self, Durability};
use kelp_state::{Paths, record};
use rustix::fs::{FlockOperation, OFlags};

use super::{ID_DIGITS, MAX_SIZE, Secret};
use crate::{Error, Kind};

/// The record's file.
const RECORD: &str = "secret.json";

/// The place of a secret, which need not be there.
#[derive(Debug)]
pub(super) struct Place {
    all: PathBuf,
    own: PathBuf,
    key: String,
}

/// A place that nobody else writes.
pub(super) struct Writing<'a> {
    place: &'a Place,
    _lock: Option<OwnedFd>,
}

impl Place {
    pub(super) fn of(paths: &Paths, name: &str) -> Self {
        Self::at(paths, Digest::of(name.as_bytes()).hex())
    }

    /// The place that is called so on the disk, if a damaged secret is there: another one has a name.
    pub(super) fn called(paths: &Paths, key: &str) -> Option<Self> {
        let place = Digest::from_sha256_hex(key).map(|_| Self::at(paths, key));
        place.filter(|place| place.read().is_err())
    }

    fn at(paths: &Paths, key: &str) -> Self {
        let all = paths.secrets();
        Self {
            own: all.join(key),
            all,
            key: key.to_owned(),
        }
    }

    /// Every place where something is.
    pub(super) fn all(paths: &Paths) -> Result<Vec<Self>, Error> {
        let all = paths.secrets();
        let entries = match fs::read_dir(&all) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(Error::io(format!("read {}", all.display())))?,
        };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let keys = names.filter(|name| Digest::from_sha256_hex(name).is_some());
        Ok(keys.map(|key| Self::at(paths, &key)).collect())
    }

    /// What it is called on the disk.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// Whether a secret is here, damaged or not.
    pub(super) fn is_taken(&self) -> bool {
        fs::symlink_metadata(self.own.join(RECORD)).is_ok()
    }

    /// The secret that is here.
    pub(super) fn read(&self) -> Result<Option<Secret>, Fault> {
        let path = self.own.join(RECORD);
        let read = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(Fault::of(&path))?,
        };
        let secret = serde_json::from_slice::<Secret>(&read);
        let is_whole = |secret: &Secret| {
            let digits = secret.id.bytes().all(|byte| byte.is_ascii_hexdigit());
            digits && secret.id.len() == ID_DIGITS && Self::key_of(&secret.name) == self.key
        };
        match secret {
            Ok(secret) if is_whole(&secret) => Ok(Some(secret)),
            _ => Err(Fault::Damaged("its record can't be read")),
        }
    }

    /// The value; `None` if it is not there, as when the secret has got another one since.
    fn value(&self, secret: &Secret) -> Result<Option<Vec<u8>>, Fault> {
        let path = self.own.join(&secret.id);
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let opened = fs::File::options()
            .read(true)
            .custom_flags(flags)
            .open(&path);
        let file = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(Fault::of(&path))?,
        };
        let mut value = Vec::new();
        let limit = MAX_SIZE as u64 + 1;
        file.take(limit)
            .read_to_end(&mut value)
            .map_err(Fault::of(&path))?;
        if Digest::of(&value) == secret.value {
            return Ok(Some(value));
        }
        Err(Fault::Damaged("its value is not the one that it got"))
    }

    /// The same, where a value that is missing and still wanted is damage.
    pub(super) fn whole_value(&self, secret: &Secret) -> Result<Option<Vec<u8>>, Fault> {
        let value = self.value(secret)?;
        if value.is_none() && self.read()?.is_some_and(|now| now == *secret) {
            return Err(Fault::Damaged("its value is not there"));
        }
        Ok(value)
    }

    /// Keeps others from writing secrets.
    pub(super) fn write(&self) -> Result<Writing<'_>, Error> {
        let what = || format!("make {}", self.all.display());
        // On a full disk not even a directory that is there can be made.
        if !self.all.is_dir() {
            make_directory(&self.all).map_err(Error::io(what()))?;
            let data = self.all.parent().unwrap_or(&self.all);
            file::sync_directory(data).map_err(Error::io(what()))?;
        }
        let lock = record::lock_directory(&self.all, FlockOperation::LockExclusive)?;
        Ok(Writing {
            place: self,
            _lock: lock,
        })
    }

    /// Removes all that is in the directory but the files of these names.
    fn clear(&self, kept: &[&str]) -> io::Result<()> {
        for entry in fs::read_dir(&self.own)? {
            let entry = entry?;
            if !kept.iter().any(|kept| entry.file_name() == *kept) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    fn key_of(name: &str) -> String {
        Digest::of(name.as_bytes()).hex().to_owned()
    }
}

impl Writing<'_> {
    /// Writes a value, and then the record that names it.
    pub(super) fn put(&self, secret: &Secret, value: &[u8]) -> Result<(), Error> {
        let (own, what) = (&self.place.own, || {
            format!("write secret {:?}", secret.name)
        });
        make_directory(own).map_err(Error::io(what()))?;
        let path = own.join(&secret.id);
        let written = write_value(&path, value, 0o600, Durability::Synced)
            .map_err(Error::io(what()))
            .and_then(|()| {
                file::write_json(&own.join(RECORD), secret, Durability::Synced).map_err(Error::from)
            })
            .and_then(|()| file::sync_directory(&self.place.all).map_err(Error::io(what())));
        if written.is_err() {
            // What the record still names stays, if there is one.
            let _ = self.tidy();
        } else {
            let _ = self.place.clear(&[RECORD, &secret.id]);
        }
        written
    }

    /// Removes the secret: it is none from the first step on.
    pub(super) fn remove(&self) -> Result<(), Error> {
        let own = &self.place.own;
        let what = || format!("remove {}", own.display());
        fs::remove_file(own.join(RECORD)).map_err(Error::io(what()))?;
        let synced = file::sync_removal(own);
        self.place
            .clear(&[])
            .and_then(|()| fs::remove_dir(own))
            .and(synced)
            .and_then(|()| file::sync_removal(&self.place.all))
            .map_err(Error::io(what()))
    }

    /// Deletes what a killed command has left. Of a secret that is damaged all stays.
    pub(super) fn tidy(&self) -> Result<(), Error> {
        let place = self.place;
        let tidied = match place.read().map_err(|fault| fault.error(&place.key))? {
            Some(secret) => place.clear(&[RECORD, &secret.id]),
            None => place.clear(&[]).and_then(|()| fs::remove_dir(&place.own)),
        };
        tidied.map_err(Error::io(format!("tidy {}", place.own.display())))
    }
}

/// Makes a directory that only the user enters; it may be there.
fn make_directory(path: &Path) -> io::Result<()> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Writes a new file that nobody has put there before.
pub(crate) fn write_value(
    path: &Path,
    value: &[u8],
    mode: u32,
    durability: Durability,
) -> io::Result<()> {
    let mut file = fs::File::options()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits().cast_signed())
        .open(path)?;
    file.write_all(value)?;
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    if durability == Durability::Synced {
        file.sync_all()?;
    }
    Ok(())
}

/// Why a secret can't be had.
#[derive(Debug)]
pub(super) enum Fault {
    /// It is not as it was made.
    Damaged(&'static str),
    /// A file can't be read.
    Unread(Error),
}

impl Fault {
    fn of(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let what = format!("read {}", path.display());
        |error| Self::Unread(Error::io(what)(error))
    }

    /// The same in a line, for who names the secret.
    pub(super) fn what(&self) -> String {
        match self {
            Self::Damaged(what) => (*what).to_owned(),
            Self::Unread(error) => error.line(),
        }
    }

    /// The error for whoever wants the secret, with the way out.
    pub(super) fn error(self, name: &str) -> Error {
        match self {
            Self::Damaged(what) => Error::new(
                Kind::Failed,
                format!(
                    "secret {name:?} is damaged: {what}: make it anew with kelp secret create --replace"
                ),
            ),
            Self::Unread(error) => error,
        }
    }
}
