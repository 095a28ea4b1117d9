//! What `kelp stats` shows of a container, in podman's words.

use kelp_engine::container::statistics::{Pressure, Sample, Statistics, Traffic, Usage};
use kelp_format::units;
use serde::Serialize;

/// What stands for a number that the kernel does not keep.
const NONE: &str = "--";

/// The fields of a template.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Row {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "ContainerID")]
    container_id: String,
    name: String,
    #[serde(rename = "CPUPerc")]
    pub(super) processor: String,
    #[serde(rename = "AVGCPU")]
    average: String,
    pub(super) mem_usage: String,
    pub(super) mem_usage_bytes: String,
    pub(super) mem_perc: String,
    #[serde(rename = "NetIO")]
    pub(super) network: String,
    #[serde(rename = "BlockIO")]
    pub(super) block: String,
    #[serde(rename = "PIDS")]
    pub(super) tasks: String,
    up_time: String,
    up: String,
    #[serde(rename = "CPUPressureSome")]
    processor_some: String,
    #[serde(rename = "CPUPressureFull")]
    processor_full: String,
    mem_pressure_some: String,
    mem_pressure_full: String,
    #[serde(rename = "IOPressureSome")]
    io_some: String,
    #[serde(rename = "IOPressureFull")]
    io_full: String,
    #[serde(flatten)]
    numbers: Numbers,
}

/// The same as numbers, of which those that nobody keeps are null.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Numbers {
    #[serde(rename = "CPU")]
    processor: Option<f64>,
    #[serde(rename = "AvgCPU")]
    average: Option<f64>,
    #[serde(rename = "CPUNano")]
    processor_time: Option<u64>,
    #[serde(rename = "CPUSystemNano")]
    kernel_time: Option<u64>,
    #[serde(rename = "SystemNano")]
    time: Option<u64>,
    duration: Option<u64>,
    mem_limit: Option<u64>,
    net_input: Option<u64>,
    net_output: Option<u64>,
    block_input: Option<u64>,
    block_output: Option<u64>,
    #[serde(rename = "PIDs")]
    tasks: Option<u64>,
}

impl Row {
    /// Of a container and an earlier look at it.
    pub fn new(sample: &Sample, before: Option<&Usage>, whole_ids: bool) -> Self {
        let usage = sample.usage.as_ref();
        let statistics = usage.map(|usage| usage.statistics.clone());
        let statistics = statistics.unwrap_or_default();
        let network = usage.and_then(|usage| usage.network);
        let processor = usage.and_then(|usage| usage.processor_percent(before));
        let average = usage.and_then(Usage::average_percent);
        let time = shown(statistics.processor, units::go_span);
        let memory = (statistics.memory, statistics.memory_limit);
        let id = if whole_ids {
            sample.id.as_str()
        } else {
            sample.id.short()
        };
        let Statistics {
            processor_pressure,
            memory_pressure,
            io_pressure,
            ..
        } = statistics;
        Self {
            id: id.to_owned(),
            container_id: sample.id.to_string(),
            name: sample.name.clone(),
            processor: shown(processor, percent),
            average: shown(average, percent),
            mem_usage: both(memory, units::docker_size),
            mem_usage_bytes: both(memory, units::binary_size),
            mem_perc: shown(usage.and_then(Usage::memory_percent), percent),
            network: traffic(network),
            block: traffic(statistics.io),
            tasks: shown(statistics.tasks, |tasks| tasks.to_string()),
            up_time: time.clone(),
            up: time,
            processor_some: some(processor_pressure),
            processor_full: full(processor_pressure),
            mem_pressure_some: some(memory_pressure),
            mem_pressure_full: full(memory_pressure),
            io_some: some(io_pressure),
            io_full: full(io_pressure),
            numbers: Numbers::new(usage, processor, average),
        }
    }
}

impl Numbers {
    fn new(usage: Option<&Usage>, processor: Option<f64>, average: Option<f64>) -> Self {
        let statistics = usage.map(|usage| &usage.statistics);
        let nanoseconds = |span: std::time::Duration| u64::try_from(span.as_nanos()).ok();
        let processor_time = statistics.and_then(|it| it.processor).and_then(nanoseconds);
        let network = usage.and_then(|usage| usage.network);
        let io = statistics.and_then(|it| it.io);
        let now = usage.and_then(|usage| usage.time.duration_since(std::time::UNIX_EPOCH).ok());
        Self {
            processor,
            average,
            processor_time,
            kernel_time: statistics.and_then(|it| it.kernel).and_then(nanoseconds),
            time: now.and_then(nanoseconds),
            duration: processor_time,
            mem_limit: statistics.and_then(|it| it.memory_limit),
            net_input: network.map(|it| it.input),
            net_output: network.map(|it| it.output),
            block_input: io.map(|it| it.input),
            block_output: io.map(|it| it.output),
            tasks: statistics.and_then(|it| it.tasks),
        }
    }
}

