//! `kelp ps`: the list of containers.

use std::io::{self, Write};
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::bail;
use kelp_engine::Engine;
use kelp_engine::container::list::Listed;
use kelp_format::filter::{Field, Filters, Key, Match};
use kelp_format::render::json;
use kelp_format::{Format, render, units};

use super::ps_row::{Json, Row};

/// List containers
#[derive(clap::Args)]
pub struct Args {
    /// Show containers that don't run as well
    #[arg(short, long)]
    all: bool,
    /// Show containers that fit: id, name, label, status, ancestor, before, since, until, exited,
    /// command, volume or network, as KEY=VALUE
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
    /// Show ids alone
    #[arg(short, long)]
    quiet: bool,
    /// Sort by command, created, id, image, names, runningfor or status
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
    Status,
}

const COLUMNS: &str =
    "{{.ID}}\t{{.Image}}\t{{.Command}}\t{{.Created}}\t{{.Status}}\t{{.Ports}}\t{{.Names}}";
const NAMESPACE_COLUMNS: &str = "{{.ID}}\t{{.Names}}\t{{.Pid}}\t{{.CGROUPNS}}\t{{.IPC}}\t{{.MNT}}\t{{.NET}}\t{{.PIDNS}}\t{{.USERNS}}\t{{.UTS}}";

const HEADERS: &[(&str, &str)] = &[
    ("ID", "CONTAINER ID"),
    ("ImageID", "IMAGE ID"),
    ("CreatedAt", "CREATED AT"),
    ("CreatedHuman", "CREATED"),
    ("StartedAt", "STARTED"),
    ("ExitedAt", "EXITED"),
    ("ExitCode", "EXIT CODE"),
    ("PodName", "POD NAME"),
    ("RunningFor", "CREATED"),
    ("CGROUPNS", "CGROUPNS"),
    ("PIDNS", "PIDNS"),
    ("USERNS", "USERNS"),
    ("AutoRemove", "AUTOREMOVE"),
    ("IsInfra", "ISINFRA"),
    ("Restarts", "RESTARTS"),
];

const KEYS: &[Key] = &[
    ("id", Match::Prefix),
    ("name", Match::Regex),
    ("label", Match::Label),
    ("status", Match::Exact),
    ("exited", Match::Exact),
    ("ancestor", Match::Own),
    ("before", Match::Own),
    ("since", Match::Own),
    ("until", Match::Own),
    ("command", Match::Exact),
    ("volume", Match::Exact),
    ("network", Match::Exact),
];

/// Prints the list.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let _ = args.sync;
    if args.pod {
        bail!("kelp has no pods yet: leave --pod out");
    }
    let Some(seconds) = args.watch else {
        print!("{}", text(engine, args)?);
        return Ok(0);
    };
    loop {
        // Clears the screen and goes to its corner (console_codes(4)).
        print!("\x1b[2J\x1b[H{}", text(engine, args)?);
        io::stdout().flush()?;
        thread::sleep(Duration::from_secs(seconds.max(1).into()));
    }
}

