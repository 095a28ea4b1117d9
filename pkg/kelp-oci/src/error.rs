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
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            let mut cause_text = cause.to_string();
            if let Some(end) = cause_text.find(" (os error") {
                cause_text.truncate(end);
                cause_text.make_ascii_lowercase();
            }
            if !text.ends_with(&cause_text) {
                text.push_str(": ");
                text.push_str(&cause_text);
            }
            source = cause.source();
        }
        text.replace('\n', " ")
    }
}
