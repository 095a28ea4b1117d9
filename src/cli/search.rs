//! `kelp search`: images of registries.

use anyhow::bail;
use kelp_engine::Engine;
use kelp_engine::image::registry::AccessRequest;
use kelp_engine::image::search::Found;
use kelp_format::render::json;
use kelp_format::{Format, render};
use serde::Serialize;
use serde_json::json as value;

use super::output;
use super::pull_flags::AccessFlags;
use super::selection::report;

/// Characters of a description that are shown.
const DESCRIPTION: usize = 44;

/// Search registries for images
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    access: AccessFlags,
    /// Credentials for the registry: USER:PASSWORD
    #[arg(long, value_name = "USER:PASSWORD")]
    creds: Option<String>,
    /// Show stars, and what is official or automated, as well
    #[arg(long)]
    compatible: bool,
    /// Show images that fit: stars=NUMBER, is-official=BOOL or is-automated=BOOL
    #[arg(short, long, value_parser = filter, value_name = "KEY=VALUE")]
    filter: Vec<Filter>,
    /// json, or a Go template of Index, Name, Description, Stars, Official, Automated or Tag
    #[arg(long)]
    format: Option<String>,
    /// How many results of each registry
    #[arg(long, default_value_t = 25, value_name = "NUMBER", value_parser = clap::value_parser!(u64).range(1..))]
    limit: u64,
    /// List the tags of a repository
    #[arg(long)]
    list_tags: bool,
    /// Show whole descriptions
    #[arg(long)]
    no_trunc: bool,
    /// What is searched for, or with a registry before it, where
    term: String,
}

/// What a result must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filter {
    Stars(u64),
    Official(bool),
    Automated(bool),
}

/// A result to templates.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    index: String,
    name: String,
    description: String,
    stars: u64,
    official: &'static str,
    automated: &'static str,
    tag: String,
}

/// Runs it; the exit code.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let mut request = args.access.request();
    request.credentials.clone_from(&args.creds);
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    if args.list_tags {
        if !args.filter.is_empty() {
            bail!("filters are not applicable to list tags result");
        }
        return list_tags(engine, args, limit, &request);
    }
    let results = engine.search_images(&args.term, limit, &request)?;
    let fits = |found: &Found| {
        args.filter.iter().all(|filter| match *filter {
            Filter::Stars(stars) => found.stars >= stars,
            Filter::Official(official) => found.is_official == official,
            Filter::Automated(automated) => found.is_automated == automated,
        })
    };
    let found = results.found.into_iter().filter(fits);
    let rows: Vec<_> = found.map(|found| row(found, args.no_trunc)).collect();
    let columns = if args.compatible {
        "{{.Name}}\t{{.Description}}\t{{.Stars}}\t{{.Official}}\t{{.Automated}}"
    } else {
        "{{.Name}}\t{{.Description}}"
    };
    let format = Format::parse(args.format.as_deref().unwrap_or_default(), columns);
    if format == Format::Json {
        output::line(json(&rows)?)?;
    } else if !rows.is_empty() {
        output::text(render(&rows, &format, &[], true)?)?;
    }
    Ok(report(
        engine,
        results
            .errors
            .into_iter()
            .map(kelp_engine::Error::from)
            .collect(),
    ))
}

fn list_tags(
    engine: &Engine,
    args: &Args,
    limit: usize,
    request: &AccessRequest,
) -> anyhow::Result<i32> {
    let (name, tags) = engine.remote_tags(&args.term, limit, request)?;
    let format = Format::parse(
        args.format.as_deref().unwrap_or_default(),
        "{{.Name}}\t{{.Tag}}",
    );
    if format == Format::Json {
        output::line(json(&[value!({ "Name": name, "Tags": tags })])?)?;
        return Ok(0);
    }
    let rows: Vec<_> = tags
        .into_iter()
        .map(|tag| {
            let found = Found {
                name: name.clone(),
                ..Found::default()
            };
            Row {
                tag,
                ..row(found, true)
            }
        })
        .collect();
    if !rows.is_empty() {
        output::text(render(&rows, &format, &[], true)?)?;
    }
    Ok(0)
}

fn row(found: Found, whole: bool) -> Row {
    let mark = |is: bool| if is { "[OK]" } else { "" };
    let description = if whole || found.description.chars().count() <= DESCRIPTION {
        found.description
    } else {
        let start: String = found.description.chars().take(DESCRIPTION).collect();
        format!("{start}...")
    };
    Row {
        index: found.registry,
        name: found.name,
        description,
        stars: found.stars,
        official: mark(found.is_official),
        automated: mark(found.is_automated),
        tag: String::new(),
    }
}

fn filter(text: &str) -> Result<Filter, String> {
    let (key, value) = text.split_once('=').unwrap_or((text, "true"));
    let answer = || {
        let wrong = || format!("{key} is true or false, and not {value:?}");
        kelp_args::boolean(value).ok_or_else(wrong)
    };
    match key {
        "stars" => match value.parse() {
            Ok(stars) => Ok(Filter::Stars(stars)),
            Err(_) => Err(format!("stars is a number, and not {value:?}")),
        },
        "is-official" => answer().map(Filter::Official),
        "is-automated" => answer().map(Filter::Automated),
        _ => Err(format!(
            "invalid filter {text:?}: use stars, is-official or is-automated"
        )),
    }
}
