//! `kelp ps`: the list of containers.

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, SystemTime};

use kelp_engine::Engine;
use kelp_engine::container::list::Listed;
use kelp_engine::pod::Shared;
use kelp_format::render::json;
use kelp_format::{Format, render};

use super::container_filter;
use super::listed_ports;
use super::output;
use super::ps_row::{Json, PodNames, Row};

/// List containers
#[derive(clap::Args)]
pub struct Args {
    /// Show containers that don't run as well
    #[arg(short, long)]
    all: bool,
    /// Show containers that fit: id, name, label, status, ancestor, before, since, until, exited,
    /// command, volume, network, pod, publish, expose, restart-policy or should-start-on-boot, as KEY=VALUE
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
    /// json, table, or a Go template
    #[arg(long)]
    format: Option<String>,
    /// Show the N containers that were made last, whatever they do
    #[arg(short = 'n', long, value_name = "N", conflicts_with = "latest")]
    last: Option<usize>,
    /// Show the container that was made last, whatever it does
    #[arg(short, long)]
    latest: bool,
    /// Show namespaces
    #[arg(long, visible_alias = "namespace")]
    ns: bool,
    /// Leave the heading out
    #[arg(long)]
    noheading: bool,
    /// Show whole ids and commands
    #[arg(long)]
    no_trunc: bool,
    /// Show pods
    #[arg(short, long)]
    pod: bool,
    /// Taken for compatibility: no other program's containers are in kelp's store
    #[arg(long)]
    external: bool,
    /// Show how large containers are
    #[arg(short, long)]
    size: bool,
    /// Show ids alone
    #[arg(short, long)]
    quiet: bool,
    /// Sort by command, created, id, image, names, runningfor, size or status
    #[arg(long, value_name = "KEY", default_value = "created")]
    sort: Sort,
    /// Taken for compatibility: a list is always of what is there
    #[arg(long)]
    sync: bool,
    /// Show the list again every SECONDS
    #[arg(short, long, value_name = "SECONDS")]
    watch: Option<u32>,
}

/// What a list is sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Sort {
    Command,
    Created,
    Id,
    Image,
    Names,
    Runningfor,
    Size,
    Status,
}

const COLUMNS: &str =
    "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.CreatedHuman}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";
const NAMESPACE_COLUMNS: &str = "{{.ID}}\t{{.Names}}\t{{.Pid}}\t{{.CGROUPNS}}\t{{.IPC}}\t{{.MNT}}\t{{.NET}}\t{{.PIDNS}}\t{{.USERNS}}\t{{.UTS}}";

const HEADERS: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("ImageID", "IMAGE ID"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedHuman", "CREATED"),
    ("StartedAt", "STARTED"),
    ("ExitedAt", "EXITED"),
    ("ExitCode", "EXIT CODE"),
    ("Pod", "POD ID"),
    ("PodName", "PODNAME"),
    ("RunningFor", "CREATED"),
    ("CGROUPNS", "CGROUPNS"),
    ("PIDNS", "PIDNS"),
    ("USERNS", "USERNS"),
    ("AutoRemove", "AUTOREMOVE"),
    ("IsInfra", "ISINFRA"),
    ("Restarts", "RESTARTS"),
];

/// Prints the list.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let _ = (args.sync, args.external);
    let Some(seconds) = args.watch else {
        output::text(text(engine, args)?)?;
        return Ok(0);
    };
    loop {
        // Clears the screen and goes to its corner (console_codes(4)).
        output::text(format!("\x1b[2J\x1b[H{}", text(engine, args)?))?;
        thread::sleep(Duration::from_secs(seconds.max(1).into()));
    }
}

