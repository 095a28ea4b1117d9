//! What a container wrote to mounts that are overlays, which it does not find again.

use std::fs;
use std::io;

use kelp_state::Record;

/// The directory of a record that has them.
pub const OVERLAYS: &str = "overlays";

/// Empties them: the directories themselves may belong to the container's root.
pub(crate) fn empty(record: &Record) -> io::Result<()> {
    let overlays = match fs::read_dir(record.data.join(OVERLAYS)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        overlays => overlays?,
    };
    for overlay in overlays {
        let overlay = overlay?.path();
        for name in ["upper", "work"] {
            for entry in fs::read_dir(overlay.join(name))? {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    fs::remove_dir_all(entry.path())?;
                } else {
                    fs::remove_file(entry.path())?;
                }
            }
        }
    }
    Ok(())
}
