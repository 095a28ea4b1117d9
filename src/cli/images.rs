//! `kelp images`: the images that are here.

use std::time::SystemTime;

use kelp_engine::Engine;
use kelp_format::{Format, render, units};
use serde::Serialize;
use serde_json::{Value, json};

use super::image_filter::{self, ImageFilter};
use super::output;

/// List images
#[derive(clap::Args)]
pub struct Args {
    /// Show images without a name that other images are made from as well
    #[arg(short, long)]
    all: bool,
    /// Show digests
    #[arg(long)]
    digests: bool,
    /// Show images that fit: id, label, reference, dangling, digest, before, since, until,
    /// readonly or containers, as KEY=VALUE
    #[arg(short, long)]
    filter: Vec<String>,
    /// json, table, or a Go template
    #[arg(long)]
    format: Option<String>,
    /// Leave the heading out
    #[arg(short = 'n', long)]
    noheading: bool,
    /// Show whole ids
    #[arg(long)]
    no_trunc: bool,
    /// Show ids alone
    #[arg(short, long)]
    quiet: bool,
    /// Sort by created, id, repository, size or tag
    #[arg(long, value_name = "KEY", default_value = "created")]
    sort: Sort,
    /// Show images with this name alone
    image: Option<String>,
}

/// What a list is sorted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Sort {
    Created,
    Id,
    Repository,
    Size,
    Tag,
}

/// A line of the list: an image under one of its names.
#[derive(Clone, Serialize)]
struct Row {
    #[serde(rename = "ID")]
    short_id: String,
    #[serde(rename = "Id")]
    id: String,
    #[serde(rename = "Repository")]
    repository: String,
    #[serde(rename = "Tag")]
    tag: String,
    #[serde(rename = "Digest")]
    digest: String,
    #[serde(rename = "Names")]
    names: Vec<String>,
    #[serde(rename = "RepoDigests")]
    repo_digests: Vec<String>,
    #[serde(rename = "Created")]
    created_ago: String,
    #[serde(rename = "CreatedSince")]
    created_since: String,
    #[serde(rename = "CreatedAt")]
    created_at: String,
    #[serde(rename = "Size")]
    size: String,
    #[serde(rename = "VirtualSize")]
    bytes: u64,
    #[serde(rename = "Labels")]
    labels: std::collections::BTreeMap<String, String>,
    #[serde(rename = "Dangling")]
    dangling: bool,
    #[serde(rename = "IsDangling")]
    is_dangling: bool,
    #[serde(rename = "Containers")]
    containers: usize,
    #[serde(rename = "CreatedTime")]
    created_time: String,
    #[serde(rename = "History")]
    history: Vec<String>,
    #[serde(rename = "RepoTags")]
    repo_tags: Vec<String>,
    #[serde(rename = "ParentId")]
    parent_id: &'static str,
    #[serde(rename = "SharedSize")]
    shared_size: u64,
    #[serde(rename = "ReadOnly")]
    read_only: bool,
    #[serde(rename = "IsReadOnly")]
    is_read_only: bool,
    #[serde(skip)]
    created: SystemTime,
}

/// What is shown where no format is asked for: every field of a row is made ready for its template, and
/// most of a long list's time went into those that nobody sees.
#[derive(Serialize)]
struct Brief<'a> {
    #[serde(rename = "Repository")]
    repository: &'a str,
    #[serde(rename = "Tag")]
    tag: &'a str,
    #[serde(rename = "Digest")]
    digest: &'a str,
    #[serde(rename = "ID")]
    id: &'a str,
    #[serde(rename = "Created")]
    created: &'a str,
    #[serde(rename = "Size")]
    size: &'a str,
    #[serde(rename = "ReadOnly")]
    read_only: bool,
}

impl<'a> Brief<'a> {
    fn of(row: &'a Row) -> Self {
        Self {
            repository: &row.repository,
            tag: &row.tag,
            digest: &row.digest,
            id: &row.short_id,
            created: &row.created_ago,
            size: &row.size,
            read_only: row.read_only,
        }
    }
}

impl Row {
    /// An object of `--format json`, whose sizes and times are numbers.
    fn json(&self) -> Value {
        let labels = (!self.labels.is_empty()).then_some(&self.labels);
        let created = self.created.duration_since(SystemTime::UNIX_EPOCH);
        json!({
            "Id": self.id,
            "ParentId": self.parent_id,
            "RepoTags": null,
            "RepoDigests": self.repo_digests,
            "Size": self.bytes,
            "SharedSize": self.shared_size,
            "VirtualSize": self.bytes,
            "Labels": labels,
            "Containers": self.containers,
            "Digest": self.digest,
            "History": self.history,
            "Names": self.names,
            "Created": created.unwrap_or_default().as_secs(),
            "CreatedAt": units::rfc3339(self.created),
            "ReadOnly": self.read_only,
        })
    }
}

const HEADERS: &[(&str, &str)] = &[
    ("ID", "IMAGE ID"),
    ("Id", "IMAGE ID"),
    ("Repository", "REPOSITORY"),
    ("Tag", "TAG"),
    ("Digest", "DIGEST"),
    ("Names", "NAMES"),
    ("Created", "CREATED"),
    ("CreatedSince", "CREATED"),
    ("CreatedAt", "CREATED AT"),
    ("Size", "SIZE"),
    ("ReadOnly", "R/O"),
    ("IsReadOnly", "R/O"),
];

