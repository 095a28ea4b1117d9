//! Go's text/template over JSON values, as far as --format needs it.
//!
//! A template is parsed once to a tree and executed for each row. Values are those of serde_json; an
//! object's fields are a struct's fields, so a field that is not there is an error, as in podman; those
//! of a few well-known names (labels, annotations, networks) are maps, where it is no value.

mod constant;
mod execute;
mod functions;
mod lex;
mod parse;
mod printf;
mod value;

use std::fmt;

use serde_json::Value;

use parse::Tree;

/// What is wrong with a template, or with its values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error(String);

impl Error {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "template: {}", self.0)
    }
}

impl std::error::Error for Error {}

/// The text of a template with `\t` and `\n` between its actions made what they stand for.
pub(crate) fn unescape(text: &str) -> String {
    lex::unescape(text)
}

/// A parsed template.
#[derive(Clone, Debug)]
pub struct Template {
    tree: Tree,
}

impl Template {
    /// Parses the text of a template.
    pub fn parse(text: &str) -> Result<Self, Error> {
        Ok(Self {
            tree: parse::parse(text)?,
        })
    }

    /// The same for one from a command line, where `\t` and `\n` between the actions are a tab and a
    /// new line.
    pub(crate) fn parse_shell(text: &str) -> Result<Self, Error> {
        Self::parse(&unescape(text))
    }

    /// The text for a value.
    pub fn execute(&self, value: &Value) -> Result<String, Error> {
        execute::execute(&self.tree, value, false)
    }

    /// The text for a heading: `names` maps fields to their headings, and functions change nothing.
    pub(crate) fn execute_heading(&self, names: &Value) -> Result<String, Error> {
        execute::execute(&self.tree, names, true)
    }
}

#[cfg(test)]
mod tests;
