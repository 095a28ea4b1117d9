//! `kelp events`: what happened, and what happens.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::UNIX_EPOCH;

use kelp_engine::Engine;
use kelp_engine::events::{Event, EventRequest};
use kelp_format::filter::{Field, Filters, Key, Match};
use kelp_format::{render, units};
use serde::Serialize;

use super::image_filter::is_short_for;
use super::output::Patient;
use super::time_argument;

/// Show events
#[derive(clap::Args)]
pub struct Args {
    /// Only events for which this holds: container, event, image, label, name, type, volume
    #[arg(short, long, value_name = "FILTER")]
    filter: Vec<String>,
    /// json, or a Go template
    #[arg(long)]
    format: Option<String>,
    /// Show whole ids
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    no_trunc: Option<bool>,
    /// Only what happened since TIME, or for a span such as 10m, since so long ago
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Go on with what happens from now on
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    stream: Option<bool>,
    /// Only what happened until TIME, and end then
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
}

const KEYS: &[Key] = &[
    ("container", Match::Own),
    ("event", Match::Exact),
    ("status", Match::Exact),
    ("image", Match::Own),
    ("label", Match::Label),
    ("name", Match::Exact),
    ("network", Match::Own),
    ("pod", Match::Own),
    ("type", Match::Exact),
    ("volume", Match::Own),
];

/// Runs it; the exit code.
pub fn run(engine: &Engine, args: &Args) -> anyhow::Result<i32> {
    let time = |text: &Option<String>| {
        text.as_deref()
            .map(time_argument::parse)
            .transpose()
            .map_err(anyhow::Error::msg)
    };
    let request = EventRequest {
        since: time(&args.since)?,
        until: time(&args.until)?,
        follow: args.stream.unwrap_or(true),
    };
    let filters = Filters::parse(&args.filter, KEYS).map_err(anyhow::Error::new)?;
    let whole_ids = args.no_trunc.unwrap_or(true);
    let mut bad_template = None;
    engine.read_events(&request, |event| {
        if !fits(&filters, event) {
            return Ok(());
        }
        let line = match args.format.as_deref() {
            None => human(event, whole_ids),
            Some("json") => serde_json::to_string(&Row::new(event))?,
            Some(template) => match render::object(&fields(event), template) {
                Ok(line) => line,
                Err(error) => {
                    bad_template = Some(error);
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
            },
        };
        Patient(rustix::stdio::stdout()).write_all((line + "\n").as_bytes())
    })?;
    match bad_template {
        Some(error) => Err(error.into()),
        None => Ok(0),
    }
}

/// For templates: what an event lacks is empty there, and no error.
fn fields(event: &Event) -> serde_json::Value {
    let mut value = serde_json::json!({"Attributes": {}, "ContainerExitCode": "", "ID": "", "Image": "",
            "Error": "", "HealthStatus": "", "HealthFailingStreak": 0, "HealthLog": "", "Network": "", "PodID": ""});
    if let (Some(all), Ok(serde_json::Value::Object(own))) =
        (value.as_object_mut(), serde_json::to_value(Row::new(event)))
    {
        all.extend(own);
        let nanoseconds = all.get("timeNano").cloned().unwrap_or_default();
        all.insert("TimeNano".to_owned(), nanoseconds);
    }
    value
}

fn fits(filters: &Filters, event: &Event) -> bool {
    let of = |kind: &str, value: &str| {
        event.kind == kind && (event.name == value || event.id.starts_with(value))
    };
    filters.matches(|key, value| match key {
        "event" | "status" => Field::Text(&event.action),
        "type" => Field::Text(&event.kind),
        "name" => Field::Text(&event.name),
        "label" => Field::Map(&event.attributes),
        // An image is named by containers as well as by itself.
        "image" => Field::Answer(of(key, value) || is_short_for(value, &event.image)),
        _ => Field::Answer(of(key, value)),
    })
}

/// podman's line: time, type, event, id and what else is known.
fn human(event: &Event, whole_ids: bool) -> String {
    let id = match event.id.get(..12) {
        Some(short) if !whole_ids => short,
        _ => &event.id,
    };
    let time = units::go_time(event.time);
    let head = format!("{time} {} {}", event.kind, event.action);
    match event.kind.as_str() {
        "container" | "pod" => {
            let mut line = format!("{head} {id} (image={}, name={}", event.image, event.name);
            if !event.pod.is_empty() {
                line.push_str(&[", pod_id=", &event.pod].concat());
            }
            if !event.health_status.is_empty() {
                let streak = event.health_failing_streak.to_string();
                for (key, value) in [
                    ("health_status", &event.health_status),
                    ("health_failing_streak", &streak),
                    ("health_log", &event.health_log),
                ] {
                    line.push_str(&[", ", key, "=", value].concat());
                }
            }
            for (key, value) in &event.attributes {
                line.push_str(&[", ", key, "=", value].concat());
            }
            line.push(')');
            line
        }
        "secret" => format!("{head} {id}"),
        "image" if event.error.is_empty() => format!("{head} {id} {}", event.name),
        "image" => format!("{head} {id} {} {}", event.name, event.error),
        _ => format!("{head} {}", event.name).trim_end().to_owned(),
    }
}

/// An event as JSON and to templates.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Row<'a> {
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    attributes: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container_exit_code: Option<i32>,
    #[serde(skip_serializing_if = "str::is_empty")]
    error: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    health_status: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    health_failing_streak: Option<u32>,
    #[serde(skip_serializing_if = "str::is_empty")]
    health_log: &'a str,
    #[serde(rename = "ID", skip_serializing_if = "str::is_empty")]
    id: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    image: &'a str,
    name: &'a str,
    #[serde(rename = "PodID", skip_serializing_if = "str::is_empty")]
    pod: &'a str,
    status: &'a str,
    time: String,
    #[serde(rename = "time")]
    seconds: u64,
    #[serde(rename = "timeNano")]
    nanoseconds: u64,
    #[serde(rename = "Type")]
    kind: &'a str,
}

