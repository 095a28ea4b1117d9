//! Commands on images and volumes, killed at every call by which they change a file.
//!
//! Before each time the data directory is put back to what it was. After it:
//!
//! - what the command neither makes nor takes away is there, to the byte;
//! - a prune leaves what there was before the command or what there is after it, to the byte: so every image
//!   is whole or gone, and there is nothing else;
//! - the command can be repeated, on what the kill has left as well as after a prune, and then there is what
//!   there is after it.
//!
//! Everybody whom the command has started is traced, and has ended by then. A nightly run
//! (KELP_TEST_NIGHTLY) tries every call; any other some of them, by chance.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::archive::Layer;
use crate::env::{Env, mapped};
use crate::http;
use crate::image::{Image, static_busybox};
use crate::inventory::{self, Inventory};
use crate::kelp::Kelp;
use crate::steps::{self, Blow, Chance, Counted, is_nightly};

/// How many calls are tried by chance, of each command and for each blow; of those that are like others, fewer.
const SOME: usize = 10;
const FEW: usize = 4;

/// The name of a container that a command makes.
const VICTIM: &str = "victim";

/// A data directory that is put back again and again, and a container elsewhere that keeps a user namespace.
pub(crate) struct Bench {
    pub(crate) env: Env,
}

impl Bench {
    pub(crate) fn new() -> Option<Self> {
        if !cfg!(target_arch = "x86_64") {
            crate::skip::skip("x86_64, whose registers the tracer knows");
            return None;
        }
        let env = Env::new()?;
        let bench = Self { env };
        let image = bench.env.push("busybox", &Image::busybox);
        for directory in ["keeper", "out", "before"] {
            fs::create_dir(bench.env.path(directory)).unwrap();
        }
        let flags = ["run", "-d", "-q", "--network", "none", "--name", "keeper"];
        bench.keeper(&[&flags[..], &[&image, "sleep", "1000000"]].concat());
        Some(bench)
    }

    /// A command on the data directory of the container that keeps the namespace.
    fn keeper(&self, words: &[&str]) {
        let mut command = self.env.kelp(words).into_command();
        command.env("XDG_DATA_HOME", self.env.path("keeper"));
        Kelp::new(command).succeeds();
    }

