//! Killing a command at every step: before each system call that changes something, and with it
//! after the one before. strace(1) counts the calls and sends the signal, so no step is left out and
//! nothing for it is in kelp.
//!
//! A tracer takes setuid programs' privilege away, newuidmap's too. So a container lives meanwhile,
//! and the commands join its user namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::archive::Layer;
use crate::env::{Env, names};
use crate::image::{Image, static_busybox};
use crate::kelp::traced;
use crate::leaks;
use crate::skip::no_strace;

/// Calls that change what outlives a process: files, locks, processes, mounts, sockets.
pub(crate) const CALLS: &[&str] = &[
    "bind",
    "clone3",
    "execve",
    "fchmod",
    "fdatasync",
    "flock",
    "fsync",
    "ftruncate",
    "mkdir",
    "mkdirat",
    "openat",
    "rename",
    "renameat",
    "renameat2",
    "rmdir",
    "sendmsg",
    "symlink",
    "symlinkat",
    "syncfs",
    "unlink",
    "unlinkat",
    "write",
];

/// The container that keeps a user namespace.
const KEEPER: &str = "keeper";

/// Who is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    /// The command alone.
    Command,
    /// Whichever of the command, monitor, init, unpacker and remover makes that many calls first.
    Anybody,
}

/// A world with a keeper, in which commands are killed.
pub(crate) struct Scene {
    pub(crate) env: Env,
    /// A mount of the host's busybox.
    busybox: String,
    /// Whether there is no keeper.
    alone: bool,
}

impl Scene {
    /// One without a keeper, in which only the command itself can be killed: its newuidmap is not
    /// traced, and has its privilege.
    pub(crate) fn alone() -> Option<Self> {
        let scene = Self::new()?;
        let remove = ["rm", "-f", "-t", "0", KEEPER];
        scene.env.kelp(&remove).succeeds();
        Some(Self {
            alone: true,
            ..scene
        })
    }

    pub(crate) fn new() -> Option<Self> {
        let env = Env::new()?;
        if no_strace() {
            return None;
        }
        let keeper = env.busybox();
        let flags = ["run", "-d", "--network", "none", "--name", KEEPER];
        let command = [&flags[..], &[&keeper, "sleep", "1000000"]].concat();
        env.kelp(&command).succeeds();
        let busybox = static_busybox().unwrap();
        let busybox = format!("{}:/busybox:ro", busybox.display());
        Some(Self {
            env,
            busybox,
            alone: false,
        })
    }

    /// Another container that keeps a user namespace, with another map of ids.
    pub(crate) fn keep(&self, name: &str, userns: &str) {
        let image = self.env.busybox();
        let flags = ["run", "-d", "--network", "none", "--name", name];
        let map = ["--userns", userns, &image, "sleep", "1000000"];
        self.env.kelp(&[&flags[..], &map].concat()).succeeds();
    }

    /// A small image without a program, in the registry.
    pub(crate) fn small(&self) -> String {
        self.env.push("small", &|| {
            let mut system = Layer::default();
            for directory in ["proc", "dev", "sys", "etc"] {
                system = system.directory(directory, 0o755);
            }
            let layer = Layer::default().file("marker", 0o644, b"whole\n");
            Image::empty().layer(system).layer(layer)
        })
    }

    /// A command that makes a container of this image, which runs the host's busybox.
    pub(crate) fn container<'a>(
        &'a self,
        command: &[&'a str],
        image: &'a str,
        program: &[&'a str],
    ) -> Vec<&'a str> {
        let flags = ["--network", "none", "--pull", "never", "-v", &self.busybox];
        [command, &flags, &[image, "/busybox"], program].concat()
    }

    /// A container of this image finds what is in its layers.
    pub(crate) fn check(&self, name: &str, image: &str, step: &str) {
        let run = ["run", "--rm", "--name", name];
        let done = self
            .env
            .kelp(&self.container(&run, image, &["cat", "/marker"]))
            .done();
        assert_eq!(
            (done.code, done.stdout.as_str()),
            (0, "whole\n"),
            "{step}: {done:#?}"
        );
    }

    /// Runs `command` again and again, each time killed one step later, until it is not killed any
    /// more. Before each time comes `before`, after each time `after`, which gets told the step; now
    /// and then, and in the end, a prune has to leave nothing.
    pub(crate) fn each_step(
        &self,
        who: Who,
        command: &[&str],
        before: &dyn Fn(),
        after: &dyn Fn(&str),
    ) {
        // Most files are opened to be read; those steps are left out. What is made, is made at the
        // same place each time, but for the order of threads.
        before();
        let trace = self.traced(who, &["--trace=openat"], command);
        after("not killed");
        let creations = creations(&trace);
        let mut steps = 0;
        for call in CALLS {
            for number in 1_usize.. {
                if *call == "openat" && creations.last().is_some_and(|last| number <= *last) {
                    if !creations.contains(&number) {
                        continue;
                    }
                } else if *call == "openat" {
                    break;
                }
                before();
                let killed = self.run_killed(who, call, number, command);
                let step = format!("{who:?} {command:?} killed before {call} {number}");
                after(&step);
                // What several have left is collected as well.
                if !killed || number % 8 == 0 {
                    self.assert_clean(&step);
                }
                if !killed {
                    break;
                }
                steps += 1;
            }
        }
        self.assert_clean("all steps");
        assert!(steps > 0, "{command:?} was never killed");
    }

