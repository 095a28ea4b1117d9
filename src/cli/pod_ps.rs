//! `kelp pod ps`: the list of pods.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::SystemTime;

use anyhow::bail;
use kelp_engine::container::list::Listed;
use kelp_engine::pod::list::ListedPod;
use kelp_engine::{ContainerId, Engine};
use kelp_format::filter::{Field, Filters, Key, Match};
use kelp_format::render::json;
use kelp_format::{Format, render, units};
use serde::Serialize;

use super::output;
use super::ps_row::{network, restarts};

/// List pods
#[derive(clap::Args)]
pub struct Args {
    /// Show the ids of containers
    #[arg(long)]
    ctr_ids: bool,
    /// Show the names of containers
    #[arg(long)]
    ctr_names: bool,
    /// Show what containers do
    #[arg(long)]
    ctr_status: bool,
    /// Show pods that fit: ctr-ids, ctr-names, ctr-number, ctr-status, id, label, name, network, status or until, as
    /// KEY=VALUE
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
    /// json, table, or a Go template
    #[arg(long)]
    format: Option<String>,
    /// Show the pod that was created last
    #[arg(short, long)]
    latest: bool,
    /// Leave the heading out
    #[arg(short, long)]
    noheading: bool,
    /// Show whole ids
    #[arg(long)]
    no_trunc: bool,
    /// Show cgroups and namespaces
    #[arg(long, visible_alias = "namespace")]
    ns: bool,
    /// Show ids alone
    #[arg(short, long)]
    quiet: bool,
    /// Sort by created, id, name, number or status
    #[arg(long, value_name = "KEY", default_value = "created")]
    sort: Sort,
}

/// What a list is sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Sort {
    Created,
    Id,
    Name,
    Number,
    Status,
}

const KEYS: &[Key] = &[
    ("ctr-ids", Match::Regex),
    ("ctr-names", Match::Regex),
    ("ctr-number", Match::Own),
    ("ctr-status", Match::Exact),
    ("id", Match::Regex),
    ("label", Match::Label),
    ("name", Match::Regex),
    ("network", Match::Exact),
    ("status", Match::Own),
    ("until", Match::Own),
];

const HEADERS: &[(&str, &str)] = &[
    ("Id", "POD ID"),
    ("ID", "POD ID"),
    ("Name", "NAME"),
    ("Status", "STATUS"),
    ("Labels", "LABELS"),
    ("NumberOfContainers", "# OF CONTAINERS"),
    ("Created", "CREATED"),
    ("InfraID", "INFRA ID"),
    ("InfraId", "INFRA ID"),
    ("ContainerIds", "IDS"),
    ("ContainerNames", "NAMES"),
    ("ContainerStatuses", "STATUS"),
    ("Cgroup", "CGROUP"),
    ("Namespace", "NAMESPACES"),
    ("Networks", "NETWORKS"),
    ("Restarts", "RESTARTS"),
];

const STATES: &[&str] = &[
    "created", "dead", "degraded", "error", "exited", "paused", "running", "stopped",
];

/// A line: what a template sees.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    #[serde(rename = "ID")]
    upper_id: String,
    id: String,
    name: String,
    status: &'static str,
    created: String,
    #[serde(rename = "InfraID")]
    upper_infra_id: String,
    infra_id: String,
    labels: BTreeMap<String, String>,
    number_of_containers: usize,
    container_ids: String,
    container_names: String,
    container_statuses: String,
    cgroup: String,
    namespace: String,
    networks: String,
    restarts: String,
}

/// An object of `--format json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Json {
    cgroup: String,
    containers: Vec<Member>,
    created: String,
    id: String,
    infra_id: String,
    name: String,
    namespace: String,
    networks: Vec<String>,
    status: &'static str,
    labels: BTreeMap<String, String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Member {
    id: String,
    names: String,
    status: &'static str,
    restart_count: u32,
}

/// Prints the list.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    if args.quiet && args.format.is_some() {
        bail!("quiet and format cannot be used together");
    }
    let now = SystemTime::now();
    let pods = chosen(engine, args, now)?;
    if args.quiet {
        for pod in &pods {
            output::line(shown(&pod.config.id, args.no_trunc))?;
        }
        return Ok(0);
    }
    let format = Format::parse(args.format.as_deref().unwrap_or_default(), &columns(args));
    if format == Format::Json {
        let objects: Vec<_> = pods.iter().map(object).collect();
        output::line(json(&objects)?)?;
        return Ok(0);
    }
    let rows: Vec<_> = pods
        .iter()
        .map(|pod| row(pod, now, args.no_trunc))
        .collect();
    output::text(render(&rows, &format, HEADERS, !args.noheading)?)?;
    Ok(0)
}

fn columns(args: &Args) -> String {
    let mut columns = vec![
        "{{.Id}}",
        "{{.Name}}",
        "{{.Status}}",
        "{{.Created}}",
        "{{.InfraID}}",
    ];
    let of_containers = [
        (args.ctr_ids, "{{.ContainerIds}}"),
        (args.ctr_names, "{{.ContainerNames}}"),
        (args.ctr_status, "{{.ContainerStatuses}}"),
    ];
    columns.extend(
        of_containers
            .iter()
            .filter(|(on, _)| *on)
            .map(|(_, it)| *it),
    );
    if args.ns {
        columns.extend(["{{.Cgroup}}", "{{.Namespace}}"]);
    }
    if of_containers.iter().all(|(on, _)| !on) {
        columns.push("{{.NumberOfContainers}}");
    }
    columns.join("\t")
}

