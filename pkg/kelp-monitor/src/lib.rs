//! Watches one container: stdio, log, attach, exit record, clean-up.
//!
//! Invariant: the monitor is small. It is a fresh exec inside the container's user namespace, has
//! one thread and one poll loop, and sleeps unless something happens. Output is drained to its end
//! before the exit is published; the exit is published before the lock is released.
#![forbid(unsafe_code)]

pub mod attach;
mod door;
pub mod error;
mod finish;
mod foreign;
mod guard;
pub mod health;
mod input;
mod joined;
pub mod launch;
mod launch_file;
mod life;
pub mod log;
pub mod notify;
pub mod overlays;
pub mod place;
pub mod pod;
pub mod protocol;
pub mod restart;
pub mod role;
pub mod shown;
mod start;
mod stream;
mod watch;

pub use error::Error;
pub use launch::Launch;
