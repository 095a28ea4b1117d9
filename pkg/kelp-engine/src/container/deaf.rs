//! Whether a container's first process hears a signal.

use std::fs;
use std::path::Path;

/// What no program can do anything about.
const UNSTOPPABLE: [i32; 2] = [9, 19];

/// Calls that take signals without a handler: rt_sigtimedwait(2), also as 32-bit programs call it.
const WAITS: [&str; 4] = ["128", "137", "177", "421"];

/// Whether the kernel drops this signal for a process: it is process 1 of its namespace, has no handler
/// (pid_namespaces(7)), and none of its threads blocks it, as whoever reads signalfd(2) does, or waits for it by
/// sigwait(3). One that is only beginning may have a handler later. `false` where it can't be told.
pub(crate) fn is_deaf(pid: u32, signal: i32) -> bool {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    let mut threads = threads.flatten().map(|thread| thread.path());
    let mut some = false;
    threads.all(|thread| {
        some = true;
        is_deaf_thread(&thread, signal)
    }) && some
}

fn is_deaf_thread(thread: &Path, signal: i32) -> bool {
    let read = |name| fs::read_to_string(thread.join(name));
    let waits = || {
        let call = read("syscall").ok()?;
        let number = call.split_whitespace().next().unwrap_or_default();
        Some(WAITS.contains(&number))
    };
    // A thread that does not wait blocks the signal; one that begins to between two looks is seen by the third.
    waits() == Some(false)
        && read("status").is_ok_and(|status| says_deaf(&status, signal))
        && waits() == Some(false)
}

/// The same of a text of proc_pid_status(5).
fn says_deaf(status: &str, signal: i32) -> bool {
    let field = |name: &str| {
        let mut lines = status.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
    };
    let mask = |name| field(name).and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // A thread has a number of its own there, but its process is the first.
    let is_first = field("NStgid").is_some_and(|pids| pids.split_whitespace().last() == Some("1"));
    let bit = u32::try_from(signal - 1)
        .ok()
        .and_then(|bit| 1_u64.checked_shl(bit));
    match (mask("SigCgt"), mask("SigBlk"), bit) {
        (Some(caught), Some(blocked), Some(bit)) => {
            is_first && !UNSTOPPABLE.contains(&signal) && (caught | blocked) & bit == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_1_without_a_handler_is_deaf() {
        let status = |pids: &str, blocked: &str, caught: &str| {
            format!(
                "Name:\tx\nPid:\t70\nNStgid:\t{pids}\nNSpid:\t{pids}\nSigBlk:\t{blocked}\nSigCgt:\t{caught}\n"
            )
        };
        let (none, term) = ("0000000000000000", "0000000000004000");
        for (pids, blocked, caught, signal, deaf) in [
            ("70\t1", none, none, 15, true),
            ("70\t1", none, term, 15, false),
            ("70\t1", none, term, 2, true),
            ("70\t1", term, none, 15, false),
            ("70\t1", term, none, 2, true),
            ("70\t1", none, none, 9, false),
            ("70\t1", none, "8000000000000000", 64, false),
            ("70\t7", none, none, 15, false),
            ("70", none, none, 15, false),
        ] {
            assert_eq!(
                says_deaf(&status(pids, blocked, caught), signal),
                deaf,
                "{pids} {blocked} {caught} {signal}"
            );
        }
        assert!(!says_deaf("", 15), "a process that is gone");
        assert!(!is_deaf(std::process::id(), 15));
    }
}
