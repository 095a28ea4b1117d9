//! The power fails at any moment while images and volumes are made and removed.
//!
//! In one boot commands work on a disk of their own, of which the virtual machine writes down every write
//! and every flush in their order; marks on it tell what has been reported done. Then the machine is killed
//! in the middle of more of it. In the next boot the disk is looked at as the kill has left it, and as a power
//! cut may have left it at other moments: with all that was flushed by then, and any part of what was
//! written after that, for a disk may write in any order.
//!
//! Each time all that was reported done has to be there, and whole; what was removed has to be gone, and
//! after a prune there is nothing that nobody refers to.

mod log;
mod mark;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::elsewhere;
use crate::env::{kelp_program, names};
use crate::kelp::{Done, Kelp, wait_until};
use crate::steps::{Chance, is_nightly};
use log::{Log, Replay};
use mark::{END, Expected, Mark};

/// Where the disk is mounted, by an entry of fstab(5) that lets the user do it.
const PLACE: &str = "/srv/power";
/// The disk that was written, as it was before that, and what was written.
const DISK: &str = "/dev/disk/by-id/virtio-power";
const BASE: &str = "/dev/disk/by-id/virtio-power-base";
const LOG: &str = "/dev/disk/by-id/virtio-power-log";
/// Where a disk is made; the second is what is mounted.
const FLUSHED: &str = "/tmp/power/flushed";
const STATE: &str = "/tmp/power/state";

/// The file that each image has and each volume gets, and what is in it.
const VOLUME: (&str, &str) = ("data/volume", "to be copied\n");

/// A command on the disk.
fn kelp(words: &[&str]) -> Kelp {
    let mut command = Command::new(kelp_program());
    command.args(words).stdin(Stdio::null());
    command.env("XDG_DATA_HOME", PLACE);
    Kelp::new(command)
}

/// What is written before the power fails, with some of it under way at its end.
#[test]
fn works() {
    if elsewhere() {
        return;
    }
    work::some(if is_nightly() { 12 } else { 2 });
}

/// The same without an end: until the power fails.
#[test]
fn goes_on() {
    if elsewhere() {
        return;
    }
    work::some(usize::MAX);
}

