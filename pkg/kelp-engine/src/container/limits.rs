//! Limits as a request has them, and as the specification does.

use std::collections::BTreeMap;

use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxPids, LinuxResources};

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
    /// Files of the cgroup and their values.
    pub unified: BTreeMap<String, String>,
}

impl Limits {
    /// The specification's resources; none where nothing was asked for.
    pub fn to_oci(&self) -> Option<LinuxResources> {
        if *self == Self::default() {
            return None;
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
                .set_swap(self.memory_swap);
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
        if self.io_weight.is_some() {
            let mut io = LinuxBlockIo::default();
            io.set_weight(self.io_weight);
            resources.set_block_io(Some(io));
        }
        if !self.unified.is_empty() {
            resources.set_unified(Some(self.unified.clone().into_iter().collect()));
        }
        Some(resources)
    }
}
