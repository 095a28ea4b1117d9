//! `kelp system df`: what takes how much of the disk, as du(1) counts it.

use std::time::SystemTime;

use kelp_engine::image::usage::ImagesUsage;
use kelp_engine::{Engine, Status};
use kelp_format::{Format, render, units};
use serde::Serialize;
use serde_json::{Value, json};

use super::images::split;
use super::output;

/// Show how much of the disk is used
#[derive(clap::Args)]
pub struct Args {
    /// json, or a Go template
    #[arg(long)]
    format: Option<String>,
    /// Show every image, container and volume; with --format=json their sizes in bytes
    #[arg(short, long)]
    verbose: bool,
}

/// A line of the short list.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    #[serde(rename = "Type")]
    kind: &'static str,
    total: usize,
    active: usize,
    raw_size: u64,
    raw_reclaimable: u64,
    #[serde(rename = "TotalCount")]
    total_count: usize,
    size: String,
    reclaimable: String,
}

impl Row {
    fn new(kind: &'static str, things: &[Thing]) -> Self {
        let free = things.iter().filter(|thing| !thing.active);
        Self::of(
            kind,
            (things.len(), things.len() - free.clone().count()),
            things.iter().map(|thing| thing.size).sum(),
            free.map(|thing| thing.size).sum(),
        )
    }

    fn of(kind: &'static str, (total, active): (usize, usize), size: u64, free: u64) -> Self {
        let percent = (free * 100).checked_div(size).unwrap_or(0);
        Self {
            kind,
            total,
            active,
            raw_size: size,
            raw_reclaimable: free,
            total_count: total,
            size: units::docker_size(size),
            reclaimable: format!("{} ({percent}%)", units::docker_size(free)),
        }
    }
}

/// A container or a volume.
struct Thing {
    name: String,
    cells: Vec<String>,
    size: u64,
    active: bool,
}

const COLUMNS: &str = "{{.Type}}\t{{.Total}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}";

const IMAGES: &[&str] = &[
    "REPOSITORY",
    "TAG",
    "IMAGE ID",
    "CREATED",
    "SIZE",
    "SHARED SIZE",
    "UNIQUE SIZE",
    "CONTAINERS",
];

const CONTAINERS: &[&str] = &[
    "CONTAINER ID",
    "IMAGE",
    "COMMAND",
    "LOCAL VOLUMES",
    "SIZE",
    "CREATED",
    "STATUS",
    "NAMES",
];

const VOLUMES: &[&str] = &["VOLUME NAME", "LINKS", "SIZE"];

/// Prints the lists.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let format = Format::parse(args.format.as_deref().unwrap_or_default(), COLUMNS);
    if args.verbose && args.format.is_some() && format != Format::Json {
        anyhow::bail!("--verbose has no other format than json");
    }
    let now = SystemTime::now();
    let containers = containers(engine, now)?;
    let images = engine.images_usage()?;
    let volumes = volumes(engine)?;
    if args.verbose && format == Format::Json {
        let sizes = |things: &[Thing]| -> Vec<_> {
            let sizes = things.iter().map(
                |thing| json!({"Name": thing.name, "Size": thing.size, "Active": thing.active}),
            );
            sizes.collect()
        };
        output::line(render::json(&json!({
            "Images": image_sizes(&images),
            "ImagesSize": images.size,
            "Containers": sizes(&containers),
            "Volumes": sizes(&volumes),
        }))?)?;
        return Ok(0);
    }
    if args.verbose {
        print_each("Images", IMAGES, image_rows(&images, now))?;
        for (title, headings, things) in [
            ("Containers", CONTAINERS, containers),
            ("Local Volumes", VOLUMES, volumes),
        ] {
            let rows = things.into_iter().map(|thing| thing.cells);
            print_each(title, headings, rows.collect())?;
        }
        return Ok(0);
    }
    let used = images.images.iter().filter(|image| image.containers > 0);
    let counts = (images.images.len(), used.count());
    let rows = [
        Row::of("Images", counts, images.size, images.reclaimable),
        Row::new("Containers", &containers),
        Row::new("Local Volumes", &volumes),
    ];
    output::text(render(&rows, &format, &[], true)?)?;
    Ok(0)
}

