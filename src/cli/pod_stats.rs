//! `kelp pod stats`: what the containers of pods use, again and again or once.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::bail;
use kelp_engine::container::statistics::Usage;
use kelp_engine::pod::list::{ListedPod, PodStatus};
use kelp_engine::{ContainerId, Engine, Kind};
use kelp_format::render::json;
use kelp_format::{Format, render};
use serde::Serialize;

use super::stats::StreamFlags;
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
    #[command(flatten)]
    stream: StreamFlags,
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
    processor: String,
    #[serde(rename = "MemUsage")]
    memory: String,
    #[serde(rename = "MemUsageBytes")]
    memory_bytes: String,
    #[serde(rename = "Mem")]
    memory_percent: String,
    #[serde(rename = "NetIO")]
    network: String,
    #[serde(rename = "BlockIO")]
    block: String,
    #[serde(rename = "PIDS")]
    tasks: String,
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
        let id = engine.find_pod(name)?;
        if !named.contains(&id) {
            named.push(id);
        }
    }
    if args.latest {
        named.push(engine.latest_pod()?);
    }
    let mut named = (!named.is_empty()).then_some(named);
    let format = Format::parse(args.format.as_deref().unwrap_or_default(), COLUMNS);
    let mut before = HashMap::new();
    args.stream.show(INTERVAL, || {
        let pods = pods(engine, args.all, &mut named)?;
        let rows = look(engine, &pods, &mut before)?;
        let text = match &format {
            Format::Json => json(&rows)? + "\n",
            format => render(&rows, format, HEADERS, true)?,
        };
        Ok((text, named.as_ref().is_some_and(Vec::is_empty)))
    })
}

/// The pods that are looked at; one of the named that has been removed is looked at no more.
fn pods(
    engine: &Engine,
    all: bool,
    named: &mut Option<Vec<ContainerId>>,
) -> anyhow::Result<Vec<ListedPod>> {
    let Some(ids) = named else {
        let mut pods = engine.list_pods();
        pods.retain(|pod| all || matches!(pod.status, PodStatus::Running | PodStatus::Degraded));
        return Ok(pods);
    };
    let mut pods = Vec::new();
    for id in std::mem::take(ids) {
        match engine.inspect_pod(&id) {
            Ok(pod) => {
                pods.push(pod);
                ids.push(id);
            }
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(pods)
}

fn look(
    engine: &Engine,
    pods: &[ListedPod],
    before: &mut HashMap<ContainerId, Usage>,
) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for pod in pods {
        for listed in &pod.containers {
            let sample = match engine.sample_container(&listed.summary.id) {
                Err(error) if error.kind() == Kind::NotFound => continue,
                sample => sample?,
            };
            let shown = stats_row::Row::new(&sample, before.get(&sample.id), false);
            rows.push(Row {
                processor: shown.processor,
                memory: shown.mem_usage,
                memory_bytes: shown.mem_usage_bytes,
                memory_percent: shown.mem_perc,
                network: shown.network,
                block: shown.block,
                tasks: shown.tasks,
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
