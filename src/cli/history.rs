//! `kelp history`: how an image came to be, step by step.

use std::time::SystemTime;

use kelp_engine::Engine;
use kelp_engine::image::history::Step;
use kelp_format::{Format, render, units};
use serde::Serialize;
use serde_json::{Value, json};

use super::output;

/// Show the history of an image
#[derive(clap::Args)]
pub struct Args {
    /// json, or a Go template
    #[arg(long)]
    format: Option<String>,
    /// Show spans of time and rounded sizes
    #[arg(short = 'H', long, default_value_t = true, action = clap::ArgAction::Set, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    human: bool,
    /// Show whole ids and commands
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    no_trunc: Option<bool>,
    /// Show only the ids
    #[arg(short, long)]
    quiet: bool,
    /// The image
    image: String,
}

/// A step to templates.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row {
    #[serde(rename = "ID")]
    id: String,
    created: String,
    created_at: String,
    created_since: String,
    created_by: String,
    size: String,
    comment: String,
    tags: Vec<String>,
}

const COLUMNS: &str = "{{.ID}}\t{{.Created}}\t{{.CreatedBy}}\t{{.Size}}\t{{.Comment}}";

const HEADERS: &[(&str, &str)] = &[("CreatedBy", "CREATED BY"), ("CreatedSince", "CREATED")];

/// Characters of a command that are shown.
const COMMAND: usize = 45;

/// Prints the steps, the last first.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let image = engine.image(&args.image)?;
    let steps = engine.image_history(&image)?;
    let whole = args.no_trunc.unwrap_or(false);
    let now = SystemTime::now();
    let format = Format::parse(args.format.as_deref().unwrap_or_default(), COLUMNS);
    if format == Format::Json {
        let objects: Vec<_> = steps.iter().map(|step| object(step, now)).collect();
        output::line(render::json(&objects)?)?;
        return Ok(0);
    }
    let rows: Vec<_> = steps
        .into_iter()
        .map(|step| row(step, args.human, whole, now))
        .collect();
    if args.quiet {
        for row in &rows {
            output::line(&row.id)?;
        }
        return Ok(0);
    }
    output::text(render(&rows, &format, HEADERS, true)?)?;
    Ok(0)
}

fn id(step: &Step) -> &str {
    step.id.as_deref().unwrap_or("<missing>")
}

/// When, in UTC and to the second, as podman shows it.
fn created_at(step: &Step, now: SystemTime) -> Option<(SystemTime, String)> {
    let time = units::parse_time(step.created.as_deref()?, now).ok()?;
    let text = units::rfc3339(time);
    let text = match text.split_once('.') {
        Some((whole, _)) => format!("{whole}Z"),
        None => text,
    };
    Some((time, text))
}

fn row(step: Step, human: bool, whole: bool, now: SystemTime) -> Row {
    let (since, created_at) = match created_at(&step, now) {
        Some((time, text)) if human => (units::ago(time, now), text),
        Some((_, text)) => (text.clone(), text),
        None => (String::new(), String::new()),
    };
    let id = match id(&step) {
        id if whole => id.to_owned(),
        id => id.chars().take(12).collect(),
    };
    Row {
        id,
        created: since.clone(),
        created_since: since,
        created_at,
        created_by: if whole {
            step.created_by
        } else {
            cut(&step.created_by)
        },
        size: if human {
            units::compact_size(step.size)
        } else {
            step.size.to_string()
        },
        comment: step.comment,
        tags: step.names,
    }
}

/// A command of at most so many characters.
fn cut(command: &str) -> String {
    if command.chars().count() <= COMMAND {
        return command.to_owned();
    }
    let start: String = command.chars().take(COMMAND - 3).collect();
    format!("{start}...")
}

/// In podman's words, of which two differ in their first letter alone.
fn object(step: &Step, now: SystemTime) -> Value {
    let mut object = json!({
        "id": id(step),
        "created": step.created,
        "Created": created_at(step, now).map(|(_, text)| text),
        "CreatedBy": step.created_by,
        "size": step.size,
    });
    if !step.names.is_empty() {
        object["tags"] = json!(step.names);
    }
    if !step.comment.is_empty() {
        object["comment"] = json!(step.comment);
    }
    object
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_shown_as_podman_does() {
        let now = units::parse_time("2026-01-08T00:00:00Z", SystemTime::now()).unwrap();
        let step = || Step {
            created: Some("2026-01-01T02:00:00.123456789+02:00".to_owned()),
            created_by: "/bin/sh -c #(nop) COPY file:b90192951ed9a05a1aa2946d in /s".to_owned(),
            size: 2048,
            ..Step::default()
        };
        let cut = row(step(), true, false, now);
        assert_eq!(
            (cut.id.as_str(), cut.created.as_str(), cut.size.as_str()),
            ("<missing>", "7 days ago", "2.05kB")
        );
        assert_eq!(
            cut.created_by,
            "/bin/sh -c #(nop) COPY file:b90192951ed9a0..."
        );
        let whole = row(step(), false, true, now);
        assert_eq!(whole.created, "2026-01-01T00:00:00Z");
        assert_eq!(
            (whole.size, whole.created_by),
            ("2048".to_owned(), step().created_by)
        );
    }
}
