//! What is wrong with an argument.

use std::fmt;

/// A value that can't be understood: one line, with the forms that can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(String);

impl Error {
    /// `invalid KIND "TEXT": HINT`; the text is quoted so that it stays on the line.
    pub(crate) fn invalid(kind: &str, text: &str, hint: impl fmt::Display) -> Self {
        Self(format!("invalid {kind} {text:?}: {hint}"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Error {}
