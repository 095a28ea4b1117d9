//! `export`: all that a container shows as an archive.

use std::os::fd::BorrowedFd;

use kelp_state::ContainerId;

use crate::container::pack::What;
use crate::{Engine, Error};

impl Engine {
    /// Writes the files of a container, without what is mounted in it, as an archive; owners are those that
    /// the container sees.
    pub fn export_container(&self, id: &ContainerId, archive: BorrowedFd<'_>) -> Result<(), Error> {
        self.pack(id, What::Tree, archive)?.end()?;
        self.note_id("export", id, None);
        Ok(())
    }
}