    /// A command; what it writes goes below `out`.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = self.env.kelp(words).into_command();
        command.current_dir(self.env.path("out"));
        command
    }

    pub(crate) fn succeeds(&self, words: &[&str]) {
        Kelp::new(self.command(words)).succeeds();
    }

    /// What is there is what is put back from now on.
    pub(crate) fn keep(&self) {
        self.copy("d", "before");
    }

    pub(crate) fn put_back(&self) {
        self.copy("before", "d");
        let out = self.env.path("out");
        fs::remove_dir_all(&out).unwrap();
        fs::create_dir(out).unwrap();
    }

    /// By the ids that own what is in it.
    fn copy(&self, from: &str, to: &str) {
        let script = "rm -rf \"$2\"/* && cp -a \"$1\"/. \"$2\"";
        let status = mapped("sh")
            .args(["-c", script, "sh"])
            .args([self.env.path(from), self.env.path(to)])
            .status();
        assert!(status.unwrap().success());
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.env.path("d/kelp")
    }

    /// What is there, with the files that commands have written elsewhere.
    pub(crate) fn inventory(&self) -> Inventory {
        let mut all = inventory::of(&self.data());
        let out = inventory::of(&self.env.path("out"));
        all.extend(
            out.into_iter()
                .map(|(path, what)| (format!("out{path}"), what)),
        );
        all
    }

    /// Removes the container that a command has made, if it did: that is no image's matter.
    pub(crate) fn forget_container(&self) {
        self.succeeds(&["rm", "-f", "-i", "-t", "0", VICTIM]);
    }

    /// Collects what nothing refers to.
    pub(crate) fn prune(&self) {
        self.forget_container();
        Kelp::new(self.command(&["image", "prune", "-f"]))
            .done()
            .exits(0);
    }

    /// An image as [`Bench::push`] has it, of which there is then a copy here.
    pub(crate) fn pull(&self, name: &str, content: &str) -> String {
        let image = self.push(name, content);
        self.succeeds(&["pull", "-q", &image]);
        image
    }

    /// What killed commands leave.
    pub(crate) fn leave_garbage(&self) {
        for path in ["tmp/blob-left", "blobs/partial/0123"] {
            fs::write(self.data().join(path), "left").unwrap();
        }
    }

    /// A container `made` of an image, with a file that the image has not.
    pub(crate) fn make_container(&self, image: &str) {
        self.succeeds(&["create", "--network=none", "--name=made", image, "true"]);
        let file = self.env.path("h/file");
        fs::write(&file, "copied\n").unwrap();
        self.succeeds(&["cp", file.to_str().unwrap(), "made:/etc/copied"]);
    }

    /// A small image of two layers, the lower one of which all of them have: files of several owners, links.
    pub(crate) fn push(&self, name: &str, content: &str) -> String {
        let base = Layer::default()
            .directory("etc", 0o755)
            .file("etc/base", 0o644, b"of all\n")
            .hardlink("etc/other", "etc/base")
            .owned_directory("home", 0o755, (1000, 1000))
            .owned_file("home/file", 0o600, (1000, 1000), b"of a user\n");
        let base = ["dev", "proc", "sys"]
            .iter()
            .fold(base, |base, name| base.directory(name, 0o755));
        let base = base
            .directory("data", 0o755)
            .file("data/volume", 0o644, b"to be copied\n");
        let top = Layer::default()
            .directory("etc", 0o755)
            .file("marker", 0o644, content.as_bytes())
            .symlink("link", "marker")
            .whiteout("etc/other");
        let image = Image::empty().layer(base).layer(top);
        let registry = &self.env.registry().address;
        image.push(&http::Registry(registry), name, "latest");
        format!("{registry}/{name}:latest")
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        let _ = self
            .env
            .kelp(&["image", "prune", "-f"])
            .into_command()
            .output();
        let mut command = self
            .env
            .kelp(&["rm", "-f", "-t", "0", "keeper"])
            .into_command();
        let _ = command
            .env("XDG_DATA_HOME", self.env.path("keeper"))
            .output();
        let _ = mapped("rm")
            .arg("-rf")
            .args(["keeper", "before"].map(|name| self.env.path(name)))
            .status();
    }
}

/// Who is killed, and where; before it the data directory is as it was kept.
struct Case<'a> {
    bench: &'a Bench,
    command: &'a [&'a str],
    kind: Kind<'a>,
    before: Inventory,
    before_pruned: Inventory,
    after_pruned: Inventory,
}

/// What is to be known of a command.
#[derive(Clone, Copy)]
pub(crate) struct Kind<'a> {
    pub(crate) rest: Rest,
    /// Whether what it makes says when it was made, and so is never the same.
    pub(crate) is_dated: bool,
    /// How many calls are tried by chance, for each blow.
    pub(crate) some: usize,
    /// Called before each time.
    pub(crate) prepare: &'a dyn Fn(),
}

impl Default for Kind<'_> {
    fn default() -> Self {
        Self {
            some: SOME,
            ..Self::USUAL
        }
    }
}

impl Kind<'_> {
    /// Of commands that are like others.
    pub(crate) const USUAL: Self = Self {
        rest: Rest::Whole,
        is_dated: false,
        some: FEW,
        prepare: &|| {},
    };

    /// What is there, as it can be compared; an image of which only its documents' kinds can is whole.
    pub(crate) fn found(&self, bench: &Bench, before: &Inventory) -> Inventory {
        let found = bench.inventory();
        if !self.is_dated {
            return found;
        }
        bench.succeeds(&["system", "check"]);
        let mut documents = 0;
        let undated = |(path, what): (String, String)| {
            if before.contains_key(&path) {
                return (path, what);
            }
            let starts = |name| path.starts_with(name);
            let file = || fs::read(bench.data().join(&path[1..])).unwrap();
            let is_artifact = path.strip_suffix(".json").is_some() && starts("/artifacts/");
            let is_record = starts("/images/") || starts("/lists/") || is_artifact;
            if is_record || starts("/blobs/sha256/") && file().starts_with(b"{") {
                documents += 1;
                (format!("document {documents}"), String::new())
            } else if starts("/tags/") || starts("/artifacts/names/") {
                (path, String::new())
            } else {
                (path, what)
            }
        };
        found.into_iter().map(undated).collect()
    }
}

