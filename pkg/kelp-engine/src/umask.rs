//! The umask: kelp's own, and the user's.
//!
//! What is made for containers has the modes that they need: a root directory that is open to its owner
//! alone has nobody else in it. The user's umask is for what the user's own commands make.

use std::sync::OnceLock;

use rustix::fs::Mode;
use rustix::process::umask;

static USERS: OnceLock<Mode> = OnceLock::new();

/// Takes the usual one, for this process and those that it starts.
pub(crate) fn take_usual() {
    USERS.get_or_init(|| umask(Mode::from_raw_mode(0o022)));
}

/// The mode of a file that the user's own command makes, where it says no other.
pub(crate) fn mode_of_file() -> u32 {
    let users = USERS.get().map_or(0o022, |mask| mask.as_raw_mode());
    0o666 & !users
}

/// Gives the user's back.
pub(crate) fn restore() {
    if let Some(users) = USERS.get() {
        umask(*users);
    }
}
