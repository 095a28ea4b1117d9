//! Errors of this crate.

use std::io;

/// Why a record could not be made, found or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No container has this name or id.
    #[error("no container with name or ID \"{0}\" found: no such container")]
    NotFound(String),
    /// A prefix that fits more than one id.
    #[error("more than one result for container name {0}: use more digits of the ID")]
    Ambiguous(String),
    /// The name belongs to another container.
    #[error(
        "the container name \"{name}\" is already in use by {id}; remove that container first, \
         choose another name, or use --replace"
    )]
    NameInUse {
        /// The name.
        name: String,
        /// Whose it is.
        id: String,
    },
    /// No pod has this name or id.
    #[error("no pod with name or ID {0} found: no such pod")]
    NoSuchPod(String),
    /// The name belongs to a pod.
    #[error(
        "name \"{name}\" is in use: pod {id} already exists; remove that pod first (kelp pod rm), or choose \
         another name"
    )]
    NameOfPod {
        /// The name.
        name: String,
        /// Whose it is.
        id: String,
    },
    /// A name that is not `[a-zA-Z0-9][a-zA-Z0-9_.-]*`.
    #[error("names must match [a-zA-Z0-9][a-zA-Z0-9_.-]*: invalid name \"{0}\"")]
    InvalidName(String),
    /// A directory that only this user may enter is open to others.
    #[error("{path} belongs to somebody else or is open to others: {hint}")]
    Insecure {
        /// The directory.
        path: String,
        /// What to do.
        hint: String,
    },
    /// Somebody works on the container, and was waited for long enough.
    #[error("another kelp command works on the container: try again when it has ended")]
    Busy,
    /// Any other failed operation.
    #[error("{what}")]
    Io {
        /// The operation and its object.
        what: String,
        /// The cause.
        source: io::Error,
    },
    /// A record's file that can't be read as what it should be.
    #[error("read {what}")]
    Json {
        /// The file.
        what: String,
        /// The cause.
        source: serde_json::Error,
    },
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io {
            what: what.into(),
            source,
        }
    }
}