    /// Whether something was killed.
    fn run_killed(&self, who: Who, call: &str, number: usize, command: &[&str]) -> bool {
        let flags = [
            &format!("--trace={call}")[..],
            &format!("--inject={call}:signal=KILL:when={number}"),
        ];
        let trace = self.traced(who, &flags, command);
        trace.contains("+++ killed by SIGKILL +++")
    }

    /// Runs a command under strace; what that wrote.
    fn traced(&self, who: Who, flags: &[&str], command: &[&str]) -> String {
        let kelp = self.env.kelp(command).into_command();
        let trace = self.env.path("trace");
        let follows: &[&str] = if who == Who::Anybody { &["-f"] } else { &[] };
        let mut strace = traced(&kelp, &trace, &[follows, flags].concat());
        let mut child = strace.spawn().unwrap();
        crate::kelp::wait_status(&mut child, &format!("{command:?}"));
        fs::read_to_string(trace).unwrap()
    }

    /// Names and statuses of the containers but the keeper; it must not take long.
    pub(crate) fn list(&self, step: &str) -> Vec<(String, String)> {
        let start = Instant::now();
        let text = self
            .env
            .kelp(&["ps", "-a", "--format", "{{.Names}} {{.State}}"])
            .succeeds();
        assert!(start.elapsed() < Duration::from_secs(1), "{step}");
        let lines = text.lines().map(|line| {
            let (name, state) = line.split_once(' ').unwrap();
            (name.to_owned(), state.to_owned())
        });
        let (keepers, list): (Vec<_>, Vec<_>) =
            lines.partition(|(name, _)| name.starts_with(KEEPER));
        assert_eq!(keepers.is_empty(), self.alone, "{step}: {text}");
        assert!(
            keepers.iter().all(|(_, state)| state == "running"),
            "{step}: {text}"
        );
        list
    }

    /// Prunes, and fails if anything is left besides the keeper and images.
    fn assert_clean(&self, step: &str) {
        self.env.kelp(&["volume", "prune", "-f"]).done().exits(0);
        self.env.kelp(&["image", "prune", "-f"]).done().exits(0);
        let data = self.env.path("d/kelp");
        let runtime = self.env.path("r/kelp");
        let mut left = Vec::new();
        let keepers = names(&data.join("names"));
        let keepers = keepers.iter().filter(|name| name.starts_with(KEEPER));
        let keepers: Vec<_> = keepers
            .map(|name| fs::read_link(data.join("names").join(name)).unwrap())
            .map(|id| format!("kelp-{}", id.display()))
            .collect();
        for (directory, allowed) in [
            (data.join("tmp"), 0),
            (data.join("blobs/partial"), 0),
            (data.join("trash"), 0),
            (data.join("volumes"), 0),
            (data.join("pods"), 0),
            (data.join("containers"), keepers.len()),
            (data.join("names"), keepers.len()),
            (runtime.join("c"), keepers.len()),
        ] {
            let names = names(&directory);
            if names.len() > allowed {
                left.push(format!("{}: {names:?}", directory.display()));
            }
        }
        left.extend(self.stray_layers());
        for map in names(&runtime.join("userns")) {
            let map = runtime.join("userns").join(map);
            // A monitor removes its entry before it ends, which may be just now.
            let is_dead = |pid: &String| !Path::new("/proc").join(pid).exists();
            let dead = names(&map).into_iter().filter(is_dead);
            let dead = dead.filter(|pid| map.join(pid).exists());
            left.extend(dead.map(|pid| format!("user namespace of {pid}")));
        }
        let cgroups = leaks::cgroups_of(&data).into_iter();
        left.extend(cgroups.filter(|name| !keepers.contains(name)));
        assert!(left.is_empty(), "{step} left\n{}", left.join("\n"));
    }

    /// Layers and blobs that no image has.
    fn stray_layers(&self) -> Vec<String> {
        let data = self.env.path("d/kelp");
        let records: String = names(&data.join("images"))
            .iter()
            .map(|name| fs::read_to_string(data.join("images").join(name)).unwrap())
            .collect();
        let mut all = names(&data.join("blobs/sha256"));
        for map in names(&data.join("layers")) {
            let mut layers = names(&data.join("layers").join(map));
            // Says which map the layers of this directory are for, and stays where there are none.
            layers.retain(|name| name != "map");
            all.extend(layers);
        }
        let strange = |name: &String| !records.contains(name.trim_end_matches(".json"));
        all.into_iter().filter(strange).collect()
    }

    /// Waits for what a killed command has started, removes the keeper, and lets the environment
    /// look for leaks.
    pub(crate) fn end(self) {
        self.env.kelp(&["rm", "-f", "-t", "0", "-a"]).succeeds();
        self.assert_clean("the end");
    }
}

/// Which of a process's calls of openat(2) make a file or write one, counted in each process.
fn creations(trace: &str) -> BTreeSet<usize> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    let mut found = BTreeSet::new();
    for line in trace.lines() {
        let Some((process, call)) = line.split_once("openat(") else {
            continue;
        };
        let count = counts.entry(process).or_default();
        *count += 1;
        if ["O_CREAT", "O_WRONLY", "O_RDWR", "O_TRUNC"]
            .iter()
            .any(|flag| call.contains(flag))
        {
            found.insert(*count);
        }
    }
    found
}

mod artifacts;
pub(crate) mod combination;
mod image;
mod lists;
mod pods;
mod remover;
mod repair;
mod run;
pub(crate) mod store;
mod transports;
