//! What a container uses, in the structure that runc gives it (its `types.Stats`).
//!
//! Units are runc's: nanoseconds and bytes; a limit that is none is the largest number. What the kernel keeps
//! no file of is left out, or zero where runc always has a number (cgroup-v2.rst, "Controllers").

use kelp_runtime::scheduling::list;
use serde_json::{Map, Value, json};

/// Reads a file of a container's cgroup.
pub(crate) type Read<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The whole structure. `files` are the names of those that there are.
pub(crate) fn usage(read: Read<'_>, files: &[String]) -> Value {
    let mut usage = json!({
        "cpu": processor(read),
        "cpuset": {
            "cpus": numbers(read("cpuset.cpus.effective")),
            "mems": numbers(read("cpuset.mems.effective")),
        },
        "memory": memory(read),
        "pids": {
            "current": number(read, "pids.current").unwrap_or(0),
            // Here none is zero.
            "limit": number(read, "pids.max").filter(|limit| *limit != u64::MAX).unwrap_or(0),
        },
        "blkio": devices(read),
        "hugetlb": huge_pages(read, files),
        "intel_rdt": {},
        "network_interfaces": null,
    });
    let rdma = ["current", "max"].map(|name| read(&format!("rdma.{name}")));
    if let [Some(current), Some(max)] = rdma {
        usage["rdma"] = json!({"rdma_current": handles(&current), "rdma_limit": handles(&max)});
    }
    usage
}

fn processor(read: Read<'_>) -> Value {
    let stat = pairs(&read("cpu.stat").unwrap_or_default());
    let count = |name: &str| stat.get(name).and_then(Value::as_u64).unwrap_or(0);
    let mut processor = json!({
        "usage": {
            "total": count("usage_usec") * 1000,
            "kernel": count("system_usec") * 1000,
            "user": count("user_usec") * 1000,
        },
        "throttling": {
            "periods": count("nr_periods"),
            "throttledPeriods": count("nr_throttled"),
            "throttledTime": count("throttled_usec") * 1000,
        },
    });
    add_pressure(&mut processor, read, "cpu.pressure");
    processor
}

fn memory(read: Read<'_>) -> Value {
    let raw = pairs(&read("memory.stat").unwrap_or_default());
    let count = |name: &str| raw.get(name).and_then(Value::as_u64).unwrap_or(0);
    let value = |name: &str| number(read, name).unwrap_or(0);
    let entry = |usage: u64, limit: u64, max: u64, failures: u64| json!({"usage": usage, "limit": limit, "max": max, "failcnt": failures});
    let events = pairs(&read("memory.events").unwrap_or_default());
    let failures = events.get("max").and_then(Value::as_u64).unwrap_or(0);
    let (current, limit) = (value("memory.current"), value("memory.max"));
    // In runc's structure memory and swap are counted together, as cgroup v1 did.
    let swap = entry(
        current + value("memory.swap.current"),
        limit.saturating_add(value("memory.swap.max")),
        0,
        0,
    );
    let mut memory = json!({
        "cache": count("file"),
        "usage": entry(current, limit, value("memory.peak"), failures),
        "swap": swap,
        "kernel": entry(count("kernel"), u64::MAX, 0, 0),
        "kernelTCP": entry(count("sock"), u64::MAX, 0, 0),
        "event_count": events,
        "raw": raw,
    });
    add_pressure(&mut memory, read, "memory.pressure");
    memory
}

