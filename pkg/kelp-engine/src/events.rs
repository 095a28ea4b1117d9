//! The journal of events: a JSON object a line, appended in one write.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::time::SystemTime;

use kelp_state::Paths;
use serde::{Deserialize, Serialize};

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub time: SystemTime,
    /// `container`, `image`, `volume`, `system`.
    #[serde(rename = "type")]
    pub kind: String,
    /// podman's word: create, init, start, died, remove, pull, …
    pub action: String,
    /// The id of what it happened to.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The image of a container.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// The exit code, of `died`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Labels and the like.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

/// Appends an event. The journal is no part of what it reports: a journal that can't be written,
/// as on a full disk, fails nothing.
pub fn append(paths: &Paths, event: &Event) {
    let Ok(mut line) = serde_json::to_vec(event) else {
        return;
    };
    line.push(b'\n');
    let file = OpenOptions::new()
        .append(true)
        .create(true)
        .mode(0o600)
        .open(paths.data.join("events"));
    if let Ok(mut file) = file {
        let _ = file.write_all(&line);
    }
}
