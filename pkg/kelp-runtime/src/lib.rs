//! From an OCI runtime specification to a process.
//!
//! Invariants: plan, then act: [`plan::Plan`] holds everything that can be known before the first
//! namespace exists, and the init only executes it. Paths of a container are resolved by descriptor
//! beneath its root. The process inside sees descriptors 0, 1, 2 and what was asked for.
#![forbid(unsafe_code)]

pub mod accounts;
pub mod capabilities;
pub mod cgroup;
mod chown;
pub mod console;
pub mod delegation;
pub mod device_filter;
mod device_nodes;
pub mod devices;
pub mod error;
pub mod exec;
mod filling;
pub mod foreign;
pub mod hooks;
mod idmap;
mod init;
mod inside;
mod joiner;
pub mod launch;
pub mod message;
pub mod mount_plan;
mod mounts;
mod namespace_plan;
pub mod net_devices;
mod netlink;
pub mod overlay;
pub mod plan;
mod process;
pub mod program;
pub mod reaper;
pub mod resctrl;
pub mod resources;
pub mod rootfd;
mod rootfs;
pub mod scheduling;
pub mod seccomp;
pub mod shown;
pub mod sockets;
mod source;
pub mod statistics;
pub mod stopped;
pub mod user;

pub use error::Error;

/// The version of the runtime specification that this implements.
pub const OCI_VERSION: &str = "1.3.0";