/// What a prune leaves of what a killed command has made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// All or nothing.
    Whole,
    /// What the next one goes on with.
    ToBeResumed,
    /// Damage: the next one goes on before anything is pruned.
    ToBeRepaired,
}

/// Kills a command at each of its steps; the data directory is as the command is to find it, and so it is left.
pub(super) fn each_step(bench: &Bench, command: &[&str]) {
    each_step_of(bench, command, Kind::default());
}

pub(super) fn each_step_of(bench: &Bench, command: &[&str], kind: Kind<'_>) {
    bench.keep();
    bench.put_back();
    let before = bench.inventory();
    if kind.rest != Rest::ToBeRepaired {
        bench.prune();
    }
    let before_pruned = bench.inventory();
    bench.put_back();
    (kind.prepare)();
    let outcome = steps::run(&bench.command(command), Counted::Files, None);
    assert_eq!(
        (outcome.code(), outcome.stderr.as_str()),
        (0, ""),
        "{command:?}: {outcome:#?}"
    );
    bench.prune();
    let mut case = Case {
        bench,
        command,
        kind,
        before,
        before_pruned,
        after_pruned: Inventory::new(),
    };
    case.after_pruned = case.found();
    bench.succeeds(&["system", "check"]);
    let mut chance = Chance::new();
    let mut count = 0;
    for blow in [Blow::KillCaller, Blow::KillAll] {
        let some = chance.choose(outcome.calls, kind.some);
        let mut numbers = some.into_iter();
        let mut every = 1..;
        let mut next = || {
            if is_nightly() {
                every.next()
            } else {
                numbers.next()
            }
        };
        while let Some(number) = next() {
            // What is in the way of nothing may be in the way of the same command: it is repeated as it
            // stands as well as after a prune.
            let prunes = number.is_multiple_of(2) && kind.rest != Rest::ToBeRepaired;
            if !case.step(number, blow, prunes) {
                break;
            }
            if is_nightly() && kind.rest != Rest::ToBeRepaired {
                case.step(number, blow, !prunes);
            }
            count += 1;
        }
    }
    assert!(count > 0, "{command:?} was never killed");
    eprintln!("{command:?}: {count} of {} calls", 2 * outcome.calls);
    bench.put_back();
}

impl Case<'_> {
    /// Whether it was killed.
    fn step(&self, number: usize, blow: Blow, prunes: bool) -> bool {
        let bench = self.bench;
        bench.put_back();
        (self.kind.prepare)();
        let outcome = steps::run(
            &bench.command(self.command),
            Counted::Files,
            Some((number, blow)),
        );
        let Some(struck) = &outcome.struck else {
            return false;
        };
        let step = format!("{:?}, {blow:?} at call {number}, {struck}", self.command);
        let left = bench.inventory();
        let kept = inventory::common(&self.before, &self.after_pruned);
        let lost = inventory::difference(&kept, &inventory::common(&kept, &left));
        assert!(lost.is_empty(), "{step} lost\n{lost}");
        if prunes {
            bench.prune();
            if self.kind.rest == Rest::Whole {
                self.is_before_or_after(&self.found(), &step);
            }
        } else if self.kind.rest != Rest::ToBeRepaired {
            let check = Kelp::new(bench.command(&["system", "check"])).done();
            assert_eq!(check.code, 0, "{step}; then {check:#?}");
        }
        self.repeats(&step);
        true
    }

    fn found(&self) -> Inventory {
        self.kind.found(self.bench, &self.before)
    }

    fn is_before_or_after(&self, found: &Inventory, step: &str) {
        let before = inventory::difference(&self.before_pruned, found);
        let after = inventory::difference(&self.after_pruned, found);
        assert!(
            before.is_empty() || after.is_empty(),
            "{step}; pruned, it is not as before:\n{before}\nand not as after:\n{after}"
        );
    }

    fn repeats(&self, step: &str) {
        let bench = self.bench;
        bench.forget_container();
        (self.kind.prepare)();
        let again = Kelp::new(bench.command(self.command)).done();
        // What is gone can't be removed again, and what is there can't be made.
        let is_once = self
            .command
            .iter()
            .any(|word| ["rmi", "untag", "rm", "create"].contains(word));
        let is_once = is_once || self.command.starts_with(&["artifact", "add"]);
        assert!(again.code == 0 || is_once, "{step}; then {again:#?}");
        bench.prune();
        let wrong = inventory::difference(&self.after_pruned, &self.found());
        assert!(
            wrong.is_empty(),
            "{step}; repeated, it is not as after:\n{wrong}"
        );
    }
}

