//! Flags about limits.

use anyhow::{Context, bail};
use kelp_args::{DeviceRate, device_rate, size, ulimit};
use kelp_config::Conf;
use kelp_engine::container::CreateOptions;
use kelp_engine::container::config::{CgroupMode, Limits};
use rustix::process::{Resource, getrlimit};

use super::each;

/// The flags.
#[derive(clap::Args, Debug)]
pub struct ResourceFlags {
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
    /// Write a file of the container's cgroup: FILE=VALUE
    #[arg(long, value_name = "FILE=VALUE")]
    cgroup_conf: Vec<String>,
    /// The cgroup or slice that the container's cgroup is made in
    #[arg(long, value_name = "CGROUP")]
    cgroup_parent: Option<String>,
    /// A limit of each process: NAME=SOFT[:HARD], or host for those that kelp has
    #[arg(long)]
    ulimit: Vec<String>,
    /// How soon the kernel kills it for memory, from -1000 to 1000
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    oom_score_adj: Option<i32>,
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

impl ResourceFlags {
    /// Limits of processes, for which no cgroup is needed.
    pub(super) fn apply_to_processes(&self, options: &mut CreateOptions) -> anyhow::Result<()> {
        options.ulimits = if self.ulimit.iter().any(|text| text == "host") {
            if self.ulimit.len() > 1 {
                bail!("--ulimit host leaves no room for other limits");
            }
            host_ulimits()
        } else {
            each(&self.ulimit, ulimit::parse)?
        };
        options.oom_score_adj = self.oom_score_adj;
        Ok(())
    }

    /// Limits of the cgroup; whether there is one is settled.
    pub(super) fn apply(&self, options: &mut CreateOptions, conf: &Conf) -> anyhow::Result<()> {
        if self.cpus.is_some() && (self.cpu_quota.is_some() || self.cpu_period.is_some()) {
            bail!("--cpus cannot be used together with --cpu-period or --cpu-quota");
        }
        let limit = |text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => size::limit(text).map(Some).map_err(anyhow::Error::msg),
        };
        self.parent(options)?;
        let has_cgroup = options.cgroups.mode != CgroupMode::Disabled;
        let pids = conf
            .number("containers", "pids_limit")
            .filter(|_| has_cgroup);
        let pids = pids.map(|limit| limit.value);
        let mut limits = Limits {
            memory: limit(&self.memory)?,
            memory_reservation: limit(&self.memory_reservation)?,
            memory_swap: limit(&self.memory_swap)?,
            cpu_shares: self.cpu_shares,
            cpu_period: self.cpu_period,
            cpu_quota: self.cpu_quota,
            cpuset_cpus: self.cpuset_cpus.clone(),
            cpuset_mems: self.cpuset_mems.clone(),
            pids: self.pids_limit.or(pids),
            io_weight: self.blkio_weight,
            device_weights: self.blkio_weight_device.clone(),
            read_bytes: self.device_read_bps.clone(),
            write_bytes: self.device_write_bps.clone(),
            read_operations: self.device_read_iops.clone(),
            write_operations: self.device_write_iops.clone(),
            ..Limits::default()
        };
        if let Some(cpus) = self.cpus {
            if !(cpus > 0.0 && cpus < 1e6) {
                bail!("invalid --cpus {cpus}: it is a number above 0");
            }
            limits.cpu_period = Some(100_000);
            limits.cpu_quota = Some((cpus * 100_000.0) as i64);
        }
        if let (true, Some(list)) = (has_cgroup, conf.list("containers", "cgroup_conf")) {
            for text in list.each() {
                let (file, value) = text.read(|text| {
                    let pair = text.split_once('=');
                    let pair = pair.map(|(file, value)| (file.to_owned(), value.to_owned()));
                    pair.with_context(|| format!("invalid cgroup_conf {text:?}: it is FILE=VALUE"))
                })?;
                limits.unified.insert(file, value);
            }
        }
        for text in &self.cgroup_conf {
            let (file, value) = text
                .split_once('=')
                .with_context(|| format!("invalid --cgroup-conf {text:?}: it is FILE=VALUE"))?;
            limits.unified.insert(file.to_owned(), value.to_owned());
        }
        options.resources = limits.to_oci()?;
        if !has_cgroup && options.resources.is_some() {
            bail!(
                "--cgroups=disabled leaves no place for limits of memory, processors and the like"
            );
        }
        Ok(())
    }

    fn parent(&self, options: &mut CreateOptions) -> anyhow::Result<()> {
        let Some(parent) = &self.cgroup_parent else {
            return Ok(());
        };
        if matches!(
            options.cgroups.mode,
            CgroupMode::Disabled | CgroupMode::Split
        ) {
            bail!("--cgroup-parent cannot be used together with --cgroups=disabled or split");
        }
        if parent.split('/').any(|part| part == "..") {
            bail!("invalid --cgroup-parent {parent:?}: it leads upwards");
        }
        options.cgroups.parent.clone_from(parent);
        Ok(())
    }
}