fn devices(read: Read<'_>) -> Value {
    let (mut bytes, mut operations) = (Vec::new(), Vec::new());
    for line in read("io.stat").unwrap_or_default().lines() {
        let mut words = line.split_ascii_whitespace();
        let device = words.next().and_then(|word| word.split_once(':'));
        let device = device.and_then(|(major, minor)| {
            Some((major.parse::<u64>().ok()?, minor.parse::<u64>().ok()?))
        });
        let Some((major, minor)) = device else {
            continue;
        };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let (list, operation) = match key {
                "rbytes" => (&mut bytes, "Read"),
                "wbytes" => (&mut bytes, "Write"),
                "dbytes" => (&mut bytes, "Discard"),
                "rios" => (&mut operations, "Read"),
                "wios" => (&mut operations, "Write"),
                "dios" => (&mut operations, "Discard"),
                _ => continue,
            };
            let value: u64 = value.parse().unwrap_or(0);
            list.push(json!({"major": major, "minor": minor, "op": operation, "value": value}));
        }
    }
    let mut devices = json!({
        "ioServiceBytesRecursive": bytes,
        "ioServicedRecursive": operations,
    });
    add_pressure(&mut devices, read, "io.pressure");
    devices
}

/// `hugetlb.SIZE.current`, for each size that the machine has.
fn huge_pages(read: Read<'_>, files: &[String]) -> Value {
    let mut sizes = Map::new();
    let middle = |file: &String| {
        let size = file.strip_prefix("hugetlb.")?.strip_suffix(".current")?;
        (!size.contains('.')).then(|| size.to_owned())
    };
    for size in files.iter().filter_map(middle) {
        let events = pairs(&read(&format!("hugetlb.{size}.events")).unwrap_or_default());
        let entry = json!({
            "usage": number(read, &format!("hugetlb.{size}.current")).unwrap_or(0),
            "failcnt": events.get("max").cloned().unwrap_or_else(|| json!(0)),
        });
        sizes.insert(size, entry);
    }
    sizes.into()
}

/// `DEVICE hca_handle=N hca_object=N`, a line each.
fn handles(text: &str) -> Vec<Value> {
    let lines = text.lines().filter_map(|line| {
        let (device, rest) = line.split_once(' ')?;
        let value = |key: &str| {
            let mut words = rest.split_ascii_whitespace();
            let word = words.find_map(|word| word.strip_prefix(key)?.strip_prefix('='))?;
            Some(limit(word))
        };
        Some(json!({
            "device": device,
            "hca_handles": value("hca_handle")?,
            "hca_objects": value("hca_object")?,
        }))
    });
    lines.collect()
}

/// `some avg10=0.12 avg60=0.00 avg300=0.00 total=4`, then the same of `full` (psi.rst).
fn add_pressure(of: &mut Value, read: Read<'_>, file: &str) {
    let text = read(file).unwrap_or_default();
    let mut kinds = Map::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(kind) = words.next() else { continue };
        let mut values = Map::new();
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let value = match key {
                "total" => json!(value.parse::<u64>().unwrap_or(0)),
                _ => json!(value.parse::<f64>().unwrap_or(0.0)),
            };
            values.insert(key.to_owned(), value);
        }
        kinds.insert(kind.to_owned(), values.into());
    }
    if !kinds.is_empty() {
        of["psi"] = kinds.into();
    }
}

/// Lines of a word and a number.
pub(crate) fn pairs(text: &str) -> Map<String, Value> {
    let pairs = text.lines().filter_map(|line| {
        let (name, value) = line.split_once(' ')?;
        Some((name.to_owned(), json!(value.trim().parse::<u64>().ok()?)))
    });
    pairs.collect()
}

fn number(read: Read<'_>, file: &str) -> Option<u64> {
    read(file).map(|text| limit(text.trim()))
}

fn limit(text: &str) -> u64 {
    match text {
        "max" => u64::MAX,
        text => text.parse().unwrap_or(0),
    }
}

