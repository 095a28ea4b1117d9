//! `--init`: process 1 as a reaper that forwards signals, with the program as its child.
//!
//! It is this very process, not another program: after the fork the child becomes the program and
//! the parent stays, undumpable, so that nothing inside can open the file it was executed from
//! through /proc/1/exe.

use kelp_sys::signal::{SignalSet, set_mask};
use rustix::process::{Pid, Signal, WaitOptions, set_parent_process_death_signal};

use crate::error::Failure;

/// Forks: returns in the child, which goes on to the program; the parent reaps until the child has
/// ended and exits with its code. `terminal` says that standard input is the terminal of the session
/// that this process leads.
pub(crate) fn fork_program(terminal: bool) -> Result<(), Failure> {
    let failed = |error| Failure::setup(format!("fork the program: {error}"));
    // Before the fork: a SIGCHLD that is not blocked is discarded, and the child may end at once.
    let signals = kelp_sys::signal::wait_set().map_err(failed)?;
    kelp_sys::clone::fork_and(|child| reap(child, &signals)).map_err(failed)?;
    // In the host's pid namespace nothing else ends it with process 1.
    let _ = set_parent_process_death_signal(Some(Signal::KILL));
    lead_group(terminal);
    set_mask(&SignalSet::empty());
    Ok(())
}

/// Gives the program a process group of its own, and the terminal to that: what is typed is for the
/// program alone. Otherwise the reaper, which passes signals on, would get and pass on what the
/// program has got already.
fn lead_group(terminal: bool) {
    let moved = rustix::process::setpgid(None, None);
    if terminal && moved.is_ok() {
        // Done from the background, which SIGTTOU would stop if it were not blocked (tcsetpgrp(3)).
        let own = rustix::process::getpid();
        let _ = rustix::termios::tcsetpgrp(rustix::stdio::stdin(), own);
    }
}

fn reap(child: Pid, signals: &SignalSet) -> i32 {
    // Everything that the program need not see of kelp is let go.
    let _ = kelp_sys::fd::close_but(0, &[]);
    loop {
        match kelp_sys::signal::wait(signals) {
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
