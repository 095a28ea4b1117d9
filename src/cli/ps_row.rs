//! A line of `kelp ps`, and an object of its JSON, both in podman's words.

use std::collections::BTreeMap;
use std::fs;
use std::time::SystemTime;

use kelp_engine::container::inspect::Sizes;
use kelp_engine::container::list::Listed;
use kelp_engine::network::Mode;
use kelp_engine::pod::Membership;
use kelp_engine::{Engine, Status};
use kelp_format::units;
use serde::Serialize;

use super::listed_ports::{self, PortObject};

/// Longer commands are cut.
const COMMAND: usize = 17;

/// Seconds of the year 1: what Go writes for a time that never was.
const NEVER: i64 = -62_135_596_800;

/// A line: what a template sees.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Row {
    #[serde(rename = "ID")]
    id: String,
    image: String,
    #[serde(rename = "ImageID")]
    image_id: String,
    command: String,
    created: String,
    created_at: String,
    created_human: String,
    running_for: String,
    status: String,
    state: String,
    ports: String,
    exposed_ports: BTreeMap<u16, Vec<String>>,
    names: String,
    pid: u32,
    labels: BTreeMap<String, String>,
    mounts: String,
    networks: String,
    exit_code: i32,
    exited: bool,
    exited_at: i64,
    started_at: i64,
    auto_remove: bool,
    is_infra: bool,
    restarts: u32,
    size: String,
    pod: String,
    pod_name: String,
    #[serde(rename = "CIDFile")]
    cid_file: String,
    #[serde(flatten)]
    namespaces: BTreeMap<&'static str, String>,
    #[serde(rename = "Namespaces")]
    all_namespaces: BTreeMap<&'static str, String>,
}

/// An object of `--format json`.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct Json {
    auto_remove: bool,
    command: Vec<String>,
    created_at: String,
    #[serde(rename = "CIDFile")]
    cid_file: String,
    exited: bool,
    exited_at: i64,
    exit_code: i32,
    exposed_ports: Option<BTreeMap<u16, Vec<String>>>,
    id: String,
    image: String,
    #[serde(rename = "ImageID")]
    image_id: String,
    is_infra: bool,
    labels: Option<BTreeMap<String, String>>,
    mounts: Vec<String>,
    names: Vec<String>,
    namespaces: BTreeMap<&'static str, String>,
    networks: Vec<String>,
    pid: u32,
    pod: String,
    pod_name: String,
    ports: Option<Vec<PortObject>>,
    restarts: u32,
    size: Option<SizeObject>,
    started_at: i64,
    state: String,
    status: String,
    created: i64,
}

#[derive(Serialize)]
struct SizeObject {
    #[serde(rename = "rootFsSize")]
    root: u64,
    #[serde(rename = "rwSize")]
    written: u64,
}

impl From<Sizes> for SizeObject {
    fn from(sizes: Sizes) -> Self {
        Self {
            root: sizes.total,
            written: sizes.written,
        }
    }
}