fn text(engine: &Engine, args: &Args) -> anyhow::Result<String> {
    let now = SystemTime::now();
    let list = chosen(engine, args, now)?;
    if args.quiet {
        if args.format.is_some() {
            bail!("quiet and format cannot be used together");
        }
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
    let columns = if args.ns { NAMESPACE_COLUMNS } else { COLUMNS };
    let format = Format::parse(args.format.as_deref().unwrap_or_default(), columns);
    if format == Format::Json {
        let rows: Vec<_> = list.iter().map(|listed| Json::new(listed, now)).collect();
        return Ok(json(&rows)? + "\n");
    }
    if is_json_of_row(&format) {
        let lines = list
            .iter()
            .map(|listed| serde_json::to_string(&Json::new(listed, now)).map(|line| line + "\n"));
        return Ok(lines.collect::<Result<_, _>>()?);
    }
    let rows: Vec<_> = list
        .iter()
        .map(|listed| Row::new(listed, now, args.no_trunc, args.ns))
        .collect();
    Ok(render(&rows, &format, HEADERS, !args.noheading)?)
}

/// `{{json .}}` means the object that `--format json` has in its list.
fn is_json_of_row(format: &Format) -> bool {
    matches!(format, Format::Template(text) if text.replace(' ', "") == "{{json.}}")
}

/// What is shown, in order.
fn chosen(engine: &Engine, args: &Args, now: SystemTime) -> anyhow::Result<Vec<Listed>> {
    let filters = Filters::parse(&args.filter, KEYS)?;
    let last = if args.latest { Some(1) } else { args.last };
    let all = args.all || last.is_some() || filters.has("status") || filters.has("exited");
    let mut list = engine.list_containers(all);
    if !filters.is_empty() {
        let limits = Limits::of(&filters, engine, now)?;
        list.retain(|listed| filters.matches(|key, value| field(listed, &limits, key, value)));
    }
    if let Some(last) = last {
        list.drain(..list.len().saturating_sub(last));
    }
    sort(&mut list, args.sort);
    Ok(list)
}

/// The times that `before`, `since` and `until` mean.
#[derive(Default)]
struct Limits {
    before: Option<SystemTime>,
    since: Option<SystemTime>,
    until: Option<SystemTime>,
}

impl Limits {
    fn of(filters: &Filters, engine: &Engine, now: SystemTime) -> anyhow::Result<Self> {
        let created = |name: &str| -> anyhow::Result<SystemTime> {
            let id = engine.find_container(name)?;
            Ok(engine.config(&id)?.created)
        };
        let until = filters
            .values("until")
            .map(|text| units::parse_time(text, now).map_err(anyhow::Error::msg))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let before = filters.values("before").map(created);
        let since = filters.values("since").map(created);
        Ok(Self {
            before: before
                .collect::<anyhow::Result<Vec<_>>>()?
                .into_iter()
                .max(),
            since: since.collect::<anyhow::Result<Vec<_>>>()?.into_iter().min(),
            until: until.into_iter().max(),
        })
    }
}

fn field<'a>(listed: &'a Listed, limits: &Limits, key: &str, value: &str) -> Field<'a> {
    let summary = &listed.summary;
    let created = summary.created;
    match key {
        "id" => Field::Text(summary.id.as_str()),
        "name" => Field::Text(&summary.name),
        "label" => Field::Map(&summary.labels),
        "status" => Field::Text(listed.status.as_str()),
        "command" => Field::Texts(
            summary
                .command
                .first()
                .map(String::as_str)
                .into_iter()
                .collect(),
        ),
        "exited" => {
            let code = listed.exit.as_ref().map(|exit| exit.code.to_string());
            Field::Answer(code.as_deref() == Some(value))
        }
        "volume" => Field::Answer(summary.options.mounts.iter().any(|mount| {
            let source = mount.source.as_deref();
            let is_named = source.and_then(Path::parent).is_some_and(|parent| {
                parent.ends_with(Path::new("volumes").join(value)) && !value.is_empty()
            });
            is_named || mount.destination == Path::new(value) || source == Some(Path::new(value))
        })),
        "network" => Field::Answer(super::ps_row::network(listed) == value),
        "ancestor" => Field::Answer(is_ancestor(&summary.image_name, &summary.image_id, value)),
        "before" => Field::Answer(limits.before.is_some_and(|limit| created < limit)),
        "since" => Field::Answer(limits.since.is_some_and(|limit| created > limit)),
        _ => Field::Answer(limits.until.is_some_and(|limit| created < limit)),
    }
}

/// Whether an image is what a user calls `wanted`: an id or the beginning of one, or a name with or
/// without registry and tag.
fn is_ancestor(name: &str, id: &str, wanted: &str) -> bool {
    let wanted_id = wanted.strip_prefix("sha256:").unwrap_or(wanted);
    if wanted_id.len() >= 3 && id.starts_with(wanted_id) {
        return true;
    }
    let bare = match name.rsplit_once(':') {
        Some((bare, tag)) if !tag.contains('/') => bare,
        _ => name,
    };
    [name, bare].iter().any(|whole| {
        whole
            .strip_suffix(wanted)
            .is_some_and(|before| before.is_empty() || before.ends_with('/'))
    })
}

fn sort(list: &mut [Listed], by: Sort) {
    match by {
        // The engine's order.
        Sort::Created | Sort::Runningfor => {}
        Sort::Command => list.sort_by(|a, b| a.summary.command.cmp(&b.summary.command)),
        Sort::Id => list.sort_by(|a, b| a.summary.id.cmp(&b.summary.id)),
        Sort::Image => list.sort_by(|a, b| a.summary.image_name.cmp(&b.summary.image_name)),
        Sort::Names => list.sort_by(|a, b| a.summary.name.cmp(&b.summary.name)),
        Sort::Status => list.sort_by_key(|listed| listed.status.as_str()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ancestors_are_names_and_ids() {
        let id = "0123456789abcdef";
        for (wanted, expected) in [
            ("docker.io/library/alpine:3.20", true),
            ("docker.io/library/alpine", true),
            ("alpine", true),
            ("library/alpine:3.20", true),
            ("pine", false),
            ("alpine:latest", false),
            ("0123", true),
            ("sha256:0123", true),
            ("01", false),
        ] {
            let is = is_ancestor("docker.io/library/alpine:3.20", id, wanted);
            assert_eq!(is, expected, "{wanted}");
        }
    }
}