#[test]
fn what_was_reported_done_is_whole() {
    if elsewhere() {
        return;
    }
    let log = Log::read(LOG);
    let marks = mark::in_log(&log, DISK);
    let mut chance = Chance::new();
    let mut wrong = Vec::new();
    let mut look = |state: &str, marks: &[Mark], chance: &mut Chance| {
        mount();
        let problems = look_at(&Expected::after(marks), chance);
        unmount();
        if !problems.is_empty() {
            let last = &marks[marks.len().saturating_sub(6)..];
            let last: Vec<_> = last.iter().map(ToString::to_string).collect();
            let (problems, last) = (problems.join("\n"), last.join("\n"));
            wrong.push(format!("{state}\n{problems}\nafter\n{last}"));
        }
    };
    // The log may lack the end of what the disk has.
    let all: Vec<_> = marks.iter().map(|(_, mark)| mark.clone()).collect();
    let last = all.last().expect("something was done").time;
    let more = mark::on_disk(DISK);
    let more = more.into_iter().filter(|mark| mark.time > last);
    let all: Vec<_> = all.into_iter().chain(more).collect();
    log::copy(Path::new(DISK), Path::new(STATE));
    look("as the kill left it", &all, &mut chance);
    let end = marks.iter().position(|(_, mark)| mark.command == END);
    let points = moments(&marks[..=end.expect("an end")], &mut chance);
    let mut replay = Replay::new(&log, BASE, Path::new(FLUSHED));
    for &at in &points {
        replay.go_on(at);
        log::copy(Path::new(FLUSHED), Path::new(STATE));
        let copy = OpenOptions::new().write(true).open(STATE).unwrap();
        let state = replay.cut(at, &copy, &mut chance);
        drop(copy);
        let before = marks.iter().take_while(|(entry, _)| *entry < at).count();
        look(&state, &all[..before], &mut chance);
    }
    eprintln!("{} cuts before entry {:?}", points.len(), points.last());
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// When the power fails, in order: at any entry of the log, and as often just after a command was reported
/// done, when nobody else has synced yet what that did not.
fn moments(marks: &[(usize, Mark)], chance: &mut Chance) -> Vec<usize> {
    let (first, last) = (marks[0].0, marks[marks.len() - 1].0);
    let (any, after) = if is_nightly() { (99, 100) } else { (4, 5) };
    let any = chance.choose(last - first, any).into_iter();
    let mut points: Vec<_> = any.map(|number| first + number).collect();
    let done: Vec<_> = marks.iter().filter(|(_, mark)| mark.done).collect();
    for number in chance.choose(done.len(), after) {
        points.push(done[number - 1].0 + 1);
    }
    points.sort_unstable();
    points
}

fn mount() {
    let output = Command::new("mount").arg(STATE).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

fn unmount() {
    // What a container had mounted the kernel may let go of a moment after it ended.
    wait_until("the disk is let go", || {
        let output = Command::new("umount").arg(PLACE).output();
        output.unwrap().status.success()
    });
}

/// What is wrong with what is there.
fn look_at(expected: &Expected, chance: &mut Chance) -> Vec<String> {
    let mut wrong = check(&[]);
    let found = found(&mut wrong);
    wrong.extend(expected.judge(&found));
    if !wrong.is_empty() {
        return wrong;
    }
    let mut done = |words: &[&str]| {
        let done = kelp(words).done();
        if done.code != 0 || !done.stderr.is_empty() {
            wrong.push(format!("{done:#?}"));
        }
        done
    };
    done(&["system", "prune", "-f"]);
    let more = more_than(&found);
    let images = named(&found, "image ");
    if !images.is_empty() {
        let image = images[chance.below(images.len())];
        let volumes = named(&found, "volume ");
        let volume = volumes.first().map(|name| format!("{name}:/data"));
        let volume = volume.iter().flat_map(|volume| ["-v", volume]);
        let mut words = vec!["run", "--rm", "--network=none", "--pull=never"];
        words.extend(volume);
        words.extend([image, "cat", "/data/volume"]);
        let Done { stdout, .. } = done(&words);
        if stdout != VOLUME.1 {
            wrong.push(format!("{words:?}: {stdout:?}"));
        }
    }
    wrong.extend(more);
    wrong.extend(check(&["--quick"]));
    wrong
}

/// What `system check` has to say.
fn check(flags: &[&str]) -> Vec<String> {
    let done = kelp(&[&["system", "check"], flags].concat()).done();
    let whole = done.code == 0 && done.stdout.is_empty() && done.stderr.is_empty();
    if whole {
        Vec::new()
    } else {
        vec![format!("{done:#?}")]
    }
}

/// All that has a name, as claims tell it.
fn found(wrong: &mut Vec<String>) -> BTreeMap<String, String> {
    let mut list = |kind: &str, words: &[&str]| {
        let done = kelp(words).done();
        if done.code != 0 || !done.stderr.is_empty() {
            wrong.push(format!("{done:#?}"));
        }
        let lines = done.stdout.lines();
        let pairs = lines.filter_map(|line| line.split_once(' '));
        let named = pairs.filter(|(name, _)| *name != "<none>:<none>");
        let named = named.map(|(name, what)| {
            (
                format!("{kind} {name}"),
                what.trim_start_matches("sha256:").to_owned(),
            )
        });
        named.collect::<Vec<_>>()
    };
    let format = "--format={{.Repository}}:{{.Tag}} {{.ID}}";
    let mut all = list("image", &["images", "--no-trunc", format]);
    all.extend(list(
        "container",
        &["ps", "-a", "--format={{.Names}} {{.State}}"],
    ));
    let format = "--format={{.Name}} {{.Labels.round}}";
    all.extend(list("volume", &["volume", "ls", "-n", format]));
    all.into_iter().collect()
}

/// The names of one kind.
fn named<'a>(found: &'a BTreeMap<String, String>, kind: &str) -> Vec<&'a str> {
    let names = found.keys().filter_map(|about| about.strip_prefix(kind));
    names.collect()
}

/// What is there after a prune and what nothing refers to.
fn more_than(found: &BTreeMap<String, String>) -> Vec<String> {
    let data = PathBuf::from(PLACE).join("kelp");
    let mut known = BTreeSet::new();
    for record in names(&data.join("images")) {
        let record: serde_json::Value =
            serde_json::from_reader(File::open(data.join("images").join(record)).unwrap()).unwrap();
        collect(&record, &mut known);
    }
    let mut more = Vec::new();
    let mut look = |directory: &str, is_known: &dyn Fn(&str) -> bool| {
        let unknown = names(&data.join(directory));
        let unknown = unknown.into_iter().filter(|name| !is_known(name));
        more.extend(unknown.map(|name| format!("left over: {directory}/{name}")));
    };
    let nothing = |_: &str| false;
    for empty in [
        "tmp",
        "trash",
        "blobs/partial",
        "containers",
        "names",
        "ranges",
    ] {
        look(empty, &nothing);
    }
    for blobs in ["blobs/sha256", "blobs/sha512"] {
        look(blobs, &|name| known.contains(name));
    }
    for map in names(&data.join("layers")) {
        let of_layer = |name: &str| known.contains(name.trim_end_matches(".json"));
        look(&format!("layers/{map}"), &|name| {
            name == "map" || of_layer(name)
        });
    }
    let volumes = named(found, "volume ");
    look("volumes", &|name| volumes.contains(&name));
    more
}

/// Digests that a document names.
fn collect(document: &serde_json::Value, digests: &mut BTreeSet<String>) {
    match document {
        serde_json::Value::String(text) => {
            let hex = text.strip_prefix("sha256:");
            digests.extend(hex.map(str::to_owned));
        }
        serde_json::Value::Array(parts) => parts.iter().for_each(|part| collect(part, digests)),
        serde_json::Value::Object(parts) => parts.values().for_each(|part| collect(part, digests)),
        _ => {}
    }
}