/// Prints the list.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let filter = ImageFilter::new(engine, &args.filter)?;
    let mut rows = rows(engine, args.no_trunc, &filter, args.format.is_some())?;
    if let Some(name) = &args.image {
        rows.retain(|row| image_filter::is_named(&format!("{}:{}", row.repository, row.tag), name));
    }
    sort(&mut rows, args.sort);
    if args.quiet {
        rows.dedup_by(|one, other| one.id == other.id);
        for row in rows {
            output::line(row.short_id)?;
        }
        return Ok(0);
    }
    let default = if args.digests {
        "{{.Repository}}\t{{.Tag}}\t{{.Digest}}\t{{.ID}}\t{{.Created}}\t{{.Size}}"
    } else {
        "{{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.Created}}\t{{.Size}}"
    };
    let mut default = default.to_owned();
    if rows.iter().any(|row| row.read_only) {
        default.push_str("\t{{.ReadOnly}}");
    }
    let format = Format::parse(args.format.as_deref().unwrap_or_default(), &default);
    if format == Format::Json {
        let objects: Vec<_> = rows.iter().map(Row::json).collect();
        output::line(render::json(&objects)?)?;
        return Ok(0);
    }
    let heading = !args.noheading;
    let text = if args.format.is_some() {
        render(&rows, &format, HEADERS, heading)?
    } else {
        let brief: Vec<_> = rows.iter().map(Brief::of).collect();
        render(&brief, &format, HEADERS, heading)?
    };
    output::text(text)?;
    Ok(0)
}

fn rows(
    engine: &Engine,
    whole_ids: bool,
    filter: &ImageFilter,
    every_field: bool,
) -> anyhow::Result<Vec<Row>> {
    let now = SystemTime::now();
    let time = |time| {
        if every_field {
            units::go_time(time)
        } else {
            String::new()
        }
    };
    let used: Vec<_> = if every_field {
        let all = engine.containers().into_iter();
        all.map(|config| config.image_id).collect()
    } else {
        Vec::new()
    };
    let mut rows = Vec::new();
    let images = engine.images()?;
    let read_only = engine.read_only_images(&images)?;
    for image in images {
        if !filter.holds(&image) {
            continue;
        }
        let record = &image.record;
        let created = image_filter::created(&image);
        let ago = units::ago(created, now);
        let id = record.id.hex().to_owned();
        let row = Row {
            short_id: if whole_ids {
                format!("sha256:{id}")
            } else {
                id[..12].to_owned()
            },
            id,
            repository: "<none>".to_owned(),
            tag: "<none>".to_owned(),
            digest: record.manifest.to_string(),
            names: image.names.clone(),
            repo_digests: record.repo_digests.clone(),
            created_since: ago.clone(),
            created_ago: ago,
            created_at: time(created),
            size: units::size(record.size),
            bytes: record.size,
            labels: record.labels.clone(),
            dangling: image.names.is_empty(),
            is_dangling: image.names.is_empty(),
            containers: used.iter().filter(|used| **used == record.id.hex()).count(),
            created_time: time(created),
            history: image.names.clone(),
            repo_tags: image.names.clone(),
            parent_id: "",
            shared_size: 0,
            read_only: read_only.contains(record.id.hex()),
            is_read_only: read_only.contains(record.id.hex()),
            created,
        };
        if image.names.is_empty() {
            rows.push(row.clone());
        }
        for name in image.names.iter().filter(|name| filter.holds_name(name)) {
            let (repository, tag) = split(name);
            rows.push(Row {
                repository,
                tag,
                ..row.clone()
            });
        }
    }
    Ok(rows)
}

/// Repository and tag of a full name.
pub(super) fn split(name: &str) -> (String, String) {
    if let Some((repository, _)) = name.split_once('@') {
        return (repository.to_owned(), "<none>".to_owned());
    }
    match name.rsplit_once(':').filter(|(_, tag)| !tag.contains('/')) {
        Some((repository, tag)) => (repository.to_owned(), tag.to_owned()),
        None => (name.to_owned(), "<none>".to_owned()),
    }
}

fn sort(rows: &mut [Row], by: Sort) {
    match by {
        // The engine's order.
        Sort::Created => {}
        Sort::Id => rows.sort_by(|one, other| one.id.cmp(&other.id)),
        Sort::Repository => rows.sort_by(|one, other| one.repository.cmp(&other.repository)),
        Sort::Size => rows.sort_by_key(|row| row.bytes),
        Sort::Tag => rows.sort_by(|one, other| one.tag.cmp(&other.tag)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_split_at_the_tag() {
        for (name, repository, tag) in [
            ("localhost/a:b", "localhost/a", "b"),
            ("localhost:5000/a", "localhost:5000/a", "<none>"),
            ("h:5000/a:1", "h:5000/a", "1"),
            ("h/a@sha256:00", "h/a", "<none>"),
        ] {
            assert_eq!(split(name), (repository.to_owned(), tag.to_owned()));
        }
    }
}
