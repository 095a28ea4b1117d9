//! How a case ends.

use std::fmt::Debug;

/// Why a case ended early.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The runtime does not do what the section says.
    Fails(String),
    /// The machine or the runtime has no such feature, and need not have it.
    NotApplicable(String),
}

/// What a case, or a step of it, comes to.
pub(crate) type Outcome<T = ()> = Result<T, Stop>;

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Self::Fails(error.to_string())
    }
}

impl From<rustix::io::Errno> for Stop {
    fn from(error: rustix::io::Errno) -> Self {
        Self::Fails(error.to_string())
    }
}

impl From<serde_json::Error> for Stop {
    fn from(error: serde_json::Error) -> Self {
        Self::Fails(error.to_string())
    }
}

/// Ends the case: the runtime is wrong.
pub(crate) fn fails<T>(why: impl Into<String>) -> Outcome<T> {
    Err(Stop::Fails(why.into()))
}

/// Ends the case: it says nothing here.
pub(crate) fn not_applicable<T>(why: impl Into<String>) -> Outcome<T> {
    Err(Stop::NotApplicable(why.into()))
}

/// Asserts equality.
#[allow(
    clippy::needless_pass_by_value,
    reason = "literals read better without a reference"
)]
pub(crate) fn same<A: PartialEq<B> + Debug, B: Debug>(
    what: &str,
    found: A,
    expected: B,
) -> Outcome {
    if found == expected {
        return Ok(());
    }
    fails(format!("{what}: {found:?}, expected {expected:?}"))
}

/// Asserts that something is so; `what` is said where it is not.
pub(crate) fn holds(is_so: bool, what: impl Into<String>) -> Outcome {
    if is_so { Ok(()) } else { fails(what) }
}

/// Asserts that a text has a part.
pub(crate) fn has(what: &str, text: &str, part: &str) -> Outcome {
    holds(
        text.contains(part),
        format!("{what}: no {part:?} in {text:?}"),
    )
}
