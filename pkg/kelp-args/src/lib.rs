//! Values of command line arguments: strict parsers to typed structs.
//!
//! Pure, one file a kind of value. An error is one line that names the value and the accepted form.
#![forbid(unsafe_code)]

pub mod env;
pub mod mount;
pub mod namespace;
pub mod port;
pub mod size;
pub mod ulimit;
