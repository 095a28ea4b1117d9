//! What goes wrong with images.

use std::io;

use crate::digest::Digest;
use crate::reference::ReferenceError;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No image, tag or blob answers to this name.
    #[error("{0}: no such image")]
    NotFound(String),
    /// An abbreviated id fits several images.
    #[error("{prefix} is ambiguous: {} images begin with it; give more digits", .matches.len())]
    Ambiguous {
        /// What was asked for.
        prefix: String,
        /// The ids that begin with it.
        matches: Vec<Digest>,
    },
    /// An image or a name can't be removed or moved as asked.
    #[error("{0}")]
    Conflict(String),
    /// Text that is no digest.
    #[error("{0:?} is not a digest: expected sha256: and 64 lower-case hex digits")]
    InvalidDigest(String),
    /// Content is not what its digest says.
    #[error("{what}: expected {expected}, received {actual}")]
    DigestMismatch {
        /// What was read.
        what: String,
        /// The digest it should have.
        expected: Digest,
        /// The digest it has.
        actual: Digest,
    },
    /// An archive is damaged, or tries what an archive must not.
    #[error("{0}")]
    Archive(String),
    /// An archive names an id that the user namespace has no mapping for.
    #[error(
        "{path}: owner {uid}:{gid} is outside of the id map: give a larger --uidmap and --gidmap if \
         those were given, else this user a larger range in /etc/subuid and /etc/subgid"
    )]
    UnmappedId {
        /// The archive's entry.
        path: String,
        /// Its user id.
        uid: u64,
        /// Its group id.
        gid: u64,
    },
    /// A document is not what its media type says.
    #[error("{what}")]
    Json {
        /// The document.
        what: String,
        /// The cause.
        source: serde_json::Error,
    },
    /// A name that is none.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The registry, or the configuration for it, refuses this user.
    #[error("{0}")]
    Denied(String),
    /// policy.json refuses an image.
    #[error("{0}")]
    Rejected(String),
    /// The registry does not have what was asked for.
    #[error("{0}")]
    NotInRegistry(String),
    /// The registry could not be reached, or failed.
    #[error("{0}")]
    Registry(String),
    /// Something given by the user or a registry makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// Any other failed operation.
    #[error("{what}")]
    Io {
        /// The operation and its object.
        what: String,
        /// The cause.
        source: io::Error,
    },
}

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Wraps an I/O or system call error with the operation and its object.
    pub fn io<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        move |source| Self::Io {
            what: what.into(),
            source: source.into(),
        }
    }

    /// Wraps a JSON error with the document's name.
    pub fn json(what: impl Into<String>) -> impl FnOnce(serde_json::Error) -> Self {
        move |source| Self::Json {
            what: what.into(),
            source,
        }
    }
}
