//! `attach`: streams of a running container.

use kelp_monitor::attach::{Connection, Pipes};
use kelp_state::{ContainerId, Record, Status};

use crate::{Engine, Error};

impl Engine {
    /// Connects streams to a running container; the connection tells its end.
    pub fn attach_container(&self, id: &ContainerId, pipes: Pipes) -> Result<Connection, Error> {
        self.running(id.as_str())?;
        let record = Record::new(&self.paths, id.clone());
        let attached = Connection::open(&record.runtime)
            .map_err(Error::io("connect to the container's monitor"))
            .and_then(|connection| {
                connection.attach(pipes)?;
                Ok(connection)
            });
        let connection = match attached {
            Ok(connection) => connection,
            // A monitor hangs up when the program has ended meanwhile.
            Err(error) => match self.settled_status(id) {
                Ok(Status::Running | Status::Paused) => return Err(error),
                _ => {
                    return Err(Error::conflict(format!(
                        "can only attach to a running container: {} has ended",
                        id.short()
                    )));
                }
            },
        };
        self.note_id("attach", id, None);
        Ok(connection)
    }
}
