//! Containers: one file a verb.

pub mod attach;
pub mod config;
pub mod create;

pub mod exec;
pub mod find;
mod names;
mod network;
pub mod remove;
pub mod signal;
pub mod start;

pub use config::{Config, CreateOptions};
