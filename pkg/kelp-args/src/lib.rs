//! Values of command line arguments: strict parsers to typed structs.
//!
//! Pure, one file a kind of value. An error is one line that names the value and the accepted form.
#![forbid(unsafe_code)]

pub mod add_host;
pub mod change;
pub mod detach_keys;
pub mod device;
pub mod device_rate;
pub mod env;
mod error;
pub mod id_mapping;
pub mod log_option;
pub mod log_tag;
pub mod mount;
pub mod names;
pub mod namespace;
mod path;
pub mod port;
pub mod pull;
pub mod restart;
mod scalar;
pub mod secret;
pub mod security;
pub mod signal;
pub mod size;
pub mod stop_timeout;
pub mod sysctl;
pub mod ulimit;
pub mod volumes_from;

pub use add_host::AddHost;
pub use change::Change;
pub use detach_keys::DetachKeys;
pub use device::Device;
pub use device_rate::DeviceRate;
pub use error::Error;
pub use id_mapping::IdMapping;
pub use log_option::LogOption;
pub use log_tag::LogTag;
pub use pull::PullPolicy;
pub use restart::RestartPolicy;
pub use scalar::boolean;
pub use secret::{Secret, SecretKind};
pub use security::SecurityOption;
pub use signal::Signal;
pub use stop_timeout::StopTimeout;
pub use sysctl::Sysctl;
pub use volumes_from::VolumesFrom;

#[cfg(test)]
mod tests;
