//! Who is asked about the calls that a seccomp filter does not decide: `linux.seccomp.listenerPath`.

use std::os::fd::OwnedFd;

use kelp_runtime::launch::Agent;
use oci_spec::runtime::{LinuxSeccomp, Spec};
use rustix::net::{SocketAddrUnix, SocketType, connect};
use serde_json::json;

use crate::create::socket;
use crate::error::Error;
use crate::record::State;

/// A connection to the agent, and what the specification has it told.
#[derive(Debug)]
pub(crate) struct Listening {
    socket: OwnedFd,
    metadata: Option<String>,
}

impl Listening {
    /// Connects: before there is a process, so that a wrong path leaves none. Nothing where no agent is named.
    pub(crate) fn open(spec: &Spec) -> Result<Option<Self>, Error> {
        let Some(seccomp) = profile(spec) else {
            return Ok(None);
        };
        let Some(path) = seccomp.listener_path() else {
            return Ok(None);
        };
        let what = || format!("connect to linux.seccomp.listenerPath {}", path.display());
        let socket = socket(SocketType::STREAM).map_err(Error::io(what()))?;
        let address = SocketAddrUnix::new(path).map_err(Error::io(what()))?;
        connect(&socket, &address).map_err(Error::io(what()))?;
        Ok(Some(Self {
            socket,
            metadata: seccomp.listener_metadata().clone(),
        }))
    }

    /// With what it is told of a process (runtime-spec, config-linux.md, "The Container Process State").
    pub(crate) fn about(self, pid: i32, state: &State) -> Agent {
        let mut told = json!({
            "ociVersion": kelp_runtime::OCI_VERSION,
            "fds": ["seccompFd"],
            "pid": pid,
            "state": state,
        });
        if let Some(metadata) = self.metadata {
            told["metadata"] = metadata.into();
        }
        Agent {
            socket: self.socket,
            state: told.to_string().into_bytes(),
        }
    }
}

/// The seccomp profile of a container.
pub(crate) fn profile(spec: &Spec) -> Option<&LinuxSeccomp> {
    let linux = spec.linux().as_ref();
    linux.and_then(|linux| linux.seccomp().as_ref())
}
