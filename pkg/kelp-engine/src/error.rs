//! Errors of the engine, and what kind each is.

use std::fmt;
use std::io;

use serde::{Deserialize, Serialize};

/// What an error means to a front end: the only input to its table of codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// The request can't be: a bad value, a combination that makes no sense.
    Invalid,
    /// What it names is not there.
    NotFound,
    /// What it names is in a state, or exists already, that forbids it.
    Conflict,
    /// The host lacks something, or kelp failed.
    Failed,
    /// The container's program is not there: exit code 127.
    ProgramNotFound,
    /// The container's program can't be executed: exit code 126.
    ProgramNotExecutable,
}

/// An error of the engine: what it means, one line, and its cause.
#[derive(Debug)]
pub struct Error {
    kind: Kind,
    text: String,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error without a cause.
    pub fn new(kind: Kind, text: impl Into<String>) -> Self {
        Self {
            kind,
            text: text.into(),
            source: None,
        }
    }

    /// A bad request.
    pub fn invalid(text: impl Into<String>) -> Self {
        Self::new(Kind::Invalid, text)
    }

    /// Something that is in the way.
    pub fn conflict(text: impl Into<String>) -> Self {
        Self::new(Kind::Conflict, text)
    }

    /// An operation that failed.
    pub fn io<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> Self {
        move |source| Self {
            kind: Kind::Failed,
            text: what.into(),
            source: Some(Box::new(source.into())),
        }
    }

    /// An operation that failed for another crate's error.
    pub(crate) fn caused_by(
        what: &str,
        error: impl std::error::Error + Send + Sync + 'static,
    ) -> Self {
        Self {
            kind: Kind::Failed,
            text: what.to_owned(),
            source: Some(Box::new(error)),
        }
    }

    /// What it means.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The error and its causes, in one line.
    pub fn line(&self) -> String {
        kelp_runtime::error::one_line(self)
    }

    /// The same error with more to say before its cause.
    pub(crate) fn explained(self, more: &str) -> Self {
        Self {
            text: format!("{}: {more}", self.text),
            ..self
        }
    }

    /// The same error with what it was in the way of before it.
    pub(crate) fn before(self, what: &str) -> Self {
        Self {
            text: format!("{what}: {}", self.text),
            ..self
        }
    }

    fn with(kind: Kind, error: impl std::error::Error + Send + Sync + 'static) -> Self {
        let text = error.to_string();
        Self {
            kind,
            text,
            source: Some(Box::new(error)),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source
            .as_ref()
            .map(|source| &**source as &(dyn std::error::Error + 'static))
    }
}

impl From<kelp_state::Error> for Error {
    fn from(error: kelp_state::Error) -> Self {
        use kelp_state::Error as E;
        let kind = match &error {
            E::NotFound(_) | E::NoSuchPod(_) => Kind::NotFound,
            E::NameInUse { .. } | E::NameOfPod { .. } | E::Busy => Kind::Conflict,
            E::Ambiguous(_) | E::InvalidName(_) => Kind::Invalid,
            E::Insecure { .. } | E::Io { .. } | E::Json { .. } => Kind::Failed,
        };
        Self::with(kind, error)
    }
}

impl From<kelp_userns::Error> for Error {
    fn from(error: kelp_userns::Error) -> Self {
        Self::with(Kind::Failed, error)
    }
}

impl From<kelp_runtime::Error> for Error {
    fn from(error: kelp_runtime::Error) -> Self {
        use kelp_runtime::Error as E;
        use kelp_runtime::foreign::Refusal;
        let kind = match &error {
            E::Spec(_) => Kind::Invalid,
            E::ProgramNotFound { .. } | E::DirectoryNotFound(_) => Kind::ProgramNotFound,
            E::ProgramNotExecutable { .. } => Kind::ProgramNotExecutable,
            E::Refused { refusal, .. } => match refusal {
                Refusal::Setup => Kind::Failed,
                Refusal::NotFound => Kind::ProgramNotFound,
                Refusal::NotExecutable => Kind::ProgramNotExecutable,
            },
            E::Hook(_) | E::Init(_) | E::UserNamespace(_) | E::Io { .. } => Kind::Failed,
        };
        Self::with(kind, error)
    }
}

impl From<kelp_monitor::Error> for Error {
    fn from(error: kelp_monitor::Error) -> Self {
        use kelp_monitor::protocol::FailureKind;
        let kind = match &error {
            kelp_monitor::Error::Failed { kind, .. } => match kind {
                FailureKind::Setup => Kind::Failed,
                FailureKind::NotExecutable => Kind::ProgramNotExecutable,
                FailureKind::NotFound => Kind::ProgramNotFound,
            },
            _ => Kind::Failed,
        };
        Self::with(kind, error)
    }
}

impl From<kelp_image::Error> for Error {
    fn from(error: kelp_image::Error) -> Self {
        use kelp_image::Error as E;
        let kind = match &error {
            E::NotFound(_) => Kind::NotFound,
            E::Conflict(_) => Kind::Conflict,
            E::Ambiguous { .. } | E::InvalidDigest(_) | E::Reference(_) | E::Invalid(_) => {
                Kind::Invalid
            }
            _ => Kind::Failed,
        };
        Self::with(kind, error)
    }
}

impl From<kelp_network::Error> for Error {
    fn from(error: kelp_network::Error) -> Self {
        let kind = match &error {
            kelp_network::Error::Invalid(_) => Kind::Invalid,
            _ => Kind::Failed,
        };
        Self::with(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let cause = || io::Error::from_raw_os_error(2);
        let error = Error::io("open /A")(cause());
        assert_eq!(error.line(), "open /A: no such file or directory");
        // An error of another crate's that has its cause in its own text.
        let told = Error::with(
            Kind::Failed,
            io::Error::other(format!("open /A: {}", cause())),
        );
        assert_eq!(told.line().matches("/A").count(), 1);
    }
}
