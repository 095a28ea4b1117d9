//! Whether a container's first process hears a signal.

use std::fs;

/// What no program can do anything about.
const UNSTOPPABLE: [i32; 2] = [9, 19];

/// Whether the kernel drops this signal for a process: it is process 1 of its namespace and has no handler
/// (pid_namespaces(7)). One that is only beginning may have one later.
pub(crate) fn is_deaf(pid: u32, signal: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    says_deaf(&status, signal)
}

/// The same of a text of proc_pid_status(5).
fn says_deaf(status: &str, signal: i32) -> bool {
    let field = |name: &str| {
        let mut lines = status.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
    };
    let is_first = field("NSpid").is_some_and(|pids| pids.split_whitespace().last() == Some("1"));
    let caught = field("SigCgt").and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    let bit = u32::try_from(signal - 1)
        .ok()
        .and_then(|bit| 1_u64.checked_shl(bit));
    match (caught, bit) {
        (Some(caught), Some(bit)) if is_first && !UNSTOPPABLE.contains(&signal) => {
            caught & bit == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_1_without_a_handler_is_deaf() {
        let status = |pids: &str, caught: &str| {
            format!(
                "Name:\tx\nPid:\t70\nNSpid:\t{pids}\nSigIgn:\t0000000000000000\nSigCgt:\t{caught}\n"
            )
        };
        for (pids, caught, signal, deaf) in [
            ("70\t1", "0000000000000000", 15, true),
            ("70\t1", "0000000000004000", 15, false),
            ("70\t1", "0000000000004000", 2, true),
            ("70\t1", "0000000000000000", 9, false),
            ("70\t1", "8000000000000000", 64, false),
            ("70\t7", "0000000000000000", 15, false),
            ("70", "0000000000000000", 15, false),
        ] {
            assert_eq!(
                says_deaf(&status(pids, caught), signal),
                deaf,
                "{pids} {caught} {signal}"
            );
        }
        assert!(!says_deaf("", 15), "a process that is gone");
        assert!(!is_deaf(std::process::id(), 15));
    }
}
