//! What only a whole system can show: systemd as the user's manager, every cgroup controller, a
//! reboot and a power cut.
//!
//! tests/vm/run boots a virtual machine for these, and calls each phase in its turn; elsewhere they
//! are left out. The last phase boots an older kernel, and runs tests that are not here as well.

mod older;
mod power;
mod reboot;
mod services;
mod system;
mod systemd;

/// Whether this is no machine that may be rebooted, which is said then.
fn elsewhere() -> bool {
    let elsewhere = std::env::var_os("KELP_TEST_VM").is_none();
    if elsewhere {
        crate::skip::skip("a virtual machine that may be rebooted");
    }
    elsewhere
}
