//! User namespaces: subordinate ids, id maps, making a namespace and entering one.
//!
//! Invariant: a process of kelp's inside a user namespace is always a fresh exec after setns(2), so
//! that its memory belongs to that namespace and nothing of the outer one shows in it.
#![forbid(unsafe_code)]

pub mod error;
pub mod map;
pub mod namespace;
pub mod own;
pub mod shared;
pub mod subid;

pub use error::Error;
pub use map::{IdMap, IdMapping};
pub use namespace::{UserNamespace, Writing};
