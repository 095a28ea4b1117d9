//! System calls: one thin wrapper each, no policy.
//!
//! The only crate that may use `unsafe` and libc. What rustix wraps safely is used from rustix
//! itself; here stands the rest.
#![allow(unsafe_code)]

pub mod bpf;
pub mod clone;
pub mod exec;
pub mod fd;
pub mod lock;
pub mod mode;
pub mod mount_attr;
pub mod namespace;
pub mod net;
pub mod process;
pub mod scheduling;
pub mod seccomp;
pub mod signal;
pub mod spawn;
pub mod stat;
