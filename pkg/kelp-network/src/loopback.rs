//! The loopback interface of a fresh network namespace.

use std::io;

/// Brings `lo` of the calling thread's network namespace up; with it come 127.0.0.1 and ::1.
///
/// Every kind of network needs it, `none` too. pasta does it by itself. Allocates nothing, so the
/// forked child that becomes a container's init may call it.
pub fn bring_up() -> io::Result<()> {
    kelp_sys::net::bring_up(c"lo")
}
