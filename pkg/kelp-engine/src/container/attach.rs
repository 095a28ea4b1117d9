//! `attach`: streams of a running container.

use kelp_monitor::attach::{Connection, Pipes};
use kelp_state::{ContainerId, Record};

use crate::{Engine, Error};

impl Engine {
    /// Connects streams to a running container; the connection tells its end.
    pub fn attach_container(&self, id: &ContainerId, pipes: Pipes) -> Result<Connection, Error> {
        self.running(id.as_str())?;
        let record = Record::new(&self.paths, id.clone());
        let connection = Connection::open(&record.runtime)
            .map_err(Error::io("connect to the container's monitor"))?;
        connection.attach(pipes)?;
        self.note_id("attach", id, None);
        Ok(connection)
    }
}
