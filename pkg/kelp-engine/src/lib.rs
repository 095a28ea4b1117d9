//! The one API that every front end calls.
//!
//! Invariants: front ends parse and print, the engine does; [`Error::kind`] is all that a front end
//! needs to choose an exit code, an HTTP status or a gRPC code. Nothing here is asynchronous, and
//! nothing prints but what a user without subordinate ids is told once, and what a role says to
//! whoever started it.
#![forbid(unsafe_code)]

pub mod artifact;
pub mod auto_update;
pub mod check;
pub mod container;
mod detach;
pub mod doctor;
mod doctor_overlay;
pub mod error;
pub mod events;
pub mod fetch;
mod flow;
mod foreign_platform;
mod garbage;
pub mod host;
pub mod image;
pub mod info;
pub mod internal;
mod layered;
mod own_terminal;
pub mod pod;
mod relay;
mod reset;
pub mod runtime;
pub mod secret;
mod space;
pub mod spec;
pub mod storage;
pub mod terminal;
mod umask;
pub mod units;
mod unshare;
pub mod volume;
pub mod volumes;
mod watch;

use std::path::PathBuf;

use container::config::CgroupMode;
pub use error::{Error, Kind};
pub use kelp_network as network;
pub use kelp_runtime::{OCI_VERSION, devices, sockets};
use kelp_state::paths::make_private;
pub use kelp_state::{ContainerId, Health, Paths, Status};
use storage::Storage;

/// Tells where the read-only stores of images are.
pub type AskStores = fn() -> Result<&'static [PathBuf], Error>;

/// kelp for one user: where everything is, and what the user configured.
#[derive(Clone, Debug)]
pub struct Engine {
    /// The directories.
    pub paths: Paths,
    /// How cgroups are made for containers that don't say it themselves.
    pub cgroup_mode: CgroupMode,
    /// How root file systems are made, where that was asked for.
    pub storage: Option<Storage>,
    /// Read-only stores of images beneath the user's own, asked for when images are.
    pub additional_stores: Option<AskStores>,
    /// Who hears of what is taken and has no effect, a line each; nobody, unless that was asked for.
    pub tell: Option<fn(&str)>,
}

impl Engine {
    /// From the environment; makes the directories that are missing. From then on the process has the
    /// umask 022.
    pub fn open() -> Result<Self, Error> {
        umask::take_usual();
        let paths = Paths::from_env()?;
        for directory in [&paths.data, &paths.runtime] {
            make_private(directory)
                .map_err(|error| space::explain_space(error.into(), directory, space::SMALL))?;
        }
        Ok(Self {
            paths,
            cgroup_mode: CgroupMode::Enabled,
            storage: None,
            additional_stores: None,
            tell: None,
        })
    }
}
