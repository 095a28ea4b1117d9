//! Errors of this crate.

use std::io;

/// Why a container could not be started or watched.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The runtime refused or failed.
    #[error(transparent)]
    Runtime(#[from] kelp_runtime::Error),
    /// A record could not be read or written.
    #[error(transparent)]
    State(#[from] kelp_state::Error),
    /// The user namespace could not be registered.
    #[error(transparent)]
    Userns(#[from] kelp_userns::Error),
    /// The network could not be set up.
    #[error(transparent)]
    Network(#[from] kelp_network::Error),
    /// systemd made no scope.
    #[error("make a scope for the container")]
    Systemd(#[from] kelp_systemd::Error),
    /// The monitor failed to start the container, in its own words.
    #[error("{text}")]
    Failed {
        /// What it means for the exit code.
        kind: crate::protocol::FailureKind,
        /// The words.
        text: String,
    },
    /// The monitor went away without a word.
    #[error("the container's monitor was killed")]
    MonitorGone,
    /// The monitor lives and does not answer.
    #[error(
        "the container's monitor does not answer: it is stopped or traced; kill -CONT has it go on, and kelp rm -f \
         removes the container"
    )]
    MonitorSilent,
    /// Any other failed operation.
    #[error("{what}")]
    Io {
        /// The operation and its object.
        what: String,
        /// The cause.
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        move |source| Self::Io {
            what: what.into(),
            source: source.into(),
        }
    }
}
