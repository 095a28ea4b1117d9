//! What a container wrote to mounts that are overlays, which it does not find again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use kelp_state::{Paths, Record};

/// The directory of a record that has them.
pub const OVERLAYS: &str = "overlays";

/// The directories that hold what was written. They are the container's root's, and so stay.
pub fn directories(record: &Path) -> io::Result<Vec<PathBuf>> {
    let overlays = match fs::read_dir(record.join(OVERLAYS)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        overlays => overlays?,
    };
    let mut directories = Vec::new();
    for overlay in overlays {
        let overlay = overlay?.path();
        directories.extend(["upper", "work"].map(|name| overlay.join(name)));
    }
    Ok(directories)
}

/// Moves what was written to the trash; where it is to be deleted, if there is anything. Nobody has to
/// wait until it is.
pub(crate) fn put_away(paths: &Paths, record: &Record) -> io::Result<Option<PathBuf>> {
    let mut place = None;
    for (number, directory) in directories(&record.data)?.iter().enumerate() {
        for entry in fs::read_dir(directory)? {
            let trash = match &place {
                Some(trash) => trash,
                None => place.insert(new_trash(paths, record)?),
            };
            let entry = entry?;
            let own = trash.join(number.to_string());
            if !own.exists() {
                fs::create_dir(&own)?;
            }
            fs::rename(entry.path(), own.join(entry.file_name()))?;
        }
    }
    Ok(place)
}

fn new_trash(paths: &Paths, record: &Record) -> io::Result<PathBuf> {
    let moment = SystemTime::now().duration_since(UNIX_EPOCH);
    let moment = moment.unwrap_or_default().as_nanos();
    let name = format!("overlays.{moment}.{}", record.id);
    let place = paths.data.join("trash").join(name);
    fs::create_dir_all(&place)?;
    Ok(place)
}