/// What is shown, in order.
fn chosen(engine: &Engine, args: &Args, now: SystemTime) -> anyhow::Result<Vec<ListedPod>> {
    let filters = Filters::parse(&args.filter, KEYS)?;
    for state in filters.values("status") {
        if !STATES.contains(&state.to_lowercase().as_str()) {
            bail!(
                "{state} is not a valid pod status: use {}",
                STATES.join(", ")
            );
        }
    }
    for text in filters.values("until") {
        units::parse_time(text, now).map_err(anyhow::Error::msg)?;
    }
    for number in filters.values("ctr-number") {
        if number.parse::<usize>().is_err() {
            bail!("invalid filter value {number:?} for ctr-number: it is a whole number");
        }
    }
    let mut pods = engine.list_pods();
    if args.latest {
        pods.drain(..pods.len().saturating_sub(1));
    }
    pods.retain(|pod| filters.matches(|key, value| field(pod, key, value, now)));
    match args.sort {
        Sort::Created => pods.sort_by_key(|pod| Reverse(pod.config.created)),
        Sort::Id => pods.sort_by(|one, other| one.config.id.cmp(&other.config.id)),
        Sort::Name => pods.sort_by(|one, other| one.config.name.cmp(&other.config.name)),
        Sort::Number => pods.sort_by_key(|pod| pod.containers.len()),
        Sort::Status => pods.sort_by_key(|pod| pod.status.as_str()),
    }
    Ok(pods)
}

fn field<'a>(pod: &'a ListedPod, key: &str, value: &str, now: SystemTime) -> Field<'a> {
    let config = &pod.config;
    let of_each = |each: fn(&'a Listed) -> &'a str| pod.containers.iter().map(each).collect();
    match key {
        "ctr-ids" => Field::Texts(of_each(|listed| listed.summary.id.as_str())),
        "ctr-names" => Field::Texts(of_each(|listed| &listed.summary.name)),
        "ctr-status" => Field::Texts(of_each(|listed| listed.status.as_str())),
        "ctr-number" => Field::Answer(value.parse() == Ok(pod.containers.len())),
        "id" => Field::Text(config.id.as_str()),
        "label" => Field::Map(&config.labels),
        "name" => Field::Text(&config.name),
        "network" => Field::Texts(networks(pod)),
        "status" => Field::Answer(pod.status.as_str().eq_ignore_ascii_case(value)),
        _ => {
            let limit = units::parse_time(value, now);
            Field::Answer(limit.is_ok_and(|limit| config.created < limit))
        }
    }
}

fn infra(pod: &ListedPod) -> Option<&Listed> {
    let id = pod.config.infra.as_ref()?;
    pod.containers.iter().find(|it| it.summary.id == *id)
}

/// The network of the infra container, if it has a name.
fn networks(pod: &ListedPod) -> Vec<&str> {
    let name = infra(pod).map(network).unwrap_or_default();
    if matches!(name, "" | "host" | "none") {
        return Vec::new();
    }
    vec![name]
}

fn shown(id: &ContainerId, whole: bool) -> &str {
    if whole { id.as_str() } else { id.short() }
}

fn row(pod: &ListedPod, now: SystemTime, whole: bool) -> Row {
    let config = &pod.config;
    let id = shown(&config.id, whole).to_owned();
    let infra_id = config.infra.as_ref().map_or("", |id| shown(id, whole));
    let infra_id = infra_id.to_owned();
    let joined = |each: &dyn Fn(&Listed) -> String| {
        let texts: Vec<_> = pod.containers.iter().map(each).collect();
        texts.join(",")
    };
    Row {
        upper_id: id.clone(),
        id,
        name: config.name.clone(),
        status: pod.status.as_str(),
        created: units::ago(config.created, now),
        upper_infra_id: infra_id.clone(),
        infra_id,
        labels: config.labels.clone(),
        number_of_containers: pod.containers.len(),
        container_ids: joined(&|it| shown(&it.summary.id, whole).to_owned()),
        container_names: joined(&|it| it.summary.name.clone()),
        container_statuses: joined(&|it| it.status.to_string()),
        cgroup: String::new(),
        namespace: String::new(),
        networks: networks(pod).join(","),
        restarts: pod.containers.iter().map(restarts).sum::<u32>().to_string(),
    }
}

fn object(pod: &ListedPod) -> Json {
    let config = &pod.config;
    let members = pod.containers.iter().map(|listed| Member {
        id: listed.summary.id.to_string(),
        names: listed.summary.name.clone(),
        status: listed.status.as_str(),
        restart_count: restarts(listed),
    });
    Json {
        cgroup: String::new(),
        containers: members.collect(),
        created: units::rfc3339_local(config.created),
        id: config.id.to_string(),
        infra_id: config
            .infra
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        name: config.name.clone(),
        namespace: String::new(),
        networks: networks(pod).into_iter().map(str::to_owned).collect(),
        status: pod.status.as_str(),
        labels: config.labels.clone(),
    }
}
