//! Why a network can't be had, and what to do about it.

use std::io;

/// An error of this crate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The request contradicts itself or the network it is for.
    #[error("{0}")]
    Invalid(String),
    /// Somebody else has the port.
    #[error(
        "port {address} ({protocol}) is in use: choose another with --publish, or stop what has it{hint}"
    )]
    PortInUse {
        /// The address and port on the host.
        address: String,
        /// `tcp` or `udp`.
        protocol: crate::Protocol,
        /// More about who has it, or nothing.
        hint: String,
    },
    /// The host lacks something; the text names it and the fix.
    #[error("{0}")]
    Unavailable(String),
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