impl Row {
    /// From the engine's.
    pub fn new(
        listed: &Listed,
        now: SystemTime,
        whole: bool,
        with_namespaces: bool,
        sizes: Option<Sizes>,
        pods: &PodNames,
    ) -> Self {
        let summary = &listed.summary;
        let (pod, pod_name) = pods.of(listed);
        let (created, ago) = (
            units::go_time(summary.created),
            units::ago(summary.created, now),
        );
        // That of an infra container is nobody's, and podman shows none.
        let mut command = if is_infra(listed) {
            String::new()
        } else {
            summary.command.join(" ")
        };
        let mut mounts = mounts(listed).join(",");
        if !whole {
            cut(&mut command, COMMAND);
            cut(&mut mounts, COMMAND);
        }
        let namespaces = namespaces(listed, with_namespaces);
        let id = if whole {
            summary.id.as_str()
        } else {
            summary.id.short()
        };
        let image_id = summary.image_id.get(..12).filter(|_| !whole);
        Self {
            id: id.to_owned(),
            image: summary.image_name.clone(),
            image_id: image_id.unwrap_or(&summary.image_id).to_owned(),
            command,
            created: created.clone(),
            created_at: created,
            created_human: ago.clone(),
            running_for: ago,
            status: status(listed, now),
            state: listed.status.to_string(),
            ports: listed_ports::text(summary),
            exposed_ports: listed_ports::exposed_protocols(summary),
            names: summary.name.clone(),
            pid: pid(listed),
            labels: summary.labels.clone(),
            mounts,
            networks: network(listed).to_owned(),
            exit_code: exit_code(listed),
            exited: listed.status == Status::Exited,
            exited_at: exited_at(listed),
            started_at: started_at(listed),
            auto_remove: summary.options.remove,
            is_infra: is_infra(listed),
            restarts: restarts(listed),
            size: sizes.map(size).unwrap_or_default(),
            pod: pod.get(..12).filter(|_| !whole).unwrap_or(pod).to_owned(),
            pod_name: pod_name.to_owned(),
            cid_file: cid_file(listed),
            all_namespaces: namespaces.clone(),
            namespaces,
        }
    }
}

impl Json {
    /// From the engine's.
    pub fn new(listed: &Listed, now: SystemTime, sizes: Option<Sizes>, pods: &PodNames) -> Self {
        let summary = &listed.summary;
        let (pod, pod_name) = pods.of(listed);
        let networks = match network(listed) {
            "host" | "none" | "" => Vec::new(),
            name => vec![name.to_owned()],
        };
        let exposed = listed_ports::exposed_protocols(summary);
        Self {
            auto_remove: summary.options.remove,
            command: summary.command.clone(),
            created_at: units::ago(summary.created, now),
            cid_file: cid_file(listed),
            exited: listed.status == Status::Exited,
            exited_at: exited_at(listed),
            exit_code: exit_code(listed),
            exposed_ports: (!exposed.is_empty()).then_some(exposed),
            id: summary.id.to_string(),
            image: summary.image_name.clone(),
            image_id: summary.image_id.clone(),
            is_infra: is_infra(listed),
            labels: (!summary.labels.is_empty()).then(|| summary.labels.clone()),
            mounts: mounts(listed),
            names: vec![summary.name.clone()],
            namespaces: BTreeMap::new(),
            networks,
            pid: pid(listed),
            pod: pod.to_owned(),
            pod_name: pod_name.to_owned(),
            ports: listed_ports::objects(&summary.options.publish),
            restarts: restarts(listed),
            size: sizes.map(SizeObject::from),
            started_at: started_at(listed),
            state: listed.status.to_string(),
            status: status(listed, now),
            created: seconds(summary.created),
        }
    }
}

/// `12kB (virtual 3.4MB)`.
fn size(sizes: Sizes) -> String {
    let (written, total) = (
        units::docker_size(sizes.written),
        units::docker_size(sizes.total),
    );
    format!("{written} (virtual {total})")
}

fn is_infra(listed: &Listed) -> bool {
    let pod = listed.summary.options.pod.as_ref();
    pod.is_some_and(Membership::is_infra)
}

/// The names of the pods that containers are in.
#[derive(Default)]
pub struct PodNames(BTreeMap<String, String>);

impl PodNames {
    /// Looks for those of a list.
    pub fn look_up(engine: &Engine, list: &[Listed]) -> Self {
        let mut names = BTreeMap::new();
        for pod in list.iter().filter_map(|it| it.summary.options.pod.as_ref()) {
            names
                .entry(pod.pod.clone())
                .or_insert_with(|| engine.pod_name(&pod.pod).unwrap_or_default());
        }
        Self(names)
    }

    /// The id and the name of a container's pod; nothing for one that is in none.
    fn of(&self, listed: &Listed) -> (&str, &str) {
        let pod = listed.summary.options.pod.as_ref();
        let found = pod.and_then(|pod| self.0.get_key_value(&pod.pod));
        found.map_or(("", ""), |(id, name)| (id, name))
    }
}

