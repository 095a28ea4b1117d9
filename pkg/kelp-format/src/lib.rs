//! Output: Go templates, tables, sizes and times as people read them.
//!
//! Pure: text in, text out. Nothing here knows what a container is.
#![forbid(unsafe_code)]

pub mod filter;
pub mod render;
pub mod table;
pub mod template;
pub mod units;

pub use render::{Format, render};
