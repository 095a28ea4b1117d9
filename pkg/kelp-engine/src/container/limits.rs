//! Limits as a request has them, and as the specification does.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};

use kelp_args::DeviceRate;
use kelp_runtime::resources::Setting;
use oci_spec::runtime::{
    LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources, LinuxThrottleDevice,
    LinuxThrottleDeviceBuilder, LinuxWeightDeviceBuilder,
};

use crate::Error;

/// Limits that were asked for; sizes in bytes, -1 for no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Memory at most.
    pub memory: Option<i64>,
    /// Memory that is kept from others.
    pub memory_reservation: Option<i64>,
    /// Memory and swap together at most.
    pub memory_swap: Option<i64>,
    /// The share of processor time.
    pub cpu_shares: Option<u64>,
    /// The quota's period in microseconds.
    pub cpu_period: Option<u64>,
    /// Processor time in each period in microseconds.
    pub cpu_quota: Option<i64>,
    /// Processors that may be used.
    pub cpuset_cpus: Option<String>,
    /// Memory nodes that may be used.
    pub cpuset_mems: Option<String>,
    /// Processes at most.
    pub pids: Option<i64>,
    /// The weight of I/O, from 10 to 1000.
    pub io_weight: Option<u16>,
    /// The weights of devices.
    pub device_weights: Vec<DeviceRate>,
    /// Bytes a second that are read from devices.
    pub read_bytes: Vec<DeviceRate>,
    /// Bytes a second that are written to devices.
    pub write_bytes: Vec<DeviceRate>,
    /// Readings a second from devices.
    pub read_operations: Vec<DeviceRate>,
    /// Writings a second to devices.
    pub write_operations: Vec<DeviceRate>,
    /// Files of the cgroup and their values.
    pub unified: BTreeMap<String, String>,
}

impl Limits {
    /// The specification's resources; none where nothing was asked for.
    pub fn to_oci(&self) -> Result<Option<LinuxResources>, Error> {
        if *self == Self::default() {
            return Ok(None);
        }
        let mut resources = LinuxResources::default();
        if self
            .memory
            .or(self.memory_reservation)
            .or(self.memory_swap)
            .is_some()
        {
            let mut memory = LinuxMemory::default();
            memory
                .set_limit(self.memory)
                .set_reservation(self.memory_reservation)
                .set_swap(self.memory_swap.or_else(|| {
                    let memory = self.memory?;
                    counts_swap().then(|| usual_swap(memory))
                }));
            resources.set_memory(Some(memory));
        }
        let mut cpu = LinuxCpu::default();
        cpu.set_shares(self.cpu_shares)
            .set_period(self.cpu_period)
            .set_quota(self.cpu_quota)
            .set_cpus(self.cpuset_cpus.clone())
            .set_mems(self.cpuset_mems.clone());
        if cpu != LinuxCpu::default() {
            resources.set_cpu(Some(cpu));
        }
        if let Some(limit) = self.pids {
            let mut pids = LinuxPids::default();
            pids.set_limit(limit);
            resources.set_pids(Some(pids));
        }
        let io = self.block_io()?;
        if io != LinuxBlockIo::default() {
            resources.set_block_io(Some(io));
        }
        if !self.unified.is_empty() {
            resources.set_unified(Some(self.unified.clone().into_iter().collect()));
        }
        Ok(Some(resources))
    }

    fn block_io(&self) -> Result<LinuxBlockIo, Error> {
        let mut io = LinuxBlockIo::default();
        io.set_weight(self.io_weight);
        let mut weights = Vec::new();
        for one in &self.device_weights {
            let (major, minor) = number(one)?;
            let built = LinuxWeightDeviceBuilder::default()
                .major(major)
                .minor(minor)
                .weight(one.rate as u16)
                .build();
            weights.push(built.map_err(|error| Error::invalid(error.to_string()))?);
        }
        if !weights.is_empty() {
            io.set_weight_device(Some(weights));
        }
        io.set_throttle_read_bps_device(throttles(&self.read_bytes)?)
            .set_throttle_write_bps_device(throttles(&self.write_bytes)?)
            .set_throttle_read_iops_device(throttles(&self.read_operations)?)
            .set_throttle_write_iops_device(throttles(&self.write_operations)?);
        Ok(io)
    }
}

