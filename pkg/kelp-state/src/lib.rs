//! Container records, names, locks and the status machine.
//!
//! Invariants: a record is a directory of small files, each written under a temporary name and
//! renamed; a name is reserved by creating one symbolic link; whether a container's monitor lives
//! is told by the lock that it holds and by nothing else. No function here waits for a lock that
//! another container's command could be holding, but for the one on the names, which is held for a few
//! system calls.
#![forbid(unsafe_code)]

pub mod error;
pub mod events;
pub mod file;
pub mod health;
pub mod id;
pub mod liveness;
pub mod name;
pub mod paths;
pub mod pod;
pub mod record;
pub mod shown;
pub mod status;
pub mod trash;

pub use error::Error;
pub use health::{Health, HealthRecord};
pub use id::ContainerId;
pub use paths::Paths;
pub use record::{ExitRecord, Record, RunRecord};
pub use status::Status;
