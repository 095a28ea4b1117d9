//! The journal of events: what happens in a container's life, in podman's words and in this order; what is
//! asked for of it; and that nothing is lost or doubled where its file is rotated.

use std::fs::{self, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use std::sync::mpsc::{self, Receiver};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};

use crate::env::Env;
use crate::kelp::{LIMIT, wait_status};

fn actions(env: &Env, name: &str) -> String {
    let words = [
        "events",
        "--stream=false",
        &format!("--filter=container={name}"),
        "--format={{.Status}}",
    ];
    let lines = env.kelp(&words).succeeds();
    lines.lines().collect::<Vec<_>>().join(" ")
}

#[test]
fn a_life_is_told_in_podmans_words() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let run = ["run", "-d", "--network=none"];
    env.kelp(&[&run[..], &["--name=told", &image, "sleep", "1000"]].concat())
        .succeeds();
    for words in [
        &["exec", "told", "true"][..],
        &["pause", "told"],
        &["unpause", "told"],
        &["stop", "-t", "0", "told"],
        &["restart", "-t", "0", "told"],
        &[
            "export",
            "-o",
            env.path("told.tar").to_str().unwrap(),
            "told",
        ],
        &["kill", "told"],
        &["rm", "told"],
    ] {
        env.kelp(words).succeeds();
    }
    assert_eq!(
        actions(&env, "told"),
        "create init start exec exec_died pause unpause died cleanup stop init start restart export died cleanup \
         kill remove"
    );
    env.kelp(&[
        "run",
        "--rm",
        "--name=short",
        "--network=none",
        &image,
        "true",
    ])
    .succeeds();
    let told = actions(&env, "short");
    assert_eq!(told, "create init start died cleanup remove");
}

#[test]
fn filters_choose_and_alternatives_of_a_key_add_up() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let create = [
        "create",
        "--network=none",
        "--label=tier=front",
        "--name=told",
    ];
    env.kelp(&[&create[..], &["-v", "kept:/kept", &image]].concat())
        .succeeds();
    env.kelp(&["create", "--network=none", "--name=other", &image])
        .succeeds();
    env.kelp(&["tag", &image, "another:1"]).succeeds();
    let id = env.kelp(&["inspect", "-f", "{{.Id}}", "told"]).succeeds();
    let short = format!("container={}", &id[..12]);
    let by_image = format!("image={image}");
    for (filters, expected) in [
        (&["container=told"][..], "create told"),
        (&[&short], "create told"),
        (&["container=tol"], ""),
        (&["name=other"], "create other"),
        (&["label=tier=front"], "create told"),
        (&["label=tier"], "create told"),
        (&["label=tier=back"], ""),
        (&["type=volume"], "create kept"),
        (&["volume=kept"], "create kept"),
        (&["volume=told"], ""),
        (&["event=tag"], "tag another:1"),
        (&["status=tag"], "tag another:1"),
        (&["type=container", &by_image], "create told, create other"),
        (
            &["container=told", "container=other"],
            "create told, create other",
        ),
        (&["event=create", "type=volume"], "create kept"),
        (
            &["event=create", "event=tag", "type=image"],
            "tag another:1",
        ),
        (&["network=none"], ""),
        (&["pod=told"], ""),
    ] {
        let filters: Vec<_> = filters.iter().map(|it| format!("--filter={it}")).collect();
        let words: Vec<_> = filters.iter().map(String::as_str).collect();
        let events = ["events", "--stream=false", "--format={{.Status}} {{.Name}}"];
        let lines = env.kelp(&[&events[..], &words].concat()).succeeds();
        let lines = lines
            .lines()
            .map(|line| line.trim_start_matches("localhost/"));
        let lines: Vec<_> = lines.collect();
        let told = lines.join(", ").replace("localhost/", "");
        assert_eq!(told, expected, "{filters:?}");
    }
    let line = env
        .kelp(&["events", "--stream=false", "--filter=colour=red"])
        .fails(125);
    assert!(line.contains("colour"), "{line}");
    env.kelp(&["rm", "told", "other"]).succeeds();
}