/// Memory and swap together, where only memory was asked for: twice as much, as podman has it, or none
/// where that has no limit.
fn usual_swap(memory: i64) -> i64 {
    if memory > 0 {
        memory.saturating_mul(2)
    } else {
        -1
    }
}

/// Whether the kernel counts swap.
fn counts_swap() -> bool {
    fs::exists("/proc/swaps").unwrap_or(false)
        && !fs::read_to_string("/proc/cmdline").is_ok_and(|text| text.contains("swapaccount=0"))
}

/// The settings for `resources`.
pub(crate) fn settings(resources: &LinuxResources) -> Result<Vec<Setting>, Error> {
    if let Some(memory) = resources.memory()
        && memory.swap().is_some_and(|swap| swap >= 0)
        && memory.limit().is_none_or(|limit| limit <= 0)
    {
        return Err(Error::invalid(
            "--memory-swap counts memory and swap together: give --memory as well",
        ));
    }
    let mut list = kelp_runtime::resources::settings(resources)?;
    let memory = resources.memory().as_ref();
    let swap_is_usual = memory.is_some_and(|memory| {
        memory
            .limit()
            .is_some_and(|limit| memory.swap() == Some(usual_swap(limit)))
    });
    for setting in &mut list {
        if setting.file == "memory.swap.max" && swap_is_usual {
            "--memory".clone_into(&mut setting.option);
        }
    }
    Ok(list)
}

/// Of settings those that a new cgroup has to be given: that there is no limit need not be said.
pub(crate) fn of_new_cgroup(mut list: Vec<Setting>) -> Vec<Setting> {
    list.retain(|setting| !setting.is_usual());
    list
}

fn throttles(rates: &[DeviceRate]) -> Result<Option<Vec<LinuxThrottleDevice>>, Error> {
    let one = |rate: &DeviceRate| {
        let (major, minor) = number(rate)?;
        LinuxThrottleDeviceBuilder::default()
            .major(major)
            .minor(minor)
            .rate(rate.rate)
            .build()
            .map_err(|error| Error::invalid(error.to_string()))
    };
    let list: Vec<_> = rates.iter().map(one).collect::<Result<_, _>>()?;
    Ok((!list.is_empty()).then_some(list))
}

/// The kernel's number of a device: only those that keep blocks have limits.
fn number(rate: &DeviceRate) -> Result<(i64, i64), Error> {
    let shown = rate.device.display();
    let metadata = rate
        .device
        .metadata()
        .map_err(Error::io(format!("find the device {shown}")))?;
    if !metadata.file_type().is_block_device() {
        return Err(Error::invalid(format!("{shown} is not a block device")));
    }
    let id = metadata.rdev();
    let (major, minor) = (rustix::fs::major(id), rustix::fs::minor(id));
    Ok((major.into(), minor.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(limits: &Limits) -> Vec<(String, String)> {
        let resources = limits.to_oci().unwrap();
        let list = resources.map_or(Ok(Vec::new()), |resources| settings(&resources));
        let list = of_new_cgroup(list.unwrap()).into_iter();
        list.map(|setting| (setting.file, setting.value)).collect()
    }

    fn pair(file: &str, value: &str) -> (String, String) {
        (file.to_owned(), value.to_owned())
    }

    #[test]
    fn memory_has_as_much_swap_beside_it() {
        let limits = Limits {
            memory: Some(1 << 20),
            ..Limits::default()
        };
        let list = files(&limits);
        assert!(list.contains(&pair("memory.max", "1048576")), "{list:?}");
        // As far as the kernel that runs this counts swap.
        if counts_swap() {
            assert!(
                list.contains(&pair("memory.swap.max", "1048576")),
                "{list:?}"
            );
        }
        let limits = Limits {
            memory_swap: Some(3 << 20),
            ..limits
        };
        assert!(files(&limits).contains(&pair("memory.swap.max", "2097152")));
        let alone = Limits {
            memory_swap: Some(3 << 20),
            ..Limits::default()
        };
        assert!(settings(&alone.to_oci().unwrap().unwrap()).is_err());
    }

    #[test]
    fn no_limit_needs_no_file() {
        let limits = Limits {
            memory: Some(-1),
            pids: Some(-1),
            cpu_quota: Some(-1),
            ..Limits::default()
        };
        assert_eq!(files(&limits), []);
    }
}
