//! systemd, the user's or root's: transient scopes, processes moved into them, and units that are started again.
//!
//! systemd alone may move a process out of a login session's cgroup into a delegated one. kelp asks
//! the manager itself, through its private socket: no bus daemon has to run, and a request costs one
//! round trip, a short first one two. The D-Bus of it is small and synchronous, so [`wire`] has it, and
//! no library with an executor and threads of its own.
//!
//! Sources: D-Bus specification ("Message Protocol", "Authentication Protocol"),
//! org.freedesktop.systemd1(5), systemd's `CGROUP_DELEGATION` document.

mod job;
mod manager;
mod wire;

pub use job::{Job, JobResult};
pub use manager::{Error, Manager, Scope};
