//! The journal of events: a JSON object a line, appended in one write.
//!
//! `events` is written, `events.1` is what came before it. Who finds the file large renames it, under
//! an flock(2) on it that nobody else ever takes; who has it open by then still writes to it, in
//! whole lines, so a reader looks at both.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::PathBuf;
use std::time::SystemTime;

use rustix::fs::{FlockOperation, OFlags, flock};
use serde::{Deserialize, Serialize};

use crate::Paths;

/// Bytes after which the journal is renamed away.
const LARGE: u64 = 4 << 20;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When.
    pub time: SystemTime,
    /// `container`, `image`, `pod`, `volume`, `system`.
    #[serde(rename = "type")]
    pub kind: String,
    /// podman's word: create, start, died, remove, pull, …
    pub action: String,
    /// The id of what it happened to.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub id: String,
    /// Its name.
    pub name: String,
    /// The image of a container.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub image: String,
    /// The exit code, of `died` and `exec_died`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// The id of the pod that a container is in.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub pod: String,
    /// What went wrong, of `pull-error`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub error: String,
    /// What a container's health is now, of `health_status`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub health_status: String,
    /// How often in a row its check has failed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub health_failing_streak: u32,
    /// The check that has just been made, as JSON, where such events are asked for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub health_log: String,
    /// Labels and the like.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde wants a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Event {
    /// Something that happens now, to something of this kind.
    pub fn now(kind: &str, action: &str, id: &str, name: &str) -> Self {
        Self {
            time: SystemTime::now(),
            kind: kind.to_owned(),
            action: action.to_owned(),
            id: id.to_owned(),
            name: name.to_owned(),
            image: String::new(),
            pod: String::new(),
            exit_code: None,
            error: String::new(),
            health_status: String::new(),
            health_failing_streak: 0,
            health_log: String::new(),
            attributes: BTreeMap::new(),
        }
    }
}

/// The journal's files, the older one first.
pub fn files(paths: &Paths) -> [PathBuf; 2] {
    [paths.data.join("events.1"), paths.data.join("events")]
}

/// Appends an event. The journal is no part of what it reports: a journal that can't be written,
/// as on a full disk, fails nothing.
pub fn append(paths: &Paths, event: &Event) {
    let _ = try_append(paths, event, LARGE);
}

fn try_append(paths: &Paths, event: &Event, large: u64) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .read(true)
        .append(true)
        .create(true)
        .mode(0o600)
        .custom_flags(OFlags::NOFOLLOW.bits() as i32)
        .open(paths.data.join("events"))?;
    let size = file.metadata()?.size();
    let mut line = Vec::new();
    if is_cut(&file, size)? {
        line.push(b'\n');
    }
    serde_json::to_writer(&mut line, event)?;
    line.push(b'\n');
    // One write(2): the kernel puts it behind what is there, and not into another's line.
    file.write_all(&line)?;
    if size + line.len() as u64 >= large {
        rotate(paths, &file)?;
    }
    Ok(())
}

/// Whether the last line was cut: the disk was full, or the machine lost its power. What comes next would
/// become part of it. A line that somebody writes at the same moment can look so: that makes an empty line,
/// which is no event.
fn is_cut(file: &File, size: u64) -> io::Result<bool> {
    let Some(last) = size.checked_sub(1) else {
        return Ok(false);
    };
    let mut byte = [0];
    Ok(file.read_at(&mut byte, last)? == 1 && byte != *b"\n")
}

fn rotate(paths: &Paths, file: &File) -> io::Result<()> {
    // Whoever has the lock does it.
    if flock(file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(());
    }
    let [old, current] = files(paths);
    // Unless it has been done, and the name is another file's by now.
    let ours = file.metadata()?;
    let named = match fs::metadata(&current) {
        // Done a moment ago, and nobody has written since.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        result => result?,
    };
    if (ours.dev(), ours.ino()) == (named.dev(), named.ino()) {
        fs::rename(current, old)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_after_a_line_that_was_cut_is_a_line() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths {
            data: root.path().to_owned(),
            runtime: root.path().to_owned(),
            config: root.path().to_owned(),
        };
        let [_, current] = files(&paths);
        for name in ["before", "cut"] {
            append(&paths, &Event::now("container", "start", "id", name));
        }
        let length = fs::metadata(&current).unwrap().size();
        let file = OpenOptions::new().write(true).open(&current).unwrap();
        file.set_len(length - 20).unwrap();
        for name in ["after", "last"] {
            append(&paths, &Event::now("container", "start", "id", name));
        }
        let text = fs::read_to_string(&current).unwrap();
        let names: Vec<_> = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Event>(line).ok())
            .map(|event| event.name)
            .collect();
        assert_eq!(names, ["before", "after", "last"]);
        assert_eq!(text.lines().count(), 4);
    }

    #[test]
    fn writers_at_once_lose_no_event_and_mix_no_line() {
        let root = tempfile::tempdir().unwrap();
        let paths = Paths {
            data: root.path().to_owned(),
            runtime: root.path().to_owned(),
            config: root.path().to_owned(),
        };
        let line = |number: usize| {
            let mut event = Event::now("container", "start", "id", &number.to_string());
            event.image = "x".repeat(number % 700);
            event
        };
        let length: usize = (0..400)
            .map(|number| serde_json::to_vec(&line(number)).unwrap().len() + 1)
            .sum();
        // One rotation, and no second one that would drop what the first has kept.
        let large = length as u64 * 2 / 3;
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (paths, line) = (&paths, &line);
                scope.spawn(move || {
                    for number in 0..100 {
                        try_append(paths, &line(thread * 100 + number), large).unwrap();
                    }
                });
            }
        });
        let mut names = Vec::new();
        for path in files(&paths) {
            let text = fs::read_to_string(path).unwrap();
            // An empty line is one that was being written when somebody looked whether it was cut.
            for line in text.lines().filter(|line| !line.is_empty()) {
                let event: Event = serde_json::from_str(line).unwrap();
                names.push(event.name.parse::<usize>().unwrap());
            }
        }
        names.sort_unstable();
        assert_eq!(names, (0..400).collect::<Vec<_>>());
    }
}
