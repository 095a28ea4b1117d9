//! Limits as cgroup v2 files: the specification's `linux.resources`, and what it maps to.
//!
//! The specification was written for v1; the conversions are those that crun and runc agree on.

use std::fmt::Write;

use oci_spec::runtime::{LinuxCpu, LinuxNetwork, LinuxResources};

use crate::error::Error;

/// One file and its value, and the option that a person would know it by.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Setting {
    /// The file's name in the cgroup.
    pub file: String,
    /// What is written.
    pub value: String,
    /// The option it came from.
    pub option: String,
}

impl Setting {
    fn new(file: &str, value: &(impl ToString + ?Sized), option: &str) -> Self {
        Self {
            file: file.to_owned(),
            value: value.to_string(),
            option: option.to_owned(),
        }
    }

    /// Whether a new cgroup has it without being told, so that it takes no controller to have it in force.
    pub fn is_usual(&self) -> bool {
        let value = self.value.as_str();
        match self.file.as_str() {
            "memory.max" | "memory.swap.max" | "pids.max" => value == "max",
            "cpu.max" => value == "max 100000",
            "cpu.weight" => value == "100",
            "cpu.idle" | "cpu.max.burst" => value == "0",
            "io.max" => value.ends_with("ps=max"),
            file => file.starts_with("hugetlb.") && value == "max",
        }
    }

    /// The controller that the file belongs to.
    pub fn controller(&self) -> &str {
        self.file.split('.').next().unwrap_or_default()
    }
}

/// The settings for `resources`.
pub fn settings(resources: &LinuxResources) -> Result<Vec<Setting>, Error> {
    let mut list = Vec::new();
    refuse_old(resources)?;
    memory(resources, &mut list)?;
    cpu(resources, &mut list);
    if let Some(pids) = resources.pids() {
        list.push(Setting::new(
            "pids.max",
            &limit(pids.limit()),
            "--pids-limit",
        ));
    }
    io(resources, &mut list);
    for huge in resources.hugepage_limits().iter().flatten() {
        let size = huge.page_size();
        let value = limit(huge.limit());
        // What is reserved as well as what is in use, where the kernel counts both (Linux 5.7).
        for file in [
            format!("hugetlb.{size}.rsvd.max"),
            format!("hugetlb.{size}.max"),
        ] {
            list.push(Setting::new(&file, &value, "hugepage limit"));
        }
    }
    rdma(resources, &mut list);
    let mut unified: Vec<_> = resources.unified().iter().flatten().collect();
    unified.sort();
    for (file, value) in unified {
        if file.contains('/') || !file.contains('.') || file.starts_with('.') {
            return Err(Error::Spec(format!(
                "--cgroup-conf {file}: not a cgroup file"
            )));
        }
        list.push(Setting::new(file, value, "--cgroup-conf"));
    }
    Ok(list)
}

/// What only cgroup v1 has. It is refused: an explicit limit that is not in force would be none.
fn refuse_old(resources: &LinuxResources) -> Result<(), Error> {
    let memory = resources.memory().unwrap_or_default();
    let (cpu, network) = (resources.cpu().as_ref(), resources.network().as_ref());
    let is_set = |value: Option<i64>| value.is_some_and(|value| value > 0);
    let kernel = is_set(memory.kernel());
    for (asked, name) in [
        (kernel, "memory.kernel"),
        (is_set(memory.kernel_tcp()), "memory.kernelTCP"),
        // As a sign that nobody asks for it, docker writes -1 (2^64 - 1).
        (
            memory.swappiness().is_some_and(|it| it <= 200),
            "memory.swappiness",
        ),
        (
            memory.disable_oom_killer() == Some(true),
            "memory.disableOOMKiller",
        ),
        (
            is_set(cpu.and_then(LinuxCpu::realtime_runtime)),
            "cpu.realtimeRuntime",
        ),
        (
            cpu.and_then(LinuxCpu::realtime_period)
                .is_some_and(|period| period > 0),
            "cpu.realtimePeriod",
        ),
        (
            network
                .and_then(LinuxNetwork::class_id)
                .is_some_and(|id| id > 0),
            "network.classID",
        ),
        (
            network
                .and_then(|network| network.priorities().as_ref())
                .is_some_and(|it| !it.is_empty()),
            "network.priorities",
        ),
    ] {
        if asked {
            return Err(Error::Spec(format!(
                "linux.resources.{name}: cgroup v2 has no such limit: leave it out"
            )));
        }
    }
    Ok(())
}

