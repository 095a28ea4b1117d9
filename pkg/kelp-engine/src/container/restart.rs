//! `restart`: stop, if it runs, and start.

use std::time::Duration;

use kelp_monitor::attach::Pipes;
use kelp_state::{ContainerId, Record};

use crate::{Engine, Error};

impl Engine {
    /// Stops a container as [`Engine::stop_container`] does, and starts it with nothing attached.
    pub fn restart_container(
        &self,
        id: &ContainerId,
        timeout: Option<Duration>,
    ) -> Result<(), Error> {
        // What could not be started again is not stopped.
        kelp_monitor::shown::check(&self.paths, &Record::new(&self.paths, id.clone()))?;
        self.stop_container(id, timeout)?;
        self.start_container(id, Pipes::default())?;
        self.note_id("restart", id, None);
        Ok(())
    }
}