impl<'a> Row<'a> {
    fn new(event: &'a Event) -> Self {
        let since = event.time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            attributes: &event.attributes,
            container_exit_code: event.exit_code,
            error: &event.error,
            health_status: &event.health_status,
            health_failing_streak: Some(event.health_failing_streak).filter(|&streak| streak > 0),
            health_log: &event.health_log,
            id: &event.id,
            image: &event.image,
            name: &event.name,
            pod: &event.pod,
            status: &event.action,
            time: units::rfc3339_local(event.time),
            seconds: since.as_secs(),
            nanoseconds: u64::try_from(since.as_nanos()).unwrap_or(u64::MAX),
            kind: &event.kind,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn event() -> Event {
        Event {
            time: UNIX_EPOCH + Duration::new(1_767_366_245, 999_999_999),
            image: "docker.io/library/alpine:latest".to_owned(),
            attributes: BTreeMap::from([("a".to_owned(), "b".to_owned())]),
            ..Event::now("container", "start", &"0123456789abcdef".repeat(4), "web")
        }
    }

    #[test]
    fn a_line_is_podmans() {
        let line = human(&event(), false);
        let (_, line) = line.split_once(" container ").unwrap();
        assert_eq!(
            line,
            "start 0123456789ab (image=docker.io/library/alpine:latest, name=web, a=b)"
        );
        let failed = Event {
            error: "no route".to_owned(),
            ..Event::now("image", "pull-error", "", "h/a")
        };
        assert!(human(&failed, true).ends_with(" image pull-error  h/a no route"));
        let volume = Event::now("volume", "create", "", "data");
        assert!(human(&volume, true).ends_with(" volume create data"));
    }

    #[test]
    fn filters_choose() {
        for (filters, expected) in [
            (&["container=web"][..], true),
            (&["container=0123456789"], true),
            (&["container=other"], false),
            (&["container=other", "container=web"], true),
            (&["event=start"], true),
            (&["event=start", "container=other"], false),
            (&["image=alpine"], true),
            (&["image=alpine:latest"], true),
            (&["image=library/alpine"], true),
            (&["image=pine"], false),
            (&["type=container"], true),
            (&["type=image"], false),
            (&["volume=web"], false),
            (&["label=a=b"], true),
            (&["label=a"], true),
            (&["label=b"], false),
        ] {
            let parsed = Filters::parse(filters, KEYS).unwrap();
            assert_eq!(fits(&parsed, &event()), expected, "{filters:?}");
        }
        assert!(Filters::parse(&["nothing=x"], KEYS).is_err());
    }
}