/// The journal is rotated when it has this many bytes.
const LARGE: usize = 4 << 20;

/// A journal that is nearly full, again and again.
struct Full<'a> {
    env: &'a Env,
    /// Of an event, from before its volume's name, and after it.
    parts: [String; 2],
    /// The names of all volumes that were made, or are said to have been, in their order.
    names: Vec<String>,
}

impl<'a> Full<'a> {
    fn new(env: &'a Env) -> Self {
        env.kelp(&["volume", "create", "first"]).succeeds();
        let text = fs::read_to_string(env.path("d/kelp/events")).unwrap();
        let (before, after) = text.trim_end().split_once("first").unwrap();
        // An attribute is as long as it likes; no format below shows it.
        let padding = format!(
            ",\"attributes\":{{\"padding\":\"{}\"}}}}\n",
            "x".repeat(2000)
        );
        let after = after.strip_suffix('}').unwrap().to_owned() + &padding;
        Self {
            env,
            parts: [before.to_owned(), after],
            names: vec!["first".to_owned()],
        }
    }

    /// Fills the file up, but for the events of some volumes.
    fn fill(&mut self) {
        let path = self.env.path("d/kelp/events");
        let mut size = fs::metadata(&path).unwrap().len() as usize;
        let mut text = String::new();
        let [before, after] = &self.parts;
        while size + before.len() + after.len() < LARGE - 500 {
            let name = format!("v{}", self.names.len());
            let line = [before, name.as_str(), after].concat();
            size += line.len();
            text.push_str(&line);
            self.names.push(name);
        }
        let mut file = OpenOptions::new().append(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    /// Makes volumes until the file is rotated, and one more.
    fn rotate(&mut self) {
        let path = self.env.path("d/kelp/events");
        let mut last = false;
        for count in 0.. {
            assert!(count < 100, "it is not rotated");
            let name = format!("v{}", self.names.len());
            self.env.kelp(&["volume", "create", &name]).succeeds();
            self.names.push(name);
            if last {
                return;
            }
            last = !path.exists();
        }
    }

    /// Reads what is told of as many volumes as there are, from this one on.
    fn told(&self, lines: &Receiver<String>, from: usize) {
        for (number, name) in self.names.iter().enumerate().skip(from) {
            let line = lines.recv_timeout(LIMIT).unwrap();
            assert_eq!(line, format!("create {name}"), "{number}");
        }
    }
}

#[test]
fn a_rotation_loses_and_doubles_nothing() {
    let Some(env) = Env::new() else { return };
    let mut journal = Full::new(&env);
    journal.fill();
    let format = "--format={{.Status}} {{.Name}}";
    let events = ["events", "--since=1970-01-01T00:00:00Z", format];
    let mut follower = env.kelp(&events).into_command();
    let mut follower = follower.stdout(Stdio::piped()).spawn().unwrap();
    let output = BufReader::new(follower.stdout.take().unwrap());
    let (sender, lines) = mpsc::channel();
    thread::spawn(move || {
        let mut lines = output.lines();
        lines.try_for_each(|line| sender.send(line.unwrap()))
    });
    journal.told(&lines, 0);
    // While somebody follows.
    let known = journal.names.len();
    journal.rotate();
    journal.told(&lines, known);
    let both = env.kelp(&[&events[..], &["--stream=false"]].concat());
    let both = both.succeeds();
    let told = both.lines().map(|line| line.strip_prefix("create "));
    let told: Vec<_> = told.map(Option::unwrap).collect();
    assert!(
        told == journal.names,
        "{} of {}",
        told.len(),
        journal.names.len()
    );
    // While who follows does not run, and twice.
    let pid = Pid::from_child(&follower);
    kill_process(pid, Signal::STOP).unwrap();
    let known = journal.names.len();
    for _ in 0..2 {
        journal.fill();
        journal.rotate();
    }
    kill_process(pid, Signal::CONT).unwrap();
    journal.told(&lines, known);
    follower.kill().unwrap();
    wait_status(&mut follower, "events");
}
