//! `kelp pod stats`: what the containers of pods use, again and again or once.

use std::collections::HashMap;
use std::thread;
use std::time::Duration;

use anyhow::bail;
use kelp_engine::container::statistics::Usage;
use kelp_engine::pod::list::PodStatus;
use kelp_engine::{ContainerId, Engine, Kind};
use kelp_format::render::json;
use kelp_format::{Format, render};
use rustix::termios::isatty;
use serde::Serialize;
use serde_json::Value;

use super::output;
use super::stats_row;

/// Show what the containers of pods use
#[derive(clap::Args)]
pub struct Args {
    /// Show pods that don't run as well
    #[arg(short, long)]
    all: bool,
    /// json, table, or a Go template
    #[arg(long)]
    format: Option<String>,
    /// Use the pod that was created last
    #[arg(short, long)]
    latest: bool,
    /// Leave what was shown before on the screen
    #[arg(long)]
    no_reset: bool,
    /// Look once, and end
    #[arg(long)]
    no_stream: bool,
    /// Names or ids of pods; without any, those that run
    #[arg(value_name = "POD")]
    pods: Vec<String>,
}

const COLUMNS: &str = "{{.Pod}}\t{{.CID}}\t{{.Name}}\t{{.CPU}}\t{{.MemUsage}}\t{{.Mem}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDS}}";

const HEADERS: &[(&str, &str)] = &[
    ("Pod", "POD"),
    ("CID", "CID"),
    ("Name", "NAME"),
    ("CPU", "CPU %"),
    ("MemUsage", "MEM USAGE/ LIMIT"),
    ("MemUsageBytes", "MEM USAGE/ LIMIT"),
    ("Mem", "MEM %"),
    ("NetIO", "NET IO"),
    ("BlockIO", "BLOCK IO"),
    ("PIDS", "PIDS"),
];

/// Seconds between two looks, as podman has them.
const INTERVAL: Duration = Duration::from_secs(5);

/// A line, and an object of the JSON.
#[derive(Serialize)]
struct Row {
    #[serde(rename = "CPU")]
    processor: Value,
    #[serde(rename = "MemUsage")]
    memory: Value,
    #[serde(rename = "MemUsageBytes")]
    memory_bytes: Value,
    #[serde(rename = "Mem")]
    memory_percent: Value,
    #[serde(rename = "NetIO")]
    network: Value,
    #[serde(rename = "BlockIO")]
    block: Value,
    #[serde(rename = "PIDS")]
    tasks: Value,
    #[serde(rename = "Pod")]
    pod: String,
    #[serde(rename = "CID")]
    container: String,
    #[serde(rename = "Name")]
    name: String,
}

/// Runs it; the exit code.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    if u8::from(args.all) + u8::from(args.latest) + u8::from(!args.pods.is_empty()) > 1 {
        bail!("--all, --latest and pods cannot be used together");
    }
    let mut named = Vec::new();
    for name in &args.pods {
        named.push(engine.find_pod(name)?);
    }
    if args.latest {
        named.push(engine.latest_pod()?);
    }
    let format = Format::parse(args.format.as_deref().unwrap_or_default(), COLUMNS);
    let clears = !args.no_stream && !args.no_reset && isatty(rustix::stdio::stdout());
    let mut before = HashMap::new();
    loop {
        let rows = look(engine, args.all, &named, &mut before)?;
        let text = match &format {
            Format::Json => json(&rows)? + "\n",
            format => render(&rows, format, HEADERS, true)?,
        };
        // Clears the screen and goes to its corner (console_codes(4)).
        let corner = if clears { "\x1b[2J\x1b[H" } else { "" };
        output::text(format!("{corner}{text}"))?;
        if args.no_stream {
            return Ok(0);
        }
        thread::sleep(INTERVAL);
    }
}

fn look(
    engine: &Engine,
    all: bool,
    named: &[ContainerId],
    before: &mut HashMap<ContainerId, Usage>,
) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for pod in engine.list_pods() {
        let runs = matches!(pod.status, PodStatus::Running | PodStatus::Degraded);
        let is_meant = if named.is_empty() {
            all || runs
        } else {
            named.contains(&pod.config.id)
        };
        if !is_meant {
            continue;
        }
        for listed in &pod.containers {
            let sample = match engine.sample_container(&listed.summary.id) {
                Err(error) if error.kind() == Kind::NotFound => continue,
                sample => sample?,
            };
            let shown = stats_row::Row::new(&sample, before.get(&sample.id), false);
            let mut shown = serde_json::to_value(shown)?;
            let mut field = |name: &str| shown[name].take();
            rows.push(Row {
                processor: field("CPUPerc"),
                memory: field("MemUsage"),
                memory_bytes: field("MemUsageBytes"),
                memory_percent: field("MemPerc"),
                network: field("NetIO"),
                block: field("BlockIO"),
                tasks: field("PIDS"),
                pod: pod.config.id.short().to_owned(),
                container: sample.id.short().to_owned(),
                name: sample.name.clone(),
            });
            if let Some(usage) = sample.usage {
                before.insert(sample.id, usage);
            }
        }
    }
    Ok(rows)
}
