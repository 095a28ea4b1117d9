//! Taking a record away: renamed in one step, deleted after.
//!
//! What a kill leaves in the trash is garbage that the next prune collects; a record is never seen
//! half gone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;

use crate::error::Error;
use crate::paths::Paths;
use crate::record::Record;

/// The file in a volume's directory that says that more than its container use it.
pub const SHARED: &str = "shared";

/// Takes a container's record away, and its part of the runtime directory. What is returned is no
/// longer a container, and is to be given to [`empty`].
pub fn put_record(paths: &Paths, record: &Record) -> Result<PathBuf, Error> {
    let place = put(paths, &record.data, record.id.as_str())?;
    let _ = fs::remove_dir_all(&record.runtime);
    Ok(place)
}

/// Moves a volume, by its directory, to the trash; where it is to be deleted.
pub fn put_volume(paths: &Paths, volume: &Path) -> Result<PathBuf, Error> {
    let name = volume.file_name().unwrap_or_default().to_string_lossy();
    // Another volume may have had the name a moment ago.
    put(paths, volume, &format!("volume.{}.{name}", process::id()))
}

/// Renames what may be gone already.
fn put(paths: &Paths, path: &Path, name: &str) -> Result<PathBuf, Error> {
    let trash = paths.data.join("trash");
    let place = trash.join(name);
    let rename = || fs::rename(path, &place);
    let renamed = rename().or_else(|error| match error.kind() {
        io::ErrorKind::NotFound if path.exists() => {
            fs::create_dir_all(&trash).and_then(|()| rename())
        }
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    });
    renamed.map_err(Error::io(format!("remove {}", path.display())))?;
    Ok(place)
}

/// Deletes what was put in the trash. The caller must be able to delete what the container's users
/// own: be in its user namespace.
pub fn empty(place: &Path) -> Result<(), Error> {
    match fs::remove_dir_all(place) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io(format!("remove {}", place.display()))(error))
        }
        _ => Ok(()),
    }
}
