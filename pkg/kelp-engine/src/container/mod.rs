//! Containers: one file a verb.

pub mod accounts;
mod attach;
pub mod commit;
pub mod config;
pub mod copy;
pub mod create;
mod deaf;
pub mod diff;
pub mod environment;
pub mod exec;
pub mod export;
pub mod find;
pub mod inspect;
pub mod limits;
pub mod list;
mod log;
pub mod logs;
mod making;
pub mod mount;
mod names;
mod network;
pub(crate) mod pack;
pub mod prune;
pub mod remove;
pub mod rename;
pub mod restart;
mod select;
pub mod signal;
pub mod start;
pub mod statistics;
pub(crate) mod system;
pub mod top;
pub mod update;
mod user_namespace;
pub mod wait;

pub use config::{Config, CreateOptions};
