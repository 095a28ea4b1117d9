//! Artifacts, killed at every call by which a file is changed; and a prune beside a pull.

use std::fs;
use std::sync::Mutex;

use super::store::{Bench, Kind, each_step, each_step_of};
use crate::artifacts::Artifact;
use crate::inventory;
use crate::kelp::{Kelp, around};
use crate::steps::{self, Chance, Counted, is_nightly};

const DATED: Kind<'_> = Kind {
    is_dated: true,
    ..Kind::USUAL
};

/// One with two files in the registry; its name.
fn push(bench: &Bench, name: &str, content: &str) -> String {
    let address = &bench.env.registry().address;
    let artifact = Artifact::new().file("one", content).file("two", "of all\n");
    artifact.push(address, name);
    format!("{address}/{name}:latest")
}

#[test]
fn pulls_and_removals_of_artifacts_are_killed_at_every_write() {
    let Some(bench) = Bench::new() else { return };
    let name = push(&bench, "steps-artifact", "first\n");
    // The first of all makes the directories.
    each_step(&bench, &["artifact", "pull", "-q", &name]);
    bench.succeeds(&["artifact", "pull", "-q", &name]);
    // Another one beside it, which has a blob of the same content.
    let other = push(&bench, "steps-artifact-other", "other\n");
    each_step_of(&bench, &["artifact", "pull", "-q", &other], Kind::USUAL);
    bench.succeeds(&["artifact", "pull", "-q", &other]);
    each_step_of(&bench, &["artifact", "rm", &name], Kind::USUAL);
    // The last one.
    bench.succeeds(&["artifact", "rm", &name]);
    each_step_of(&bench, &["artifact", "rm", "--all"], Kind::USUAL);
}

#[test]
fn artifacts_that_are_made_here_are_killed_at_every_write() {
    let Some(bench) = Bench::new() else { return };
    let (one, two) = (bench.env.word("h/one"), bench.env.word("h/two"));
    fs::write(&one, "added\n").unwrap();
    fs::write(&two, "appended\n").unwrap();
    each_step_of(&bench, &["artifact", "add", "localhost/new", &one], DATED);
    bench.succeeds(&["artifact", "add", "localhost/new", &one]);
    // The time is that of the artifact before.
    each_step_of(
        &bench,
        &["artifact", "add", "-a", "localhost/new", &two],
        Kind::USUAL,
    );
}

/// The name of an artifact that is here gets another one.
#[test]
fn a_pull_that_moves_a_name_is_killed_at_every_write() {
    let Some(bench) = Bench::new() else { return };
    let name = push(&bench, "steps-artifact-moves", "older\n");
    bench.succeeds(&["artifact", "pull", "-q", &name]);
    push(&bench, "steps-artifact-moves", "newer\n");
    each_step_of(&bench, &["artifact", "pull", "-q", &name], Kind::USUAL);
}

/// A prune at any moment of a pull, and of an addition, takes nothing of it.
#[test]
fn a_prune_beside_an_artifact_that_comes_leaves_it_whole() {
    let Some(bench) = Bench::new() else { return };
    let name = push(&bench, "steps-artifact-beside", "first\n");
    let file = bench.env.word("h/file");
    fs::write(&file, "added\n").unwrap();
    for words in [
        &["artifact", "pull", "-q", &name][..],
        &["artifact", "add", "localhost/new", &file],
    ] {
        bench.keep();
        let whole = steps::run(&bench.command(words), Counted::Files, None);
        assert_eq!(whole.code(), 0, "{whole:#?}");
        let kind = DATED;
        bench.put_back();
        let unpruned = bench.inventory();
        bench.succeeds(words);
        let expected = kind.found(&bench, &unpruned);
        let some = Chance::new().choose(whole.calls, 8);
        let numbers: Vec<_> = if is_nightly() {
            (1..=whole.calls).collect()
        } else {
            some.into_iter().collect()
        };
        for number in numbers {
            bench.put_back();
            // It may wait for the lock that the command has at that moment.
            let inner = bench.command(&["image", "prune", "-f"]);
            let limited = Mutex::new(around(&inner, "timeout", &["2"]));
            let prune = |_: &str| {
                limited.lock().unwrap().output().unwrap();
            };
            let outcome = steps::run_beside(&bench.command(words), Counted::Files, number, &prune);
            let struck = outcome.struck.as_deref().unwrap_or_default();
            let step = format!("{words:?}, at call {number}, {struck}: {outcome:#?}");
            assert_eq!((outcome.code(), outcome.stderr.as_str()), (0, ""), "{step}");
            bench.prune();
            let wrong = inventory::difference(&expected, &kind.found(&bench, &unpruned));
            assert!(wrong.is_empty(), "{step}; pruned:\n{wrong}");
        }
        bench.put_back();
    }
}

/// Whoever comes first: a container that is made has what it mounts, and that is held.
#[test]
fn a_removal_beside_a_container_that_is_made_takes_nothing_from_it() {
    let Some(bench) = Bench::new() else { return };
    let image = bench.pull("steps-artifact-image", "image\n");
    let name = push(&bench, "steps-artifact-held", "first\n");
    bench.succeeds(&["artifact", "pull", "-q", &name]);
    let mount = format!("type=artifact,src={name},dst=/d");
    let create = [
        "create",
        "--network=none",
        "--name=victim",
        "--mount",
        &mount,
        &image,
        "true",
    ];
    bench.keep();
    let whole = steps::run(&bench.command(&create), Counted::Files, None);
    assert_eq!(whole.code(), 0, "{whole:#?}");
    let numbers: Vec<_> = if is_nightly() {
        (1..=whole.calls).collect()
    } else {
        Chance::new().choose(whole.calls, 12).into_iter().collect()
    };
    let (mut made, mut refused) = (0, 0);
    for number in numbers {
        bench.put_back();
        let inner = bench.command(&["artifact", "rm", &name]);
        // It may wait for the lock that the command has at that moment.
        let limited = Mutex::new(around(&inner, "timeout", &["1"]));
        let remove = |_: &str| {
            limited.lock().unwrap().output().unwrap();
        };
        let outcome = steps::run_beside(&bench.command(&create), Counted::Files, number, &remove);
        let step = format!("at call {number}: {outcome:#?}");
        let listed = Kelp::new(bench.command(&["artifact", "ls", "-n"])).succeeds();
        if outcome.code() == 0 {
            made += 1;
            assert!(listed.contains("steps-artifact-held"), "{step}");
            let line = Kelp::new(bench.command(&["artifact", "rm", &name])).fails(125);
            assert!(line.contains("is in use by container"), "{step}: {line}");
        } else {
            refused += 1;
            assert!(outcome.stderr.contains("artifact does not exist"), "{step}");
            assert_eq!(listed, "", "{step}");
        }
        bench.forget_container();
        bench.succeeds(&["system", "check"]);
    }
    eprintln!("{made} were made, and {refused} came too late");
    bench.put_back();
}
