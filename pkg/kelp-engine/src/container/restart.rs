//! `restart`: stop, if it runs, and start.

use kelp_monitor::attach::Pipes;
use kelp_state::{ContainerId, Record};

use crate::container::signal::{StopRequest, Stopped};
use crate::{Engine, Error};

impl Engine {
    /// Stops a container as [`Engine::stop_container`] does, tells how that went, and starts it with nothing
    /// attached.
    pub fn restart_container(
        &self,
        id: &ContainerId,
        request: StopRequest,
        tell: impl FnOnce(&Stopped),
    ) -> Result<(), Error> {
        // What could not be started again is not stopped.
        kelp_monitor::shown::check(&self.paths, &Record::new(&self.paths, id.clone()))?;
        tell(&self.stop_container(id, request)?);
        let pipes = Pipes {
            is_main: true,
            ..Pipes::default()
        };
        self.start_container(id, pipes)?;
        self.note_id("restart", id, None);
        Ok(())
    }
}
