//! `--init`: process 1 as a reaper that forwards signals, with the program as its child.
//!
//! It is this very process, not another program: after the fork the child becomes the program and
//! the parent stays, undumpable, so that nothing inside can open the file it was executed from
//! through /proc/1/exe. Where its memory belongs to an outer user namespace
//! ([`crate::launch::User::Entered`]) the parent executes itself anew ([`run`]): whoever enters the
//! container has to look into its first process.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use kelp_sys::exec::{CStringArray, fexecve, may_execute};
use kelp_sys::signal::{SignalSet, set_mask};
use rustix::process::{
    DumpableBehavior, Pid, Signal, WaitOptions, set_dumpable_behavior,
    set_parent_process_death_signal,
};

use crate::error::{Failure, plain};

/// Forks: returns in the child, which goes on to the program; the parent reaps until the child has
/// ended and exits with its code. `terminal` says that standard input is the terminal of the session
/// that this process leads; the parent executes `program` to reap, if there is one.
pub(crate) fn fork_program(terminal: bool, program: Option<&OwnedFd>) -> Result<(), Failure> {
    if let Some(program) = program {
        may_execute(program.as_fd()).map_err(|error| {
            Failure::setup(format!(
                "--init in a pid namespace that is joined: the container's user can't execute kelp's own program: \
                 let others execute it (chmod o+x): {}",
                plain(&error)
            ))
        })?;
    }
    let failed = |error| Failure::setup(format!("fork the program: {error}"));
    // Before the fork: a SIGCHLD that is not blocked is discarded, and the child may end at once.
    let signals = kelp_sys::signal::wait_set().map_err(failed)?;
    let parent = |child| {
        if let Some(program) = program {
            become_reaper(program, child);
        }
        reap(child, &signals)
    };
    kelp_sys::clone::fork_and(parent).map_err(failed)?;
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

/// Executes `kelp internal reap`; returns only if a seccomp filter, say, does not let it. The signals stay blocked.
fn become_reaper(program: &OwnedFd, child: Pid) {
    let number = child.as_raw_nonzero().to_string();
    let words = ["kelp", "internal", "reap", &number].map(CString::new);
    let Ok(words) = words.into_iter().collect::<Result<_, _>>() else {
        return;
    };
    let argv = CStringArray::new(words);
    let _ = fexecve(program.as_fd(), &argv, &CStringArray::new(Vec::new()));
}

/// `kelp internal reap`: reaps until the child of this number has ended; its exit code.
pub fn run(child: &str) -> i32 {
    let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
    // After the execution of a descriptor it is the descriptor's number.
    let _ = rustix::thread::set_name(c"kelp");
    let child = child.parse().ok().and_then(Pid::from_raw);
    match (child, kelp_sys::signal::wait_set()) {
        (Some(child), Ok(signals)) => reap(child, &signals),
        _ => 125,
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
