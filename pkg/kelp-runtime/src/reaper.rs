//! `--init`: process 1 as a reaper that forwards signals, with the program as its child.
//!
//! It is this very process, not another program: after the fork the child becomes the program and
//! the parent stays, undumpable, so that nothing inside can open the file it was executed from
//! through /proc/1/exe.

use rustix::process::{Pid, WaitOptions};

use crate::error::Failure;

/// Forks: returns in the child, which goes on to the program; the parent reaps until the child has
/// ended and exits with its code.
pub(crate) fn fork_program() -> Result<(), Failure> {
    kelp_sys::clone::fork_and(|child| -> i32 { reap(child) })
        .map_err(|error| Failure::setup(format!("fork the program: {error}")))
}

fn reap(child: Pid) -> i32 {
    // Everything that the program need not see of kelp is let go.
    let _ = kelp_sys::fd::close_from(0);
    let Ok(signals) = kelp_sys::signal::wait_set() else {
        return 125;
    };
    loop {
        match kelp_sys::signal::wait(&signals) {
            Some(kelp_sys::signal::SIGCHLD) => {
                while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
                    if pid == child {
                        return match (status.exit_status(), status.terminating_signal()) {
                            (Some(code), _) => code,
                            (None, Some(signal)) => 128 + signal,
                            (None, None) => 125,
                        };
                    }
                }
            }
            Some(signal) => {
                let _ = kelp_sys::signal::kill(child, signal);
            }
            None => {}
        }
    }
}
