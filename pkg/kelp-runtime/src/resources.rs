//! Limits as cgroup v2 files: the specification's `linux.resources`, and what it maps to.
//!
//! The specification was written for v1; the conversions are those that crun and runc agree on.

use oci_spec::runtime::LinuxResources;

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

    /// The controller that the file belongs to.
    pub fn controller(&self) -> &str {
        self.file.split('.').next().unwrap_or_default()
    }
}

/// The settings for `resources`.
pub fn settings(resources: &LinuxResources) -> Result<Vec<Setting>, Error> {
    let mut list = Vec::new();
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
        list.push(Setting::new(
            &format!("hugetlb.{}.max", huge.page_size()),
            &huge.limit(),
            "hugepage limit",
        ));
    }
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

fn cpu(resources: &LinuxResources, list: &mut Vec<Setting>) {
    let Some(cpu) = resources.cpu() else {
        return;
    };
    if let Some(shares) = cpu.shares().filter(|&shares| shares != 0) {
        // 2..262144 onto 1..10000.
        let weight = 1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142;
        list.push(Setting::new("cpu.weight", &weight, "--cpu-shares"));
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
            let value = format!(
                "{}:{} {key}={}",
                device.major(),
                device.minor(),
                device.rate()
            );
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
            (r#"{"cpu":{"shares":1024}}"#, "cpu.weight", "39"),
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
    fn a_unified_name_is_no_path() {
        let bad = serde_json::from_str(r#"{"unified":{"../x.y":"1"}}"#).unwrap();
        assert!(settings(&bad).is_err());
    }
}