fn text(engine: &Engine, args: &Args) -> anyhow::Result<String> {
    let now = SystemTime::now();
    let mut list = chosen(engine, args, now)?;
    // A template shows what it says.
    if args.quiet && args.format.is_none() {
        let mut text = String::new();
        for listed in &list {
            let id = &listed.summary.id;
            text.push_str(if args.no_trunc {
                id.as_str()
            } else {
                id.short()
            });
            text.push('\n');
        }
        return Ok(text);
    }
    show_ports_of_pods(engine, &mut list);
    let mut columns = if args.ns {
        NAMESPACE_COLUMNS.to_owned()
    } else {
        COLUMNS.to_owned()
    };
    if args.pod {
        columns.push_str("\t{{.Pod}}\t{{.PodName}}");
    }
    if args.size && !args.ns {
        columns.push_str("\t{{.Size}}");
    }
    let pods = PodNames::look_up(engine, &list);
    let sizes = |listed: &Listed| args.size.then(|| engine.listed_sizes(&listed.summary));
    let format = Format::parse(args.format.as_deref().unwrap_or_default(), &columns);
    if format == Format::Json {
        let rows: Vec<_> = list
            .iter()
            .map(|listed| Json::new(listed, now, sizes(listed), &pods))
            .collect();
        return Ok(json(&rows)? + "\n");
    }
    if is_json_of_row(&format) {
        let lines = list.iter().map(|listed| {
            serde_json::to_string(&Json::new(listed, now, sizes(listed), &pods))
                .map(|line| line + "\n")
        });
        return Ok(lines.collect::<Result<_, _>>()?);
    }
    // A template may ask for them by itself.
    let namespaces = args.ns || args.format.is_some();
    let rows: Vec<_> = list
        .iter()
        .map(|listed| Row::new(listed, now, args.no_trunc, namespaces, sizes(listed), &pods))
        .collect();
    Ok(render(&rows, &format, HEADERS, !args.noheading)?)
}

/// `{{json .}}` means the object that `--format json` has in its list.
fn is_json_of_row(format: &Format) -> bool {
    matches!(format, Format::Template(text) if text.replace(' ', "") == "{{json.}}")
}

/// What is shown, in order.
fn chosen(engine: &Engine, args: &Args, now: SystemTime) -> anyhow::Result<Vec<Listed>> {
    let filters = container_filter::parse(&args.filter)?;
    let last = if args.latest { Some(1) } else { args.last };
    let all = args.all || last.is_some() || filters.has("status") || filters.has("exited");
    let mut list = engine.list_containers(all);
    container_filter::retain(engine, &filters, &mut list, now)?;
    if let Some(last) = last {
        list.drain(..list.len().saturating_sub(last));
    }
    sort(engine, &mut list, args.sort);
    Ok(list)
}

/// What a container that has its pod's network serves is where the infra container's ports are.
fn show_ports_of_pods(engine: &Engine, list: &mut [Listed]) {
    let mut known = HashMap::new();
    for listed in list {
        let options = &mut listed.summary.options;
        let pod = options.pod.as_ref();
        let Some(infra) = pod.and_then(|pod| pod.infra_with(Shared::Net)) else {
            continue;
        };
        let ports = known
            .entry(infra.clone())
            .or_insert_with(|| listed_ports::of_pod(engine, pod));
        if let Some(ports) = ports {
            options.publish.clone_from(ports);
        }
    }
}

fn sort(engine: &Engine, list: &mut [Listed], by: Sort) {
    match by {
        // The engine's order.
        Sort::Created | Sort::Runningfor => {}
        Sort::Command => list.sort_by(|a, b| a.summary.command.cmp(&b.summary.command)),
        Sort::Id => list.sort_by(|a, b| a.summary.id.cmp(&b.summary.id)),
        Sort::Image => list.sort_by(|a, b| a.summary.image_name.cmp(&b.summary.image_name)),
        Sort::Names => list.sort_by(|a, b| a.summary.name.cmp(&b.summary.name)),
        Sort::Size => {
            list.sort_by_cached_key(|listed| engine.listed_sizes(&listed.summary).total);
        }
        Sort::Status => list.sort_by_key(|listed| listed.status.as_str()),
    }
}
