//! Flags about limits that can be changed later: those of `update` as well.

use anyhow::bail;
use kelp_args::{DeviceRate, device_rate, size, ulimit};
use kelp_engine::container::config::Limits;
use rustix::process::{Resource, getrlimit};

use super::each;

/// The flags.
#[derive(clap::Args, Debug)]
pub struct LimitFlags {
    /// Memory at most
    #[arg(short, long, value_name = "SIZE")]
    memory: Option<String>,
    /// Memory that is kept from others when it is short
    #[arg(long, value_name = "SIZE")]
    memory_reservation: Option<String>,
    /// Memory and swap together at most; -1 for no limit of swap
    #[arg(long, value_name = "SIZE")]
    memory_swap: Option<String>,
    /// Processors at most, such as 1.5
    #[arg(long, value_name = "NUMBER")]
    cpus: Option<f64>,
    /// The share of processor time, where 1024 is usual
    #[arg(short, long, value_name = "SHARES")]
    cpu_shares: Option<u64>,
    /// The period of --cpu-quota in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<u64>,
    /// Processor time in each period, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_quota: Option<i64>,
    /// Processors that may be used, such as 0-2,4
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// Memory nodes that may be used
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// Processes at most; -1 for no limit
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// The weight of I/O, from 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    blkio_weight: Option<u16>,
    /// The weight of I/O on a device: PATH:WEIGHT
    #[arg(long, value_name = "PATH:WEIGHT", value_parser = device_rate::weight)]
    blkio_weight_device: Vec<DeviceRate>,
    /// Bytes a second that are read from a device: PATH:RATE
    #[arg(long, value_name = "PATH:RATE", value_parser = device_rate::bytes)]
    device_read_bps: Vec<DeviceRate>,
    /// Bytes a second that are written to a device: PATH:RATE
    #[arg(long, value_name = "PATH:RATE", value_parser = device_rate::bytes)]
    device_write_bps: Vec<DeviceRate>,
    /// Readings a second from a device: PATH:RATE
    #[arg(long, value_name = "PATH:RATE", value_parser = device_rate::operations)]
    device_read_iops: Vec<DeviceRate>,
    /// Writings a second to a device: PATH:RATE
    #[arg(long, value_name = "PATH:RATE", value_parser = device_rate::operations)]
    device_write_iops: Vec<DeviceRate>,
    /// A limit of each process: NAME=SOFT[:HARD], or host for those that kelp has
    #[arg(long)]
    ulimit: Vec<String>,
}

/// The limits that this process has.
fn host_ulimits() -> Vec<ulimit::Ulimit> {
    let all = [
        ("as", Resource::As),
        ("core", Resource::Core),
        ("cpu", Resource::Cpu),
        ("data", Resource::Data),
        ("fsize", Resource::Fsize),
        ("locks", Resource::Locks),
        ("memlock", Resource::Memlock),
        ("msgqueue", Resource::Msgqueue),
        ("nice", Resource::Nice),
        ("nofile", Resource::Nofile),
        ("nproc", Resource::Nproc),
        ("rss", Resource::Rss),
        ("rtprio", Resource::Rtprio),
        ("rttime", Resource::Rttime),
        ("sigpending", Resource::Sigpending),
        ("stack", Resource::Stack),
    ];
    let value = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
    all.into_iter()
        .map(|(name, resource)| {
            let limit = getrlimit(resource);
            (name.to_owned(), value(limit.current), value(limit.maximum))
        })
        .collect()
}

impl LimitFlags {
    /// Limits of processes.
    pub fn of_processes(&self) -> anyhow::Result<Vec<ulimit::Ulimit>> {
        if !self.ulimit.iter().any(|text| text == "host") {
            return each(&self.ulimit, ulimit::parse);
        }
        if self.ulimit.len() > 1 {
            bail!("--ulimit host leaves no room for other limits");
        }
        Ok(host_ulimits())
    }

    /// Limits of the cgroup.
    pub fn of_cgroup(&self) -> anyhow::Result<Limits> {
        if self.cpus.is_some() && (self.cpu_quota.is_some() || self.cpu_period.is_some()) {
            bail!("--cpus cannot be used together with --cpu-period or --cpu-quota");
        }
        if let Some(weight) = self.blkio_weight
            && !(weight == 0 || (10..=1000).contains(&weight))
        {
            bail!("invalid --blkio-weight {weight}: it is from 10 to 1000");
        }
        let limit = |text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => size::limit(text).map(Some).map_err(anyhow::Error::msg),
        };
        let mut limits = Limits {
            memory: limit(&self.memory)?,
            memory_reservation: limit(&self.memory_reservation)?,
            memory_swap: limit(&self.memory_swap)?,
            cpu_shares: self.cpu_shares,
            cpu_period: self.cpu_period,
            cpu_quota: self.cpu_quota,
            cpuset_cpus: self.cpuset_cpus.clone(),
            cpuset_mems: self.cpuset_mems.clone(),
            pids: self.pids_limit,
            io_weight: self.blkio_weight,
            device_weights: self.blkio_weight_device.clone(),
            read_bytes: self.device_read_bps.clone(),
            write_bytes: self.device_write_bps.clone(),
            read_operations: self.device_read_iops.clone(),
            write_operations: self.device_write_iops.clone(),
            ..Limits::default()
        };
        if let Some(cpus) = self.cpus {
            if !(0.0..1e6).contains(&cpus) {
                bail!("invalid --cpus {cpus}: it is a number, and 0 for no limit");
            }
            limits.cpu_period = Some(100_000);
            limits.cpu_quota = Some(match (cpus * 100_000.0) as i64 {
                0 => -1,
                quota => quota,
            });
        }
        Ok(limits)
    }
}
