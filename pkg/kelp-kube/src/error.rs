//! What is wrong in a stream of documents, and where.

use std::fmt;

/// One thing that is wrong: `document 2 (Pod web), line 14, spec.containers[0].image: TEXT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// The document: its number from 1, and its kind and name as far as they are known; empty if it is about the
    /// stream.
    pub document: String,
    /// The line of the stream, from 1; 0 if there is none.
    pub line: usize,
    /// The field, such as `spec.containers[0].image`; empty if it is about the document.
    pub path: String,
    /// What is wrong, and what is meant.
    pub text: String,
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = (self.line > 0).then(|| format!("line {}", self.line));
        let parts = [&self.document, &line.unwrap_or_default(), &self.path];
        for (place, part) in parts
            .into_iter()
            .filter(|part| !part.is_empty())
            .enumerate()
        {
            let comma = if place == 0 { "" } else { ", " };
            write!(formatter, "{comma}{part}")?;
        }
        if parts.iter().any(|part| !part.is_empty()) {
            formatter.write_str(": ")?;
        }
        // An error is one line, whatever a document has.
        for part in self.text.split(['\n', '\r']) {
            formatter.write_str(part)?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}