/// How often it was started again by its restart policy.
pub fn restarts(listed: &Listed) -> u32 {
    let run = listed.run.as_ref().map(|run| run.restarts);
    let exit = listed.exit.as_ref().map(|exit| exit.restarts);
    run.or(exit).unwrap_or(0)
}

/// `Up 2 minutes`, `Exited (0) 3 seconds ago`, `Created`, `Paused`.
fn status(listed: &Listed, now: SystemTime) -> String {
    match (listed.status, &listed.run, &listed.exit) {
        (Status::Running, Some(run), _) => {
            let up = now.duration_since(run.started).unwrap_or_default();
            let mut text = format!("Up {}", units::span(up));
            if let Some(health) = listed.health {
                text.push_str(&[" (", health.as_str(), ")"].concat());
            }
            text
        }
        (Status::Exited, _, Some(exit)) => {
            format!("Exited ({}) {}", exit.code, units::ago(exit.finished, now))
        }
        (status, ..) => {
            let mut text = status.to_string();
            text[..1].make_ascii_uppercase();
            text
        }
    }
}

/// The network's name.
pub fn network(listed: &Listed) -> &str {
    match &listed.summary.options.namespaces.network {
        Some(Mode::Host) => "host",
        Some(Mode::None) => "none",
        Some(Mode::Pasta(_)) => "pasta",
        _ => "",
    }
}

fn mounts(listed: &Listed) -> Vec<String> {
    let mounts = listed.summary.options.mounts.iter();
    mounts
        .map(|mount| mount.destination.display().to_string())
        .collect()
}

fn pid(listed: &Listed) -> u32 {
    listed.run.as_ref().map_or(0, |run| run.pid)
}

fn exit_code(listed: &Listed) -> i32 {
    listed.exit.as_ref().map_or(0, |exit| exit.code)
}

fn exited_at(listed: &Listed) -> i64 {
    listed
        .exit
        .as_ref()
        .map_or(NEVER, |exit| seconds(exit.finished))
}

fn started_at(listed: &Listed) -> i64 {
    let ended = listed.exit.as_ref().and_then(|exit| exit.started);
    let started = listed.run.as_ref().map(|run| run.started);
    started.or(ended).map_or(NEVER, seconds)
}

fn cid_file(listed: &Listed) -> String {
    let file = &listed.summary.options.cid_file;
    file.as_ref()
        .map(|path| path.display().to_string())
        .unwrap_or_default()
}

fn seconds(time: SystemTime) -> i64 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs() as i64)
}

/// Cuts a text after `length` characters.
fn cut(text: &mut String, length: usize) {
    if let Some((end, _)) = text.char_indices().nth(length) {
        text.truncate(end);
        text.push_str("...");
    }
}

/// The numbers of a running container's namespaces; nothing for each where they are not looked for.
fn namespaces(listed: &Listed, look: bool) -> BTreeMap<&'static str, String> {
    const NAMES: &[(&str, &str)] = &[
        ("CGROUPNS", "cgroup"),
        ("IPC", "ipc"),
        ("MNT", "mnt"),
        ("NET", "net"),
        ("PIDNS", "pid"),
        ("USERNS", "user"),
        ("UTS", "uts"),
    ];
    let number = |file: &str| -> Option<String> {
        let run = listed.run.as_ref().filter(|_| look)?;
        let link = fs::read_link(format!("/proc/{}/ns/{file}", run.pid)).ok()?;
        let text = link.to_str()?;
        let digits = text.split_once('[')?.1.strip_suffix(']')?;
        Some(digits.to_owned())
    };
    NAMES
        .iter()
        .map(|(name, file)| (*name, number(file).unwrap_or_default()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_cut_between_characters() {
        let mut text = "ééééé".to_owned();
        cut(&mut text, 3);
        assert_eq!(text, "ééé...");
        let mut text = "abc".to_owned();
        cut(&mut text, 3);
        assert_eq!(text, "abc");
    }
}
