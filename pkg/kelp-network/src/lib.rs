//! Networks: pasta, ports, hosts and name resolution files.
//!
//! A network is a [`Mode`]. It is validated to a [`Plan`] before anything exists, the plan is set up
//! for a network namespace given by descriptor, and what runs for it is torn down with it. The
//! files for `/etc` come from pure functions.
//!
//! Invariants: a container reaches no service on the host's loopback unless that was asked for. A
//! port that was asked for is published or the start fails, with the fix in the error.
#![forbid(unsafe_code)]

pub mod error;
pub mod hosts;
pub mod loopback;
pub mod mode;
pub mod pasta;
pub mod ports;
pub mod program;
pub mod resolv;
pub mod text;

pub use error::Error;
pub use mode::{Mode, Network, Plan};
pub use pasta::PastaOptions;
pub use ports::{Protocol, PublishedPort};
