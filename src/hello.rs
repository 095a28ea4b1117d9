//! The program of the embedded image: it tells what was set up around it.
//!
//! It runs inside a container, so everything it says is read from there: what a person sees is what
//! the kernel shows to a process of theirs.

use std::fmt::Write as _;
use std::fs;
use std::io::{self, Write};

/// Prints the report; the exit code.
pub fn run() -> i32 {
    match io::stdout().write_all(report().as_bytes()) {
        Ok(()) => 0,
        Err(_) => 1,
    }
}

fn report() -> String {
    let rows = [
        ("user map", user_map()),
        ("namespaces", namespaces()),
        ("root", root()),
        ("cgroup", cgroup()),
        ("network", network()),
        (
            "capabilities",
            status("CapEff").map_or_else(unknown, |set| capabilities(&set)),
        ),
        ("seccomp", seccomp()),
    ];
    let mut text = String::from(
        "Hello from a container that kelp made for you, with no root and no daemon.\n\n",
    );
    for (name, value) in rows {
        let _ = writeln!(text, "  {name:<14}{value}");
    }
    text.push_str(
        "\nTry next:\n  kelp run -it --rm debian bash\n  kelp doctor      what this machine \
         offers, and what it lacks\n",
    );
    text
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

/// `uid 0 is 1000 outside, 1-65536 are 100000-165535`
fn user_map() -> String {
    let text = read("/proc/self/uid_map");
    let lines: Vec<_> = text
        .lines()
        .filter_map(|line| {
            let numbers: Vec<u64> = line.split_whitespace().flat_map(str::parse).collect();
            let [inside, outside, size] = numbers[..] else {
                return None;
            };
            Some(if size == 1 {
                format!("uid {inside} is {outside} outside")
            } else {
                format!(
                    "{inside}-{} are {outside}-{}",
                    inside + size - 1,
                    outside + size - 1
                )
            })
        })
        .collect();
    if lines.is_empty() {
        unknown()
    } else {
        lines.join(", ")
    }
}

fn namespaces() -> String {
    let pid = if std::process::id() == 1 {
        "this is process 1 of its own".to_owned()
    } else {
        format!("this is process {}", std::process::id())
    };
    let hostname = read("/proc/sys/kernel/hostname");
    format!("{pid}, on host {}", hostname.trim())
}

/// The file system of `/`, from mountinfo (proc_pid_mountinfo(5)).
fn root() -> String {
    let table = read("/proc/self/mountinfo");
    let Some(line) = table
        .lines()
        .find(|line| line.split(' ').nth(4) == Some("/"))
    else {
        return unknown();
    };
    let kind = line
        .split_once(" - ")
        .and_then(|(_, after)| after.split(' ').next())
        .unwrap_or("unknown");
    let count = table.lines().count();
    format!("{kind}, with {} mounts in it", count - 1)
}

fn cgroup() -> String {
    let text = read("/proc/self/cgroup");
    let Some(path) = text.lines().find_map(|line| line.strip_prefix("0::")) else {
        return "none".to_owned();
    };
    let controllers = read("/sys/fs/cgroup/cgroup.controllers");
    match controllers.trim() {
        "" => format!("{path}, no controller delegated"),
        list => format!("{path}, with {list}"),
    }
}

fn network() -> String {
    let names: Vec<_> = read("/proc/net/dev")
        .lines()
        .skip(2)
        .filter_map(|line| line.split_once(':'))
        .map(|(name, _)| name.trim().to_owned())
        .collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

fn status(field: &str) -> Option<String> {
    read("/proc/self/status").lines().find_map(|line| {
        line.strip_prefix(field)?
            .strip_prefix(':')
            .map(str::trim)
            .map(str::to_owned)
    })
}

fn capabilities(set: &str) -> String {
    let bits = u64::from_str_radix(set, 16).unwrap_or(0);
    format!("{} of {}", bits.count_ones(), last_capability() + 1)
}

fn last_capability() -> u32 {
    read("/proc/sys/kernel/cap_last_cap")
        .trim()
        .parse()
        .unwrap_or(40)
}

fn seccomp() -> String {
    match status("Seccomp").as_deref() {
        Some("2") => "filtered".to_owned(),
        Some("0") => "not filtered".to_owned(),
        _ => unknown(),
    }
}