/// Handles and objects of each device (cgroup-v2.rst, "RDMA Interface Files").
fn rdma(resources: &LinuxResources, list: &mut Vec<Setting>) {
    let mut devices: Vec<_> = resources.rdma().iter().flatten().collect();
    devices.sort_by_key(|(name, _)| *name);
    for (name, limits) in devices {
        let mut value = name.clone();
        let parts = [
            ("hca_handle", limits.hca_handles()),
            ("hca_object", limits.hca_objects()),
        ];
        for (key, number) in parts {
            if let Some(number) = number {
                let _ = write!(value, " {key}={number}");
            }
        }
        list.push(Setting::new("rdma.max", &value, "rdma limit"));
    }
}

/// `max` for no limit, which is -1 or (for pids) 0 in the specification.
fn limit(value: i64) -> String {
    if value <= 0 {
        return "max".to_owned();
    }
    value.to_string()
}

fn memory(resources: &LinuxResources, list: &mut Vec<Setting>) -> Result<(), Error> {
    let Some(memory) = resources.memory() else {
        return Ok(());
    };
    if let Some(swap) = memory.swap() {
        // v1 counts memory and swap together, v2 swap alone.
        let value = match memory.limit() {
            _ if swap < 0 => "max".to_owned(),
            Some(limit) if limit > 0 && swap >= limit => (swap - limit).to_string(),
            Some(limit) if limit > 0 => {
                return Err(Error::Spec(format!(
                    "--memory-swap {swap} is below --memory {limit}: it counts both together"
                )));
            }
            _ => swap.to_string(),
        };
        list.push(Setting::new("memory.swap.max", &value, "--memory-swap"));
    }
    if let Some(value) = memory.limit() {
        list.push(Setting::new("memory.max", &limit(value), "--memory"));
    }
    if let Some(value) = memory.reservation() {
        list.push(Setting::new(
            "memory.low",
            &limit(value),
            "--memory-reservation",
        ));
    }
    Ok(())
}

/// 2 to 262144 onto 1 to 10000 by a curve on which the defaults meet: 1024 becomes 100. As crun (1.24) and
/// runc (1.4) have it; the straight line that came before gave such a container 39.
fn weight(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        shares => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            10_f64.powf(exponent).ceil() as u64
        }
    }
}

fn cpu(resources: &LinuxResources, list: &mut Vec<Setting>) {
    let Some(cpu) = resources.cpu() else {
        return;
    };
    if let Some(shares) = cpu.shares().filter(|&shares| shares != 0) {
        list.push(Setting::new("cpu.weight", &weight(shares), "--cpu-shares"));
    }
    if cpu.quota().is_some() || cpu.period().is_some() {
        let quota = match cpu.quota() {
            Some(quota) if quota > 0 => quota.to_string(),
            _ => "max".to_owned(),
        };
        let period = cpu.period().unwrap_or(100_000);
        list.push(Setting::new(
            "cpu.max",
            &format!("{quota} {period}"),
            "--cpus",
        ));
    }
    if let Some(burst) = cpu.burst() {
        list.push(Setting::new("cpu.max.burst", &burst, "cpu burst"));
    }
    if let Some(cpus) = cpu.cpus() {
        list.push(Setting::new("cpuset.cpus", &cpus, "--cpuset-cpus"));
    }
    if let Some(mems) = cpu.mems() {
        list.push(Setting::new("cpuset.mems", &mems, "--cpuset-mems"));
    }
    if let Some(idle) = cpu.idle() {
        list.push(Setting::new("cpu.idle", &idle, "cpu idle"));
    }
}

