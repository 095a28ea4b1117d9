//! OCI bundles: the verbs of a low-level runtime (runtime-spec, runtime.md), and the state between them.
//!
//! Invariants: a container is a directory below the state root, and its first process; no other process
//! lives on. What the directory says is checked against that process, by its number and its start time:
//! a process that is gone is a container that is stopped, whatever the files say. One lock a container
//! keeps verbs that change it apart.
#![forbid(unsafe_code)]

mod agent;
mod bundle;
mod cgroup;
mod console;
mod create;
mod delete;
mod error;
mod events;
mod exec;
mod features;
mod lenient;
mod net_devices;
mod record;
mod relay;
mod root;
mod signal;
mod start;
mod usage;

pub use console::{ConsoleSocket, Terminal};
pub use create::Options as CreateOptions;
pub use error::Error;
pub use events::Event;
pub use exec::{Options as ExecOptions, read_process};
pub use features::features;
pub use kelp_runtime::OCI_VERSION;
pub use kelp_runtime::error::one_line;
pub use kelp_runtime::program::protect as protect_program;
pub use kelp_runtime::sockets;
pub use lenient::parse as parse_document;
pub use record::{Container, State, Status};
pub use relay::Signals;
pub use root::Root;
