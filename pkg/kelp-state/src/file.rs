//! Small files, written whole or not at all.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::Error;

/// Whether a write must outlive a power cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// It may be lost with the machine: the record of a `--rm` container.
    None,
    /// Synced before it is renamed, and its directory after.
    Synced,
}

/// Replaces `path` by `content`: a reader sees the old file or the new one, never a part.
pub fn write(path: &Path, content: &[u8], durability: Durability) -> Result<(), Error> {
    write_with(path, content, durability, 0o600)
}

/// Writes a file that tells others a process's number.
pub fn write_pid(path: &Path, pid: u32) -> Result<(), Error> {
    write_with(path, pid.to_string().as_bytes(), Durability::None, 0o644)
}

fn write_with(path: &Path, content: &[u8], durability: Durability, mode: u32) -> Result<(), Error> {
    let what = || format!("write {}", path.display());
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(format!(".{}~", std::process::id()));
    let result = (|| -> io::Result<()> {
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&temporary)?;
        file.write_all(content)?;
        if durability == Durability::Synced {
            file.sync_data()?;
        }
        fs::rename(&temporary, path)?;
        if durability == Durability::Synced {
            sync_directory(path.parent().unwrap_or(Path::new("/")))?;
        }
        Ok(())
    })();
    if result.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    result.map_err(Error::io(what()))
}

/// [`write`] of a value as JSON.
pub fn write_json<T: Serialize>(
    path: &Path,
    value: &T,
    durability: Durability,
) -> Result<(), Error> {
    let text = serde_json::to_vec(value).map_err(|source| Error::Json {
        what: path.display().to_string(),
        source,
    })?;
    write(path, &text, durability)
}

/// Makes the names in a directory outlive a power cut.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    fs::File::open(directory)?.sync_all()
}

/// [`sync_directory`] after a removal: on a full disk, where that may fail, it counts without.
pub fn sync_removal(directory: &Path) -> io::Result<()> {
    match sync_directory(directory) {
        Err(error) if is_full(&error) => Ok(()),
        synced => synced,
    }
}

/// Whether a file system, or the user's quota of it, is full.
pub(crate) fn is_full(error: &io::Error) -> bool {
    let full = [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded];
    full.contains(&error.kind())
}

/// Makes the content of the files in a directory outlive a power cut; their names are
/// [`sync_directory`]'s.
pub fn sync_files(directory: &Path) -> Result<(), Error> {
    (|| {
        for entry in fs::read_dir(directory)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                fs::File::open(entry.path())?.sync_data()?;
            }
        }
        Ok(())
    })()
    .map_err(Error::io(format!("sync {}", directory.display())))
}

/// Reads a JSON file; `None` if it is not there, or is empty, as a power cut leaves what was not
/// synced.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Error> {
    let text = match fs::read(path) {
        Ok(text) if text.is_empty() => return Ok(None),
        Ok(text) => text,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound) => return Ok(None),
        Err(error) => return Err(Error::io(format!("read {}", path.display()))(error)),
    };
    serde_json::from_slice(&text)
        .map(Some)
        .map_err(|source| Error::Json {
            what: path.display().to_string(),
            source,
        })
}