fn io(resources: &LinuxResources, list: &mut Vec<Setting>) {
    let Some(io) = resources.block_io() else {
        return;
    };
    if let Some(weight) = io.weight().filter(|&weight| weight != 0) {
        // 10..1000 onto 1..10000.
        let weight = 1 + (u64::from(weight.clamp(10, 1000)) - 10) * 9999 / 990;
        list.push(Setting::new("io.weight", &weight, "--blkio-weight"));
    }
    for device in io.weight_device().iter().flatten() {
        if let Some(weight) = device.weight() {
            let weight = 1 + (u64::from(weight.clamp(10, 1000)) - 10) * 9999 / 990;
            let value = format!("{}:{} {weight}", device.major(), device.minor());
            list.push(Setting::new("io.weight", &value, "--blkio-weight-device"));
        }
    }
    let throttles = [
        (io.throttle_read_bps_device(), "rbps", "--device-read-bps"),
        (io.throttle_write_bps_device(), "wbps", "--device-write-bps"),
        (
            io.throttle_read_iops_device(),
            "riops",
            "--device-read-iops",
        ),
        (
            io.throttle_write_iops_device(),
            "wiops",
            "--device-write-iops",
        ),
    ];
    for (devices, key, option) in throttles {
        for device in devices.iter().flatten() {
            // A rate of nothing is no limit, as it is in podman.
            let rate = match device.rate() {
                0 => "max".to_owned(),
                rate => rate.to_string(),
            };
            let value = format!("{}:{} {key}={rate}", device.major(), device.minor());
            list.push(Setting::new("io.max", &value, option));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Vec<(String, String)> {
        settings(&serde_json::from_str(json).unwrap())
            .unwrap()
            .into_iter()
            .map(|setting| (setting.file, setting.value))
            .collect()
    }

    #[test]
    fn the_specification_becomes_files() {
        for (json, file, value) in [
            (r#"{"memory":{"limit":1048576}}"#, "memory.max", "1048576"),
            (r#"{"memory":{"limit":-1}}"#, "memory.max", "max"),
            (r#"{"pids":{"limit":100}}"#, "pids.max", "100"),
            (r#"{"pids":{"limit":-1}}"#, "pids.max", "max"),
            (r#"{"cpu":{"shares":1024}}"#, "cpu.weight", "100"),
            (r#"{"cpu":{"shares":2}}"#, "cpu.weight", "1"),
            (r#"{"cpu":{"shares":262144}}"#, "cpu.weight", "10000"),
            (r#"{"cpu":{"burst":500}}"#, "cpu.max.burst", "500"),
            (
                r#"{"hugepageLimits":[{"pageSize":"2MB","limit":9}]}"#,
                "hugetlb.2MB.rsvd.max",
                "9",
            ),
            (
                r#"{"rdma":{"mlx5_0":{"hcaHandles":3,"hcaObjects":4}}}"#,
                "rdma.max",
                "mlx5_0 hca_handle=3 hca_object=4",
            ),
            (r#"{"cpu":{"quota":50000}}"#, "cpu.max", "50000 100000"),
            (r#"{"cpu":{"cpus":"0-1"}}"#, "cpuset.cpus", "0-1"),
            (r#"{"blockIO":{"weight":1000}}"#, "io.weight", "10000"),
            (
                r#"{"blockIO":{"weightDevice":[{"major":8,"minor":0,"weight":1000}]}}"#,
                "io.weight",
                "8:0 10000",
            ),
            (
                r#"{"blockIO":{"throttleReadBpsDevice":[{"major":8,"minor":0,"rate":5}]}}"#,
                "io.max",
                "8:0 rbps=5",
            ),
            (r#"{"unified":{"memory.high":"1M"}}"#, "memory.high", "1M"),
        ] {
            assert!(
                of(json).contains(&(file.to_owned(), value.to_owned())),
                "{json}: {:?}",
                of(json)
            );
        }
    }

    #[test]
    fn swap_is_counted_apart() {
        let list = of(r#"{"memory":{"limit":100,"swap":150}}"#);
        assert_eq!(list[0], ("memory.swap.max".to_owned(), "50".to_owned()));
        let below = serde_json::from_str(r#"{"memory":{"limit":100,"swap":50}}"#).unwrap();
        assert!(settings(&below).is_err());
    }

    #[test]
    fn limits_that_only_v1_has_are_refused() {
        for (json, name) in [
            (r#"{"memory":{"swappiness":60}}"#, "memory.swappiness"),
            (
                r#"{"memory":{"disableOOMKiller":true}}"#,
                "memory.disableOOMKiller",
            ),
            (r#"{"cpu":{"realtimeRuntime":1}}"#, "cpu.realtimeRuntime"),
            (r#"{"network":{"classID":1}}"#, "network.classID"),
        ] {
            let error = settings(&serde_json::from_str(json).unwrap()).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("linux.resources.{name}: cgroup v2 has no such limit: leave it out")
            );
        }
        for json in [
            r#"{"memory":{"swappiness":18446744073709551615,"disableOOMKiller":false}}"#,
            r#"{"cpu":{"realtimeRuntime":0,"realtimePeriod":0}}"#,
        ] {
            settings(&serde_json::from_str(json).unwrap()).unwrap();
        }
    }

    #[test]
    fn a_unified_name_is_no_path() {
        let bad = serde_json::from_str(r#"{"unified":{"../x.y":"1"}}"#).unwrap();
        assert!(settings(&bad).is_err());
    }
}
