//! What to say where a file system is full.

use std::path::{Path, PathBuf};

use kelp_image::space::{amount, explanation, is_full};

use crate::{Engine, Error};

/// What is needed where nobody knows how much it is.
pub(crate) const SMALL: &str = "a name or a record takes at least 4 kB, an image as much as it has";

impl Engine {
    /// Says of an error that a full file system caused which one that is, what is left there and what it
    /// takes, unless that is said already; any other error as it is.
    ///
    /// The front end does this for the error that ends a command, and for each of one that goes on: what is not
    /// known by then is how much was to be written. Operations that know more, or write elsewhere, say so by
    /// [`explain_space`] first.
    pub fn explain_space(&self, error: Error) -> Error {
        explain_space(error, &self.paths.data, SMALL)
    }

    /// The same for what brings this many bytes here.
    pub(crate) fn explain_size(&self, error: Error, bytes: u64) -> Error {
        let need = format!(
            "what comes takes {}, and as much or more to extract",
            amount(bytes)
        );
        explain_space(error, &self.paths.data, &need)
    }
}

/// Says of an error that a full file system caused what is needed at a place.
pub(crate) fn explain_space(error: Error, place: &Path, need: &str) -> Error {
    if !is_full(&error) {
        return error;
    }
    match explanation(&error.line(), place, need) {
        Some(more) => error.explained(&more),
        None => error,
    }
}

/// The same for a file or a directory that is being written, of this many bytes.
pub(crate) fn explain_output(error: Error, output: &Path, bytes: u64) -> Error {
    // From where it is relative to, so that its file system is found.
    let place = std::path::absolute(output).unwrap_or_else(|_| PathBuf::from("/"));
    explain_space(
        error,
        &place,
        &format!("what is written takes {}", amount(bytes)),
    )
}
