//! Whether a process is on its way out, before anybody can wait for it.

use std::io::ErrorKind;

use kelp_sys::stat::Stat;

/// Whether a process is on its way out, and not its first thread alone. What it takes along ends before it can be
/// waited for itself (pid_namespaces(7)).
pub(super) fn is_exiting(pid: u32) -> bool {
    let stat = match Stat::of(pid) {
        Ok(stat) => stat,
        Err(error) => return error.kind() == ErrorKind::NotFound,
    };
    let threads = stat.field::<u32>(20);
    let is_alone = stat.state() != Some('Z') || threads.is_none_or(|threads| threads < 2);
    is_alone && stat.is_exiting().unwrap_or(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_gone_or_a_zombie_is_on_its_way_out() {
        assert!(!is_exiting(std::process::id()));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        while !is_exiting(pid) {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert!(is_exiting(pid));
    }
}