#[test]
fn a_pull_is_killed_at_every_write() {
    let Some(bench) = Bench::new() else { return };
    let image = bench.push("steps-pull", "first\n");
    each_step(&bench, &["pull", "-q", &image]);
}

#[test]
fn another_pull_is_killed_at_every_write() {
    let Some(bench) = Bench::new() else { return };
    let image = bench.pull("steps-again", "first\n");
    // Of the same: it writes nothing.
    let same = steps::run(
        &bench.command(&["pull", "-q", &image]),
        Counted::Files,
        None,
    );
    assert_eq!((same.code(), same.calls), (0, 0), "{same:#?}");
    // Of one that shares a layer.
    let sharing = bench.push("steps-sharing", "another\n");
    each_step(&bench, &["pull", "-q", &sharing]);
    // Of what the name means meanwhile.
    bench.push("steps-again", "second\n");
    each_step(&bench, &["pull", "-q", &image]);
}

#[test]
fn names_are_killed_at_every_write() {
    let Some(bench) = Bench::new() else { return };
    let image = bench.pull("steps-names", "first\n");
    each_step(&bench, &["tag", &image, "localhost/new:tag"]);
    each_step(&bench, &["untag", &image]);
    // The name is another image's.
    let other = bench.pull("steps-other", "other\n");
    bench.succeeds(&["tag", &other, "localhost/new:tag"]);
    each_step(&bench, &["tag", &image, "localhost/new:tag"]);
}

#[test]
fn removals_are_killed_at_every_write() {
    let Some(bench) = Bench::new() else { return };
    let image = bench.pull("steps-remove", "first\n");
    bench.pull("steps-stays", "other\n");
    each_step(&bench, &["rmi", &image]);
    bench.succeeds(&["untag", &image]);
    // What killed commands leave is to go as well.
    bench.leave_garbage();
    each_step(&bench, &["image", "prune", "-f"]);
}

#[test]
fn volumes_are_killed_at_every_write() {
    let Some(bench) = Bench::new() else { return };
    bench.pull("steps-volumes", "first\n");
    each_step(&bench, &["volume", "create", "--label", "a=b", "made"]);
    bench.succeeds(&["volume", "create", "made"]);
    let content = bench.data().join("volumes/made/_data/directory");
    fs::create_dir(&content).unwrap();
    fs::write(content.join("file"), "of a volume").unwrap();
    each_step(&bench, &["volume", "rm", "made"]);
}

/// A volume gets what the image has; half a copy is made again by whoever uses the volume next.
#[test]
fn a_first_use_of_a_volume_is_killed_at_every_write() {
    let Some(bench) = Bench::new() else { return };
    let image = bench.pull("steps-copied", "first\n");
    bench.succeeds(&["volume", "create", "made"]);
    let busybox = format!("{}:/busybox:ro", static_busybox().unwrap().display());
    let flags = [
        "run",
        "--rm",
        "--network",
        "none",
        "--name",
        VICTIM,
        "--pull",
        "never",
    ];
    let volumes = ["-v", "made:/data", "-v", &busybox, &image];
    let program = ["/busybox", "cat", "/data/volume"];
    let command = [&flags[..], &volumes, &program].concat();
    let kind = Kind {
        rest: Rest::ToBeResumed,
        ..Kind::default()
    };
    each_step_of(&bench, &command, kind);
}