fn print_each(
    title: &str,
    headings: &[&str],
    rows: Vec<Vec<String>>,
) -> Result<(), output::Failure> {
    let mut table = vec![headings.iter().map(|&heading| heading.to_owned()).collect()];
    table.extend(rows);
    output::text(format!(
        "{title} space usage:\n\n{}\n",
        kelp_format::table::layout(&table)
    ))
}

/// A row for each name, as in the list of images.
fn image_rows(usage: &ImagesUsage, now: SystemTime) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for usage in &usage.images {
        let record = &usage.image.record;
        let created = record.created.as_deref();
        let created = created.and_then(|text| units::parse_time(text, now).ok());
        let names = &usage.image.names;
        let names: Vec<_> = if names.is_empty() {
            vec![("<none>".to_owned(), "<none>".to_owned())]
        } else {
            names.iter().map(|name| split(name)).collect()
        };
        for (repository, tag) in names {
            rows.push(vec![
                repository,
                tag,
                record.id.hex()[..12].to_owned(),
                created.map_or_else(String::new, |time| since(time, now)),
                units::docker_size(usage.shared + usage.unique),
                units::docker_size(usage.shared),
                units::docker_size(usage.unique),
                usage.containers.to_string(),
            ]);
        }
    }
    rows
}

fn since(time: SystemTime, now: SystemTime) -> String {
    units::span(now.duration_since(time).unwrap_or_default())
}

fn image_sizes(usage: &ImagesUsage) -> Vec<Value> {
    let images = usage.images.iter().map(|usage| {
        json!({
            "Id": usage.image.record.id.hex(),
            "Names": usage.image.names,
            "Size": usage.shared + usage.unique,
            "SharedSize": usage.shared,
            "UniqueSize": usage.unique,
            "Containers": usage.containers,
        })
    });
    images.collect()
}

/// What is gone with a container: its whole record, with logs and all that it has written.
fn containers(engine: &Engine, now: SystemTime) -> anyhow::Result<Vec<Thing>> {
    let users = engine.volume_users();
    let list = engine.list_containers(true);
    let records = list
        .iter()
        .map(|listed| engine.paths.container(&listed.summary.id));
    let sizes = engine.disk_usage(&records.collect::<Vec<_>>())?;
    let mut things = Vec::new();
    for (listed, size) in list.iter().zip(sizes) {
        let summary = &listed.summary;
        let id = summary.id.as_str();
        // Nothing of one that has just gone.
        let size = size.unwrap_or(0);
        things.push(Thing {
            name: summary.name.clone(),
            cells: vec![
                summary.id.short().to_owned(),
                summary.image_id.chars().take(12).collect(),
                summary.command.join(" "),
                users
                    .values()
                    .filter(|users| users.contains(id))
                    .count()
                    .to_string(),
                units::docker_size(size),
                since(summary.created, now),
                listed.status.to_string(),
                summary.name.clone(),
            ],
            size,
            active: matches!(listed.status, Status::Running | Status::Paused),
        });
    }
    Ok(things)
}

/// What is gone with a volume.
fn volumes(engine: &Engine) -> anyhow::Result<Vec<Thing>> {
    let users = engine.volume_users();
    let volumes = engine.volumes();
    let directories = volumes
        .iter()
        .map(|volume| engine.paths.volumes().join(&volume.name));
    let sizes = engine.disk_usage(&directories.collect::<Vec<_>>())?;
    let things = volumes.iter().zip(sizes).map(|(volume, size)| {
        let links = users
            .get(&volume.name)
            .map_or(0, std::collections::BTreeSet::len);
        let size = size.unwrap_or(0);
        Thing {
            name: volume.name.clone(),
            cells: vec![
                volume.name.clone(),
                links.to_string(),
                units::docker_size(size),
            ],
            size,
            active: links > 0,
        }
    });
    Ok(things.collect())
}
