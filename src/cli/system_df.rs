//! `kelp system df`: what takes how much of the disk.

use std::collections::BTreeMap;
use std::time::SystemTime;

use kelp_engine::{Engine, Status};
use kelp_format::{Format, render, units};
use serde::Serialize;

/// Show how much of the disk is used
#[derive(clap::Args)]
pub struct Args {
    /// json, or a Go template
    #[arg(long)]
    format: Option<String>,
    /// Show every image, container and volume
    #[arg(short, long, conflicts_with = "format")]
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
        let size = things.iter().map(|thing| thing.size).sum();
        let free = things.iter().filter(|thing| !thing.active);
        let reclaimable: u64 = free.map(|thing| thing.size).sum();
        let percent = (reclaimable * 100).checked_div(size).unwrap_or(0);
        Self {
            kind,
            total: things.len(),
            active: things.iter().filter(|thing| thing.active).count(),
            raw_size: size,
            raw_reclaimable: reclaimable,
            total_count: things.len(),
            size: units::compact_size(size),
            reclaimable: format!("{} ({percent}%)", units::compact_size(reclaimable)),
        }
    }
}

/// An image, a container or a volume.
struct Thing {
    cells: Vec<String>,
    size: u64,
    active: bool,
}

const COLUMNS: &str = "{{.Type}}\t{{.Total}}\t{{.Active}}\t{{.Size}}\t{{.Reclaimable}}";

/// Prints the lists.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let now = SystemTime::now();
    let containers = containers(engine, now)?;
    let images = images(engine, now)?;
    let volumes = volumes(engine);
    if args.verbose {
        for (title, headings, things) in [
            (
                "Images",
                &["REPOSITORY", "IMAGE ID", "CREATED", "SIZE", "CONTAINERS"][..],
                &images,
            ),
            (
                "Containers",
                &[
                    "CONTAINER ID",
                    "IMAGE",
                    "COMMAND",
                    "SIZE",
                    "CREATED",
                    "STATUS",
                    "NAMES",
                ],
                &containers,
            ),
            ("Local Volumes", &["VOLUME NAME", "LINKS", "SIZE"], &volumes),
        ] {
            let mut rows = vec![headings.iter().map(|&heading| heading.to_owned()).collect()];
            rows.extend(things.iter().map(|thing| thing.cells.clone()));
            print!(
                "{title} space usage:\n\n{}\n",
                kelp_format::table::layout(&rows)
            );
        }
        return Ok(0);
    }
    let rows = [
        Row::new("Images", &images),
        Row::new("Containers", &containers),
        Row::new("Local Volumes", &volumes),
    ];
    let format = Format::parse(args.format.as_deref().unwrap_or_default(), COLUMNS);
    print!("{}", render(&rows, &format, &[], true)?);
    Ok(0)
}

fn images(engine: &Engine, now: SystemTime) -> anyhow::Result<Vec<Thing>> {
    let mut users: BTreeMap<String, usize> = BTreeMap::new();
    for listed in engine.list_containers(true) {
        *users.entry(listed.summary.image_id).or_default() += 1;
    }
    let thing = |image: &kelp_engine::image::list::Image| {
        let record = &image.record;
        let count = users.get(record.id.hex()).copied().unwrap_or(0);
        let created = record.created.as_deref();
        let created = created.and_then(|text| units::parse_time(text, now).ok());
        Thing {
            cells: vec![
                image
                    .names
                    .first()
                    .map_or("<none>", String::as_str)
                    .to_owned(),
                record.id.hex()[..12].to_owned(),
                created.map_or_else(String::new, |time| units::ago(time, now)),
                units::compact_size(record.size),
                count.to_string(),
            ],
            size: record.size,
            active: count > 0,
        }
    };
    Ok(engine.images()?.iter().map(thing).collect())
}

fn containers(engine: &Engine, now: SystemTime) -> anyhow::Result<Vec<Thing>> {
    let mut things = Vec::new();
    for listed in engine.list_containers(true) {
        let summary = &listed.summary;
        let inspection = engine.inspect_container(&summary.id)?;
        let size = engine.container_sizes(&inspection).written;
        things.push(Thing {
            cells: vec![
                summary.id.short().to_owned(),
                summary.image_name.clone(),
                summary.command.join(" "),
                units::compact_size(size),
                units::ago(summary.created, now),
                listed.status.to_string(),
                summary.name.clone(),
            ],
            size,
            active: matches!(listed.status, Status::Running | Status::Paused),
        });
    }
    Ok(things)
}

fn volumes(engine: &Engine) -> Vec<Thing> {
    let users = engine.volume_users();
    let volumes = engine.volumes();
    volumes
        .iter()
        .map(|volume| {
            let links = users
                .get(&volume.name)
                .map_or(0, std::collections::BTreeSet::len);
            let size = engine.volume_size(volume);
            Thing {
                cells: vec![
                    volume.name.clone(),
                    links.to_string(),
                    units::compact_size(size),
                ],
                size,
                active: links > 0,
            }
        })
        .collect()
}
