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
        // Its end is not that of its pod.
        let config = self.config(id)?;
        let in_pod = self.enter_pod_of(&config)?;
        tell(&self.stop_to_restart(id, request)?);
        let pipes = Pipes {
            is_main: true,
            ..Pipes::default()
        };
        let started = self.start_container(id, pipes);
        drop(in_pod);
        self.leave_pod_of(&config);
        started?;
        self.note_id("restart", id, None);
        Ok(())
    }

    /// Stops a container that is to be started again later: what could not be is not stopped.
    pub fn stop_to_restart(
        &self,
        id: &ContainerId,
        request: StopRequest,
    ) -> Result<Stopped, Error> {
        kelp_monitor::shown::check(&self.paths, &Record::new(&self.paths, id.clone()))?;
        self.stop_container(id, request)
    }
}
