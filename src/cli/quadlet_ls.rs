//! `kelp quadlet list`.

use anyhow::bail;
use kelp_engine::Engine;
use kelp_format::render::json;
use kelp_format::{Format, render};
use kelp_quadlet::{Source, load, store};
use serde_json::{Value, json};

use super::{output, quadlet};

/// List Quadlet files
#[derive(clap::Args)]
pub struct Args {
    /// Show what fits: name=PATTERN, with * for anything and ? for a letter
    #[arg(short, long)]
    filter: Vec<String>,
    /// json, or a Go template
    #[arg(long)]
    format: Option<String>,
    /// Leave the heading out
    #[arg(short, long)]
    noheading: bool,
}

const HEADERS: &[(&str, &str)] = &[
    ("Name", "NAME"),
    ("UnitName", "UNIT NAME"),
    ("Path", "PATH ON DISK"),
    ("Status", "STATUS"),
    ("App", "APPLICATION"),
];

/// Prints the list.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let mut patterns = Vec::new();
    for filter in &args.filter {
        match filter.split_once('=') {
            Some(("name", pattern)) => patterns.push(pattern),
            _ => bail!("invalid filter {filter:?}: it is name=PATTERN"),
        }
    }
    let (directories, _) = quadlet::environment().directories();
    let (set, _) = load(&directories);
    let mut units: Vec<&Source> = set.iter().collect();
    units.retain(|unit| {
        patterns.is_empty() || patterns.iter().any(|pattern| fits(pattern, &unit.name))
    });
    units.sort_by_key(|unit| &unit.name);
    // One that is not there runs nothing.
    let mut systemd = engine.units().ok();
    let rows: Vec<Value> = units
        .iter()
        .map(|unit| {
            let service = format!("{}.service", unit.service());
            let state = systemd
                .as_mut()
                .and_then(|systemd| systemd.state(&service).ok());
            let app = store::application(&unit.path, &directories);
            json!({
                "Name": unit.name,
                "UnitName": service,
                "Path": unit.path.display().to_string(),
                "Status": state.flatten().unwrap_or_else(|| "Not loaded".to_owned()),
                "App": app.map(|app| app.name).unwrap_or_default(),
            })
        })
        .collect();
    let columns = "{{.Name}}\t{{.UnitName}}\t{{.Path}}\t{{.Status}}\t{{.App}}";
    let format = Format::parse(args.format.as_deref().unwrap_or_default(), columns);
    if format == Format::Json {
        output::line(json(&rows)?)?;
        return Ok(0);
    }
    let heading = !args.noheading;
    output::text(render(&rows, &format, HEADERS, heading)?)?;
    Ok(0)
}

/// Whether a name is as a shell's pattern says: `*` is anything, `?` one letter.
fn fits(pattern: &str, name: &str) -> bool {
    let mut letters = pattern.chars();
    match letters.next() {
        None => name.is_empty(),
        Some('*') => name
            .char_indices()
            .map(|(index, _)| index)
            .chain([name.len()])
            .any(|index| fits(letters.as_str(), &name[index..])),
        Some(letter) => {
            let mut rest = name.chars();
            rest.next()
                .is_some_and(|first| letter == '?' || first == letter)
                && fits(letters.as_str(), rest.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_chosen_as_by_a_shell() {
        for (pattern, name, expected) in [
            ("web.container", "web.container", true),
            ("web*", "web.container", true),
            ("*.pod", "web.container", false),
            ("w?b.*", "web.container", true),
            ("web", "web.container", false),
            ("*é", "café", true),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }
}
