//! `update`: limits of a container that is there, as a document or flags say.

use std::path::PathBuf;

use anyhow::{Context, bail};
use kelp_args::size;
use kelp_oci::Root;
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};

/// Bytes, with or without a unit; -1 is no limit.
fn bytes(text: &str) -> Result<i64, String> {
    match text {
        "-1" => Ok(-1),
        text => size::bytes(text).and_then(|bytes| {
            i64::try_from(bytes).map_err(|_| format!("{text} is more than there can be"))
        }),
    }
}

#[derive(clap::Args)]
pub struct Args {
    /// A file with linux.resources; - for standard input
    #[arg(short, long, value_name = "FILE")]
    resources: Option<PathBuf>,
    /// Memory
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, value_parser = bytes)]
    memory: Option<i64>,
    /// Memory and swap together
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, value_parser = bytes)]
    memory_swap: Option<i64>,
    /// Memory that is reclaimed last
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true, value_parser = bytes)]
    memory_reservation: Option<i64>,
    /// Taken for runc's sake: the kernel's memory is part of the memory
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    kernel_memory: Option<String>,
    /// Taken for runc's sake: so is that of TCP
    #[arg(long, value_name = "BYTES", allow_hyphen_values = true)]
    kernel_memory_tcp: Option<String>,
    /// Microseconds of a processor in each period
    #[arg(long, value_name = "MICROSECONDS", allow_hyphen_values = true)]
    cpu_quota: Option<i64>,
    /// The period, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_period: Option<u64>,
    /// How much of what is unused may be used later, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    cpu_burst: Option<u64>,
    /// The share of the processors against others
    #[arg(long, visible_alias = "cpu-shares", value_name = "SHARES")]
    cpu_share: Option<u64>,
    /// 1 if it gets what no other wants, else 0
    #[arg(long, value_name = "0|1", allow_hyphen_values = true)]
    cpu_idle: Option<i64>,
    /// Cgroup v2 has no such limit
    #[arg(long, value_name = "MICROSECONDS", hide = true)]
    cpu_rt_period: Option<u64>,
    /// Cgroup v2 has no such limit
    #[arg(
        long,
        value_name = "MICROSECONDS",
        hide = true,
        allow_hyphen_values = true
    )]
    cpu_rt_runtime: Option<i64>,
    /// The processors it may use
    #[arg(long, value_name = "LIST")]
    cpuset_cpus: Option<String>,
    /// The memory nodes it may use
    #[arg(long, value_name = "LIST")]
    cpuset_mems: Option<String>,
    /// The share of the disks against others, 10 to 1000
    #[arg(long, value_name = "WEIGHT")]
    blkio_weight: Option<u16>,
    /// How many processes it may have
    #[arg(long, value_name = "N", allow_hyphen_values = true)]
    pids_limit: Option<i64>,
    /// Intel's RDT is set up by create, and stays
    #[arg(long, value_name = "SCHEMA", hide = true)]
    l3_cache_schema: Option<String>,
    /// Intel's RDT is set up by create, and stays
    #[arg(long, value_name = "SCHEMA", hide = true)]
    mem_bw_schema: Option<String>,
    /// The container's id
    id: String,
}

/// Changes what is asked for.
pub fn run(root: &Root, args: &Args) -> anyhow::Result<()> {
    let container = root.container(&args.id)?;
    if args.l3_cache_schema.is_some() || args.mem_bw_schema.is_some() {
        bail!("Intel's RDT is set up when a container is created: leave its schemas out");
    }
    let _ = (&args.kernel_memory, &args.kernel_memory_tcp);
    let mut resources: LinuxResources = match &args.resources {
        None => LinuxResources::default(),
        Some(path) if path.as_os_str() == "-" => serde_json::from_reader(std::io::stdin())
            .context("standard input is no linux.resources")?,
        Some(path) => {
            let text = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
            serde_json::from_slice(&text).with_context(|| path.display().to_string())?
        }
    };
    if let Some(memory) = memory(args, resources.memory().unwrap_or_default()) {
        resources.set_memory(Some(memory));
    }
    let cpu = resources.cpu().clone().unwrap_or_default();
    if let Some(cpu) = cpu_of(args, cpu) {
        resources.set_cpu(Some(cpu));
    }
    if args.blkio_weight.is_some() {
        let mut io: LinuxBlockIo = resources.block_io().clone().unwrap_or_default();
        io.set_weight(args.blkio_weight);
        resources.set_block_io(Some(io));
    }
    if let Some(limit) = args.pids_limit {
        let mut pids = resources.pids().unwrap_or_default();
        pids.set_limit(limit);
        resources.set_pids(Some(pids));
    }
    Ok(container.update(&resources)?)
}

fn memory(args: &Args, mut memory: LinuxMemory) -> Option<LinuxMemory> {
    if args.memory.is_some() {
        memory.set_limit(args.memory);
    }
    if args.memory_swap.is_some() {
        memory.set_swap(args.memory_swap);
    }
    if args.memory_reservation.is_some() {
        memory.set_reservation(args.memory_reservation);
    }
    (memory != LinuxMemory::default()).then_some(memory)
}

fn cpu_of(args: &Args, mut cpu: LinuxCpu) -> Option<LinuxCpu> {
    if args.cpu_quota.is_some() {
        cpu.set_quota(args.cpu_quota);
    }
    if args.cpu_period.is_some() {
        cpu.set_period(args.cpu_period);
    }
    if args.cpu_burst.is_some() {
        cpu.set_burst(args.cpu_burst);
    }
    if args.cpu_share.is_some() {
        cpu.set_shares(args.cpu_share);
    }
    if args.cpu_idle.is_some() {
        cpu.set_idle(args.cpu_idle);
    }
    if args.cpu_rt_period.is_some() {
        cpu.set_realtime_period(args.cpu_rt_period);
    }
    if args.cpu_rt_runtime.is_some() {
        cpu.set_realtime_runtime(args.cpu_rt_runtime);
    }
    if let Some(list) = &args.cpuset_cpus {
        cpu.set_cpus(Some(list.clone()));
    }
    if let Some(list) = &args.cpuset_mems {
        cpu.set_mems(Some(list.clone()));
    }
    (cpu != LinuxCpu::default()).then_some(cpu)
}
