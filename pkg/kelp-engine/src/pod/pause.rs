//! The program of an infra container: it keeps the namespaces of its pod, and does nothing else.
//!
//! In a pod with one process namespace it is process 1 of that, and so the parent of every process there whose own
//! has ended: it reaps them.

use kelp_sys::signal::{SIGCHLD, wait, wait_set};
use rustix::process::WaitOptions;

const SIGINT: i32 = 2;
const SIGTERM: i32 = 15;

/// Runs `kelp internal pause` until somebody asks it to end.
pub(crate) fn run() -> i32 {
    // One that is not blocked does not reach process 1 of a namespace, which has no handler for it
    // (pid_namespaces(7)).
    let Ok(signals) = wait_set() else {
        return 125;
    };
    loop {
        match wait(&signals) {
            Some(SIGINT | SIGTERM) => return 0,
            Some(SIGCHLD) => {
                while matches!(rustix::process::wait(WaitOptions::NOHANG), Ok(Some(_))) {}
            }
            _ => {}
        }
    }
}
