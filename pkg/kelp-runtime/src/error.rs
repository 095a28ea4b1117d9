//! Errors of this crate: refused specifications, and steps of the init that failed.

use std::io;

/// Why a container's process could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The specification asks for what can't be.
    #[error("{0}")]
    Spec(String),
    /// The program to execute is not in the container: exit code 127.
    #[error("{0}: executable file not found in $PATH: no such file or directory")]
    ProgramNotFound(String),
    /// The program to execute can't be executed: exit code 126.
    #[error("{program}: {reason}")]
    ProgramNotExecutable {
        /// The program, as it was asked for.
        program: String,
        /// What the kernel says.
        reason: String,
    },
    /// The working directory is not in the container: exit code 127.
    #[error("{0}")]
    DirectoryNotFound(String),
    /// A step between the clone and the program failed.
    #[error("{0}")]
    Init(String),
    /// The container's root file system needs something that the host lacks.
    #[error("{what}")]
    Io {
        /// The operation and its object.
        what: String,
        /// The cause.
        source: io::Error,
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

/// A step of the init that failed, as it goes to the parent over the pipe.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    pub(crate) text: String,
}

/// What a [`Failure`] means for the exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    Setup = 1,
    NotFound = 2,
    NotExecutable = 3,
    NoDirectory = 4,
}

impl Failure {
    pub(crate) fn setup(text: impl Into<String>) -> Self {
        Self {
            kind: FailureKind::Setup,
            text: text.into(),
        }
    }

    /// One message: the kind's byte, then the text.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![self.kind as u8];
        bytes.extend_from_slice(self.text.as_bytes());
        bytes.truncate(4096);
        bytes
    }

    /// The parent's side of [`Failure::to_bytes`].
    pub(crate) fn to_error(bytes: &[u8], program: &str) -> Error {
        let text = String::from_utf8_lossy(bytes.get(1..).unwrap_or_default()).into_owned();
        match bytes.first() {
            Some(2) => Error::ProgramNotFound(program.to_owned()),
            Some(3) => Error::ProgramNotExecutable {
                program: program.to_owned(),
                reason: text,
            },
            Some(4) => Error::DirectoryNotFound(text),
            _ => Error::Init(text),
        }
    }
}

/// Adds the operation and its object to an error number.
pub(crate) trait Step<T> {
    /// `operation object: cause`
    fn step(self, what: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| {
            let error: io::Error = error.into();
            Failure::setup(format!("{}: {}", what(), plain(&error)))
        })
    }
}

/// An error's text without Rust's `(os error N)`.
pub(crate) fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_lowercase(),
        None => text,
    }
}