/// An object of `--format json`: podman's keys, and behind them those of pressure.
#[derive(Serialize)]
pub struct Json<'a> {
    id: &'a str,
    name: &'a str,
    cpu_time: &'a str,
    cpu_percent: &'a str,
    avg_cpu: &'a str,
    mem_usage: &'a str,
    mem_percent: &'a str,
    net_io: &'a str,
    block_io: &'a str,
    pids: &'a str,
    cpu_pressure_some: &'a str,
    cpu_pressure_full: &'a str,
    mem_pressure_some: &'a str,
    mem_pressure_full: &'a str,
    io_pressure_some: &'a str,
    io_pressure_full: &'a str,
}

impl<'a> Json<'a> {
    /// Of the fields of a template.
    pub fn new(row: &'a Row) -> Self {
        Self {
            id: &row.id,
            name: &row.name,
            cpu_time: &row.up_time,
            cpu_percent: &row.processor,
            avg_cpu: &row.average,
            mem_usage: &row.mem_usage,
            mem_percent: &row.mem_perc,
            net_io: &row.network,
            block_io: &row.block,
            pids: &row.tasks,
            cpu_pressure_some: &row.processor_some,
            cpu_pressure_full: &row.processor_full,
            mem_pressure_some: &row.mem_pressure_some,
            mem_pressure_full: &row.mem_pressure_full,
            io_pressure_some: &row.io_some,
            io_pressure_full: &row.io_full,
        }
    }
}

fn shown<T>(value: Option<T>, show: impl Fn(T) -> String) -> String {
    value.map_or_else(|| NONE.to_owned(), show)
}

fn both((one, other): (Option<u64>, Option<u64>), show: fn(u64) -> String) -> String {
    // A limit says nothing of what is not counted.
    let other = other.filter(|_| one.is_some());
    format!("{} / {}", shown(one, show), shown(other, show))
}

fn traffic(traffic: Option<Traffic>) -> String {
    let parts = (traffic.map(|it| it.input), traffic.map(|it| it.output));
    both(parts, units::docker_size)
}

fn percent(value: f64) -> String {
    format!("{value:.2}%")
}

fn some(pressure: Option<Pressure>) -> String {
    shown(pressure.map(|it| it.some), percent)
}

fn full(pressure: Option<Pressure>) -> String {
    shown(pressure.map(|it| it.full), percent)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    fn row(usage: Option<Usage>) -> Row {
        let id = "0123456789abcdef".repeat(4).parse().unwrap();
        let name = "web".to_owned();
        Row::new(&Sample { id, name, usage }, None, false)
    }

    #[test]
    fn numbers_are_podmans() {
        let started = SystemTime::UNIX_EPOCH;
        let row = row(Some(Usage {
            time: started + Duration::from_secs(10),
            started,
            statistics: Statistics {
                processor: Some(Duration::from_millis(1234)),
                memory: Some(3_092_000),
                memory_limit: Some(16_700_000_000),
                tasks: Some(2),
                io: Some(Traffic::default()),
                io_pressure: Some(Pressure {
                    some: 1.5,
                    full: 0.0,
                }),
                ..Statistics::default()
            },
            network: Some(Traffic {
                input: 1000,
                output: 5,
            }),
        }));
        let json = serde_json::to_value(Json::new(&row)).unwrap();
        for (key, value) in [
            ("id", "0123456789ab"),
            ("name", "web"),
            ("cpu_time", "1.234s"),
            ("cpu_percent", "12.34%"),
            ("avg_cpu", "12.34%"),
            ("mem_usage", "3.092MB / 16.7GB"),
            ("mem_percent", "0.02%"),
            ("net_io", "1kB / 5B"),
            ("block_io", "0B / 0B"),
            ("pids", "2"),
            ("io_pressure_some", "1.50%"),
            ("io_pressure_full", "0.00%"),
            ("cpu_pressure_some", "--"),
        ] {
            assert_eq!(json[key], value, "{key}");
        }
        let fields = serde_json::to_value(&row).unwrap();
        assert_eq!(fields["MemUsageBytes"], "2.95MiB / 15.6GiB");
        assert_eq!(fields["CPUNano"], 1_234_000_000);
        assert_eq!(fields["NetInput"], 1000);
    }

    #[test]
    fn what_is_not_counted_is_no_zero() {
        for usage in [
            None,
            Some(Usage {
                time: SystemTime::UNIX_EPOCH,
                started: SystemTime::UNIX_EPOCH,
                statistics: Statistics::default(),
                network: None,
            }),
        ] {
            let row = row(usage);
            let json = serde_json::to_value(Json::new(&row)).unwrap();
            for (key, value) in json.as_object().unwrap() {
                let expected = match key.as_str() {
                    "id" => "0123456789ab",
                    "name" => "web",
                    "mem_usage" | "net_io" | "block_io" => "-- / --",
                    _ => "--",
                };
                assert_eq!(value, expected, "{key}");
            }
        }
    }
}
