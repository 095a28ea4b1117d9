//! Taking a record away: renamed in one step, deleted after.
//!
//! What a kill leaves in the trash is garbage that the next prune collects; a record is never seen
//! half gone.

use std::fs;
use std::io;

use crate::error::Error;
use crate::paths::Paths;
use crate::record::Record;

/// Removes a container's record and its part of the runtime directory. The caller must be able to
/// delete what the container's users own: be in its user namespace.
pub fn discard(paths: &Paths, record: &Record) -> Result<(), Error> {
    let trash = paths.data.join("trash");
    let place = trash.join(record.id.as_str());
    let rename = || fs::rename(&record.data, &place);
    let renamed = rename().or_else(|error| match error.kind() {
        io::ErrorKind::NotFound if record.data.exists() => {
            fs::create_dir_all(&trash).and_then(|()| rename())
        }
        io::ErrorKind::NotFound => Ok(()),
        _ => Err(error),
    });
    renamed.map_err(Error::io(format!("remove {}", record.data.display())))?;
    let _ = fs::remove_dir_all(&record.runtime);
    match fs::remove_dir_all(&place) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io(format!("remove {}", place.display()))(error))
        }
        _ => Ok(()),
    }
}
