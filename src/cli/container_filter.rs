//! `--filter` of containers, which `ps` has and every command that acts on several.

use std::collections::HashMap;
use std::path::Path;
use std::time::SystemTime;

use kelp_args::RestartPolicy;
use kelp_engine::container::list::Listed;
use kelp_engine::{ContainerId, Engine, Health, Status};
use kelp_format::filter::{Field, Filters, Key, Match};
use kelp_format::units;

use super::image_filter::is_short_for;
use super::listed_ports::{Ports, exposed, published};
use super::ps_row::network;

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
    ("pod", Match::Own),
    ("publish", Match::Own),
    ("expose", Match::Own),
    ("health", Match::Exact),
    ("restart-policy", Match::Own),
    ("should-start-on-boot", Match::Own),
];

/// What podman and docker call states of containers. Some have none of kelp's in them.
const STATES: &[&str] = &[
    "configured",
    "created",
    "dead",
    "exited",
    "initialized",
    "paused",
    "removing",
    "restarting",
    "running",
    "stopped",
    "stopping",
    "unknown",
];

/// Reads the flag's values.
pub fn parse(texts: &[String]) -> anyhow::Result<Filters> {
    let filters = Filters::parse(texts, KEYS)?;
    if let Some(state) = filters
        .values("status")
        .find(|state| !STATES.contains(state))
    {
        anyhow::bail!(
            "unknown container state: {state}: use {}",
            STATES.join(", ")
        );
    }
    let healths = ["starting", "healthy", "unhealthy", "none"];
    if let Some(health) = filters
        .values("health")
        .find(|health| !healths.contains(health))
    {
        anyhow::bail!(
            "invalid filter value {health:?} for health: use {}",
            healths.join(", ")
        );
    }
    for text in filters.values("publish").chain(filters.values("expose")) {
        if Ports::parse(text).is_none() {
            anyhow::bail!("invalid filter value {text:?}: use PORT[-PORT][/PROTOCOL]");
        }
    }
    Ok(filters)
}

/// Keeps those containers that fit.
pub fn retain(
    engine: &Engine,
    filters: &Filters,
    list: &mut Vec<Listed>,
    now: SystemTime,
) -> anyhow::Result<()> {
    if !filters.is_empty() {
        let meant = Meant::of(filters, engine, now)?;
        list.retain(|listed| {
            filters.matches(|key, value| {
                let mut ports = published(&listed.summary.options.publish);
                match key {
                    "publish" => {}
                    "expose" => ports.extend(exposed(&listed.summary.exposed)),
                    _ => return field(engine, listed, &meant, key, value),
                }
                let wanted = Ports::parse(value);
                Field::Answer(
                    wanted.is_some_and(|wanted| ports.iter().any(|ports| ports.overlaps(&wanted))),
                )
            })
        });
    }
    Ok(())
}

/// The times that `before`, `since` and `until` mean, and the pods that have the names of `pod`.
#[derive(Default)]
struct Meant {
    before: Option<SystemTime>,
    since: Option<SystemTime>,
    until: Option<SystemTime>,
    pods: HashMap<String, ContainerId>,
}

impl Meant {
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
            // What is the name of none may be the beginning of ids.
            pods: filters
                .values("pod")
                .filter_map(|name| Some((name.to_owned(), engine.find_pod(name).ok()?)))
                .collect(),
        })
    }
}

fn field<'a>(
    engine: &Engine,
    listed: &'a Listed,
    meant: &Meant,
    key: &str,
    value: &str,
) -> Field<'a> {
    let summary = &listed.summary;
    let created = summary.created;
    match key {
        "id" => Field::Text(summary.id.as_str()),
        "name" => Field::Text(&summary.name),
        "label" => Field::Map(&summary.labels),
        "status" => match listed.status {
            Status::Exited => Field::Texts(vec!["exited", "stopped"]),
            Status::Created => Field::Texts(vec!["created", "configured"]),
            status => Field::Text(status.as_str()),
        },
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
            let volume = source.and_then(|source| engine.volume_of(source));
            volume == Some(value)
                || mount.destination == Path::new(value)
                || source == Some(Path::new(value))
        })),
        "health" => Field::Text(listed.health.map_or("none", Health::as_str)),
        "network" => Field::Answer(network(listed) == value),
        "pod" => Field::Answer(summary.options.pod.as_ref().is_some_and(|pod| {
            let named = meant.pods.get(value).map(ContainerId::as_str);
            pod.pod.starts_with(value) || named == Some(&pod.pod)
        })),
        "restart-policy" => {
            let policy = summary.options.restart.to_string();
            Field::Answer(policy.split(':').next() == Some(value) || policy == value)
        }
        "should-start-on-boot" => {
            Field::Answer(Some(starts_on_boot(listed)) == kelp_args::boolean(value))
        }
        "ancestor" => Field::Answer(is_ancestor(&summary.image_name, &summary.image_id, value)),
        "before" => Field::Answer(meant.before.is_some_and(|limit| created < limit)),
        "since" => Field::Answer(meant.since.is_some_and(|limit| created > limit)),
        _ => Field::Answer(meant.until.is_some_and(|limit| created < limit)),
    }
}

/// Whether an image is what a user calls `wanted`: an id or the beginning of one, or a name with or
/// without registry and tag.
fn is_ancestor(name: &str, id: &str, wanted: &str) -> bool {
    let wanted_id = wanted.strip_prefix("sha256:").unwrap_or(wanted);
    if wanted_id.len() >= 3 && id.starts_with(wanted_id) {
        return true;
    }
    is_short_for(wanted, name)
}

/// Whether it is for whoever starts containers after a boot.
fn starts_on_boot(listed: &Listed) -> bool {
    let exit = listed.exit.as_ref();
    match listed.summary.options.restart {
        RestartPolicy::Always => true,
        RestartPolicy::UnlessStopped => !exit.is_some_and(|exit| exit.stopped),
        // Where it runs when the machine goes down.
        RestartPolicy::OnFailure { .. } => match exit {
            Some(exit) => exit.interrupted,
            None => listed.status.can_kill(),
        },
        RestartPolicy::No => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_and_ports_that_are_none_are_refused() {
        for (text, right) in [
            ("status=running", true),
            ("status=stopped", true),
            ("status=bogus", false),
            ("publish=80", true),
            ("publish=8000-8010/udp", true),
            ("publish=80/x", false),
            ("expose=9-8", false),
            ("expose=http", false),
        ] {
            assert_eq!(parse(&[text.to_owned()]).is_ok(), right, "{text}");
        }
    }

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
