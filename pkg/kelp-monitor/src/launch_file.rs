//! `launch.json` as it was read last: others change it while the container runs.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use kelp_state::file;

use crate::error::Error;
use crate::launch::Launch;

/// What it says, and which of the files that had its name says so.
#[derive(Debug)]
pub(crate) struct LaunchFile {
    path: PathBuf,
    identity: Identity,
    /// What it said when it was read last.
    pub(crate) launch: Rc<Launch>,
}

/// A file that is replaced is another inode, or at least a later one of the same number.
type Identity = (u64, i64, i64);

impl LaunchFile {
    /// Reads it; `None` if there is none.
    pub(crate) fn read(record: &Path) -> Result<Option<Self>, Error> {
        let path = record.join("launch.json");
        // Before it is read: what comes in between is met again.
        let Some(identity) = identity(&path) else {
            return Ok(None);
        };
        let launch = file::read_json::<Launch>(&path)?;
        Ok(launch.map(|launch| Self {
            path,
            identity,
            launch: Rc::new(launch),
        }))
    }

    /// Reads it again if somebody has changed it; whether somebody has.
    pub(crate) fn refresh(&mut self) -> Result<bool, Error> {
        let now = identity(&self.path);
        // It is gone with a container that is removed, which is for others to find out.
        if now.is_none_or(|now| now == self.identity) {
            return Ok(false);
        }
        let (Some(identity), Some(launch)) = (now, file::read_json(&self.path)?) else {
            return Ok(false);
        };
        self.identity = identity;
        self.launch = Rc::new(launch);
        Ok(true)
    }
}

fn identity(path: &Path) -> Option<Identity> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.ino(), metadata.ctime(), metadata.ctime_nsec()))
}