fn numbers(text: Option<String>) -> Vec<usize> {
    let text = text.unwrap_or_default();
    list(text.trim(), 1 << 16).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILES: &[(&str, &str)] = &[
        (
            "cpu.stat",
            "usage_usec 3\nuser_usec 2\nsystem_usec 1\nnr_periods 5\nnr_throttled 4\nthrottled_usec 6\n",
        ),
        (
            "cpu.pressure",
            "some avg10=1.25 avg60=0.50 avg300=0.00 total=77\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=0\n",
        ),
        ("memory.current", "4096\n"),
        ("memory.max", "8192\n"),
        ("memory.peak", "5000\n"),
        ("memory.swap.current", "100\n"),
        ("memory.swap.max", "max\n"),
        ("memory.stat", "anon 1000\nfile 2000\nkernel 300\nsock 4\n"),
        (
            "memory.events",
            "low 0\nhigh 1\nmax 2\noom 3\noom_kill 4\noom_group_kill 0\n",
        ),
        ("pids.current", "7\n"),
        ("pids.max", "max\n"),
        ("cpuset.cpus.effective", "0-1,3\n"),
        (
            "io.stat",
            "254:0 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n7:1 \n",
        ),
        ("hugetlb.2MB.current", "2097152\n"),
        ("hugetlb.2MB.rsvd.current", "9\n"),
        ("hugetlb.2MB.events", "max 3\n"),
        ("rdma.current", "mlx4_0 hca_handle=2 hca_object=20\n"),
        ("rdma.max", "mlx4_0 hca_handle=3 hca_object=max\n"),
    ];

    fn of(files: &[(&str, &str)]) -> Value {
        let read = |name: &str| {
            let file = files.iter().find(|(file, _)| *file == name)?;
            Some(file.1.to_owned())
        };
        let names: Vec<_> = files.iter().map(|(name, _)| (*name).to_owned()).collect();
        usage(&read, &names)
    }

    #[test]
    fn files_become_runcs_structure() {
        let usage = of(FILES);
        let most = u64::MAX;
        for (place, expected) in [
            (
                "/cpu/usage",
                json!({"total": 3000, "kernel": 1000, "user": 2000}),
            ),
            (
                "/cpu/throttling",
                json!({"periods": 5, "throttledPeriods": 4, "throttledTime": 6000}),
            ),
            (
                "/cpu/psi/some",
                json!({"avg10": 1.25, "avg60": 0.5, "avg300": 0.0, "total": 77}),
            ),
            (
                "/memory/usage",
                json!({"usage": 4096, "limit": 8192, "max": 5000, "failcnt": 2}),
            ),
            (
                "/memory/swap",
                json!({"usage": 4196, "limit": most, "max": 0, "failcnt": 0}),
            ),
            ("/memory/cache", json!(2000)),
            ("/memory/kernel/usage", json!(300)),
            ("/memory/raw/anon", json!(1000)),
            ("/memory/event_count/oom_kill", json!(4)),
            ("/pids", json!({"current": 7, "limit": 0})),
            ("/cpuset", json!({"cpus": [0, 1, 3], "mems": []})),
            (
                "/hugetlb",
                json!({"2MB": {"usage": 2_097_152, "failcnt": 3}}),
            ),
            (
                "/blkio/ioServiceBytesRecursive/1",
                json!({"major": 254, "minor": 0, "op": "Write", "value": 20}),
            ),
            (
                "/blkio/ioServicedRecursive/0",
                json!({"major": 254, "minor": 0, "op": "Read", "value": 1}),
            ),
            (
                "/rdma/rdma_limit/0",
                json!({"device": "mlx4_0", "hca_handles": 3, "hca_objects": most}),
            ),
        ] {
            assert_eq!(usage.pointer(place), Some(&expected), "{place}");
        }
        assert!(usage.pointer("/memory/psi").is_none());
    }

    #[test]
    fn without_files_there_are_zeroes_and_no_pressure() {
        let usage = of(&[]);
        assert_eq!(usage["cpu"]["usage"]["total"], 0);
        assert_eq!(usage["memory"]["raw"], json!({}));
        assert_eq!(usage["hugetlb"], json!({}));
        assert!(usage.get("rdma").is_none());
        assert!(usage["cpu"].get("psi").is_none());
    }
}
