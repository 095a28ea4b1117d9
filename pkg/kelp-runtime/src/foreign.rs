//! Another OCI runtime in the place of kelp's own: crun, runc, youki, and what else has runc's command
//! line.
//!
//! It gets a bundle that says nothing but what the specification says. All that is kelp's own (whose
//! name the user has, which volume gets what the image has, what an overlay is made of) is done before
//! it is called, in a mount namespace that is made for it ([`stage`]). The bundle and the runtime's
//! state are in a tmpfs of that namespace: whoever holds the namespace is the only one that can call the
//! runtime, and when nobody holds it any more, nothing is left of either.

mod config;
mod exec;
mod message;
mod stage;
mod verb;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use config::check;
pub use exec::{Request, exec};
pub use stage::stage;
pub use verb::{Around, Made};

/// A runtime, and how it is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Foreign {
    /// What its user calls it.
    pub name: String,
    /// The program.
    pub path: PathBuf,
    /// What it is told before each verb: `--debug`, `--log=FILE`.
    #[serde(default)]
    pub flags: Vec<String>,
}

impl Foreign {
    /// The name of the program, by which it is told what it can do.
    fn program(&self) -> &str {
        let name = self.path.file_name().and_then(|name| name.to_str());
        name.unwrap_or(&self.name)
    }

    /// Whether it leaves its processes in the cgroup that it is called in.
    pub fn inherits_cgroup(&self) -> bool {
        self.inherit_flag().is_some()
    }

    /// What tells it to, unless its caller has told it something else. crun tries for seconds to hand
    /// controllers to the container's cgroup where processes beside it, as the monitor is one, keep it from
    /// that (cgroup-v2.rst, "No Internal Process Constraint"); runsc fails there, and where the top of the
    /// hierarchy is not its to write.
    fn inherit_flag(&self) -> Option<&'static str> {
        match self.program() {
            "crun" if !self.has_flag("--cgroup-manager") => Some("--cgroup-manager=disabled"),
            "runsc" if self.flags.iter().all(|it| it != "--ignore-cgroups=false") => {
                Some("--ignore-cgroups")
            }
            _ => None,
        }
    }

    /// Whether its caller has set a flag of this name.
    fn has_flag(&self, name: &str) -> bool {
        self.flags.iter().any(|flag| {
            flag.strip_prefix(name)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('='))
        })
    }
}

/// What a container's process could not be made for, as far as a runtime's words tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Anything else.
    Setup,
    /// The program is not there.
    NotFound,
    /// The program can't be executed.
    NotExecutable,
}

/// The mount namespace with a bundle, and the runtime's state.
#[derive(Debug)]
pub struct Stage {
    namespace: OwnedFd,
    /// Where in it both are.
    place: PathBuf,
}

impl Stage {
    /// From a namespace that somebody else has made.
    pub fn new(namespace: OwnedFd, place: PathBuf) -> Self {
        Self { namespace, place }
    }

    /// Where in the namespace all of it is.
    pub fn place(&self) -> &Path {
        &self.place
    }
}

impl AsFd for Stage {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.namespace.as_fd()
    }
}

/// What is in the tmpfs of a stage.
const BUNDLE: &str = "bundle";
const ROOTFS: &str = "rootfs";
const MOUNTS: &str = "mounts";
const STATE: &str = "state";
