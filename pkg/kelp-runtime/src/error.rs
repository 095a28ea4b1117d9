//! Errors of this crate: refused specifications, and steps of the init that failed.

use std::io;

/// Why a container's process could not be started.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The specification asks for what can't be.
    #[error("{0}")]
    Spec(String),
    /// The program to execute is not in the container: exit code 127.
    #[error("{program}: {reason}: no such file or directory")]
    ProgramNotFound {
        /// The program, as it was asked for.
        program: String,
        /// Whether it is the program that is not there, or what it needs.
        reason: String,
    },
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
    /// A hook failed.
    #[error("{0}")]
    Hook(String),
    /// A step between the clone and the program failed.
    #[error("{0}")]
    Init(String),
    /// Another runtime refuses, in its own words.
    #[error("{text}")]
    Refused {
        /// What that means for the exit code.
        refusal: crate::foreign::Refusal,
        /// The words.
        text: String,
    },
    /// The user namespace could not be made.
    #[error(transparent)]
    UserNamespace(#[from] kelp_userns::Error),
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

/// An error and its causes in one line, each once and without Rust's `(os error N)`.
pub fn one_line(error: &dyn std::error::Error) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        source = cause.source();
        let text = cause.to_string();
        let short = without_number(&text);
        if !line.ends_with(&text) && !line.ends_with(&short) {
            line.push_str(": ");
            line.push_str(&short);
        }
    }
    line.replace('\n', " ")
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
    Hook = 5,
}

impl Failure {
    pub(crate) fn setup(text: impl Into<String>) -> Self {
        Self {
            kind: FailureKind::Setup,
            text: text.into(),
        }
    }

    /// Of a hook that has failed.
    pub(crate) fn hook(error: &Error) -> Self {
        Self {
            kind: FailureKind::Hook,
            text: error.to_string(),
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
            Some(2) => Error::ProgramNotFound {
                program: program.to_owned(),
                reason: if text.is_empty() {
                    "executable file not found in $PATH".to_owned()
                } else {
                    text
                },
            },
            Some(3) => Error::ProgramNotExecutable {
                program: program.to_owned(),
                reason: text,
            },
            Some(4) => Error::DirectoryNotFound(text),
            Some(5) => Error::Hook(text),
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
    without_number(&error.to_string())
}

fn without_number(text: &str) -> String {
    match text.find(" (os error") {
        Some(end) => text[..end].to_lowercase(),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_each_cause_once_and_without_its_number() {
        let missing = io::Error::from_raw_os_error(2);
        let error = Error::io("write /x")(missing);
        assert_eq!(one_line(&error), "write /x: no such file or directory");
        let error = Error::Init("it failed\nagain".to_owned());
        assert_eq!(one_line(&error), "it failed again");
    }
}
