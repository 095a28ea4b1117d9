//! Why a verb failed.

use std::io;

/// What went wrong.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The bundle, the specification or an argument is wrong.
    #[error("{0}")]
    Invalid(String),
    /// There is no such container.
    #[error("container \"{0}\" does not exist")]
    NotFound(String),
    /// There is one with that id already.
    #[error("container with id \"{0}\" exists already: delete it, or choose another id")]
    Exists(String),
    /// Its record can't be read.
    #[error("{0} is damaged ({1}): delete the container with --force")]
    Damaged(String, serde_json::Error),
    /// A file of the container's could not be read or written.
    #[error(transparent)]
    Record(#[from] kelp_state::Error),
    /// It is in no state for this (runtime-spec, "Lifecycle").
    #[error("{0}")]
    State(String),
    /// The process could not be made.
    #[error(transparent)]
    Runtime(#[from] kelp_runtime::Error),
    /// The user namespace could not be made.
    #[error(transparent)]
    UserNamespace(#[from] kelp_userns::Error),
    /// systemd did not make or find the scope.
    #[error("{what}")]
    Systemd {
        /// What was asked for.
        what: String,
        /// Its answer.
        source: kelp_systemd::Error,
    },
    /// The kernel or the file system refused.
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
        move |error| Self::Io {
            what: what.into(),
            source: error.into(),
        }
    }

    /// The error and its causes in one line.
    pub fn line(&self) -> String {
        kelp_runtime::error::one_line(self)
    }
}
