//! What a container uses: the counters of its cgroup and of its network namespace.
//!
//! A number that the kernel does not keep is `None`, and never zero: without a controller there is no
//! file (cgroup-v2.rst, "Controllers").

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::cgroup::Cgroup;

/// The counters of a cgroup, as they are now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Statistics {
    /// Processor time.
    pub processor: Option<Duration>,
    /// The part of it that was spent in the kernel.
    pub kernel: Option<Duration>,
    /// Bytes of memory, without file pages that nobody has asked for lately: the kernel takes those
    /// back whenever memory is short.
    pub memory: Option<u64>,
    /// Bytes of memory that it may have: the least of its own limit and of those above it.
    pub memory_limit: Option<u64>,
    /// Tasks; where no controller counts them, those that are listed.
    pub tasks: Option<u64>,
    /// Bytes of devices that keep blocks.
    pub io: Option<Traffic>,
    /// How much of the last ten seconds its tasks waited for a processor.
    pub processor_pressure: Option<Pressure>,
    /// The same for memory.
    pub memory_pressure: Option<Pressure>,
    /// The same for devices.
    pub io_pressure: Option<Pressure>,
}

/// Bytes that came and went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Read, or received.
    pub input: u64,
    /// Written, or sent.
    pub output: u64,
}

/// Percent of the last ten seconds (psi.rst, `avg10`).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    /// In which at least one task waited.
    pub some: f64,
    /// In which all did.
    pub full: f64,
}

impl Cgroup {
    /// Its counters.
    pub fn statistics(&self) -> Statistics {
        let read = |name: &str| fs::read_to_string(self.counter(name)).ok();
        let stat = read("cpu.stat").unwrap_or_default();
        let time = |key| value(&stat, key).map(Duration::from_micros);
        let number = |name| read(name)?.trim().parse::<u64>().ok();
        let pressure = |name| pressure(&read(name)?);
        Statistics {
            processor: time("usage_usec"),
            kernel: time("system_usec"),
            memory: number("memory.current").map(|current| {
                let stat = read("memory.stat").unwrap_or_default();
                current.saturating_sub(value(&stat, "inactive_file").unwrap_or(0))
            }),
            memory_limit: self.memory_limit(),
            tasks: tasks(self.path()),
            io: read("io.stat").as_deref().map(devices),
            processor_pressure: pressure("cpu.pressure"),
            memory_pressure: pressure("memory.pressure"),
            io_pressure: pressure("io.pressure"),
        }
    }

    /// A limit above it holds as well.
    fn memory_limit(&self) -> Option<u64> {
        let limits = self.path().ancestors().filter_map(|path| {
            let text = fs::read_to_string(path.join("memory.max")).ok()?;
            text.trim().parse().ok()
        });
        limits.min()
    }
}

/// How many tasks are in a cgroup and below it; nothing of one that can't be read.
fn tasks(path: &Path) -> Option<u64> {
    if let Ok(text) = fs::read_to_string(path.join("pids.current")) {
        return text.trim().parse().ok();
    }
    let list = fs::read_to_string(path.join("cgroup.threads")).ok()?;
    let below = fs::read_dir(path).into_iter().flatten().flatten();
    let below = below.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let below = below.filter_map(|entry| tasks(&entry.path())).sum::<u64>();
    Some(list.lines().count() as u64 + below)
}

/// The bytes that the interfaces of a process's network namespace have received and sent, but for those
/// that it sent to itself.
pub fn network(pid: u32) -> Option<Traffic> {
    fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("net/dev"))
        .ok()
        .map(|text| interfaces(&text))
}

/// The number behind a word, in a file of such lines.
fn value(text: &str, key: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    lines.find(|(name, _)| *name == key)?.1.parse().ok()
}

/// `some avg10=0.12 avg60=…`, then the same of `full`, which a processor's has since Linux 5.13.
fn pressure(text: &str) -> Option<Pressure> {
    let average = |kind: &str| -> Option<f64> {
        let mut lines = text.lines().filter_map(|line| line.strip_prefix(kind));
        let mut words = lines.next()?.split_ascii_whitespace();
        words
            .find_map(|word| word.strip_prefix("avg10="))?
            .parse()
            .ok()
    };
    Some(Pressure {
        some: average("some ")?,
        full: average("full ").unwrap_or(0.0),
    })
}

/// `8:0 rbytes=1 wbytes=2 …`: a line each.
fn devices(text: &str) -> Traffic {
    let sum = |key: &str| {
        let words = text.split_ascii_whitespace();
        words
            .filter_map(|word| word.strip_prefix(key)?.parse::<u64>().ok())
            .sum()
    };
    Traffic {
        input: sum("rbytes="),
        output: sum("wbytes="),
    }
}

/// `eth0: BYTES PACKETS …`, eight numbers of what came and eight of what went (proc_pid_net(5)).
fn interfaces(text: &str) -> Traffic {
    let mut total = Traffic::default();
    for line in text.lines() {
        let Some((name, numbers)) = line.split_once(':') else {
            continue;
        };
        let numbers: Vec<u64> = numbers
            .split_ascii_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        if let (false, [input, _, _, _, _, _, _, _, output, ..]) =
            (name.trim() == "lo", numbers.as_slice())
        {
            total.input += input;
            total.output += output;
        }
    }
    total
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_from_their_lines() {
        let text = "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\n";
        assert_eq!(value(text, "usage_usec"), Some(1500));
        assert_eq!(value(text, "usec"), None);
        let text =
            "254:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n8:0 rbytes=1 wbytes=2\n";
        assert_eq!(
            devices(text),
            Traffic {
                input: 11,
                output: 22
            }
        );
        assert_eq!(devices(""), Traffic::default());
    }

    #[test]
    fn pressure_is_that_of_ten_seconds() {
        let text =
            "some avg10=1.25 avg60=2.00 avg300=3.00 total=4\nfull avg10=0.50 avg60=0.00 total=1\n";
        assert_eq!(
            pressure(text),
            Some(Pressure {
                some: 1.25,
                full: 0.5
            })
        );
        assert_eq!(pressure(""), None);
    }

    #[test]
    fn what_a_namespace_sends_itself_does_not_count() {
        let text = "Inter-|   Receive  |  Transmit\n face |bytes    packets|bytes    packets\n\
                    \x20   lo: 500 5 0 0 0 0 0 0 500 5 0 0 0 0 0 0\n\
                    \x20 eth0:1000 9 0 0 0 0 0 0 200 2 0 0 0 0 0 0\n\
                    \x20 eth1: 30 1 0 0 0 0 0 0 4 1 0 0 0 0 0 0\n";
        assert_eq!(
            interfaces(text),
            Traffic {
                input: 1030,
                output: 204
            }
        );
    }

    #[test]
    fn a_process_has_a_network() {
        assert!(network(std::process::id()).is_some());
        assert_eq!(network(u32::MAX), None);
    }
}
