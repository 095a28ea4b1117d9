//! Commands on the store whose every call that may need space fails, once or from then on.
//!
//! Either the command succeeds all the same, or it ends with 125 and one line that says which file system is
//! full; then a prune leaves what was there before (or, where a change is made and the disk can't be told to
//! keep it, what is there after), and once there is space the command succeeds. What frees space always
//! succeeds, and so does what only reads.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use nix::errno::Errno;

use crate::archive::Layer;
use crate::artifacts::Artifact;
use crate::inventory;
use crate::kelp::Kelp;
use crate::kill::store::{Bench, Kind, Rest};
use crate::podman::Podman;
use crate::steps::{self, Blow, Chance, Counted, is_nightly};

/// How many calls of a command are tried by chance, if none is like it.
const SOME: usize = 8;

/// Those that make what says when it was made.
const DATED: Kind<'_> = Kind {
    is_dated: true,
    ..Kind::USUAL
};

/// What a full disk may do to a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// End it.
    Any,
    /// None: it frees space, or only reads.
    Nothing,
}

fn each_step(bench: &Bench, command: &[&str]) {
    each_step_of(bench, command, Effect::Any, Kind::USUAL);
}

/// Of a command that frees space.
fn each_step_of_removal(bench: &Bench, command: &[&str]) {
    each_step_of(bench, command, Effect::Nothing, Kind::USUAL);
}

fn each_step_of(bench: &Bench, command: &[&str], effect: Effect, kind: Kind<'_>) {
    bench.keep();
    bench.put_back();
    let unpruned = bench.inventory();
    bench.prune();
    let before = bench.inventory();
    bench.put_back();
    (kind.prepare)();
    let whole = steps::run(&bench.command(command), Counted::Space, None);
    assert_eq!((whole.code(), whole.stderr.as_str()), (0, ""), "{whole:#?}");
    bench.prune();
    let after = kind.found(bench, &unpruned);
    bench.succeeds(&["system", "check"]);
    let mut chance = Chance::new();
    let some = chance.choose(whole.calls, kind.some);
    let numbers = if is_nightly() {
        (1..=whole.calls).collect()
    } else {
        some
    };
    eprintln!("{command:?}: {} of {} calls", numbers.len(), whole.calls);
    for number in numbers {
        let blows = [Blow::Fail(Errno::EDQUOT), Blow::FailFromHere(Errno::ENOSPC)];
        for blow in blows {
            bench.put_back();
            (kind.prepare)();
            let counted = Counted::Space;
            let outcome = steps::run(&bench.command(command), counted, Some((number, blow)));
            // Threads may have made fewer calls this time.
            let Some(struck) = &outcome.struck else {
                continue;
            };
            let step = format!("{command:?}, {blow:?} at call {number}, {struck}: {outcome:#?}");
            let succeeds = effect == Effect::Nothing || outcome.code() == 0;
            if succeeds {
                assert_eq!((outcome.code(), outcome.stderr.as_str()), (0, ""), "{step}");
            } else {
                assert_eq!(outcome.code(), 125, "{step}");
                assert!(outcome.stderr.contains("is full: "), "{step}");
                assert_eq!(outcome.stderr.lines().count(), 1, "{step}");
            }
            bench.prune();
            let found = kind.found(bench, &unpruned);
            if succeeds {
                let wrong = inventory::difference(&after, &found);
                assert!(wrong.is_empty(), "{step}; pruned:\n{wrong}");
            } else if kind.rest == Rest::Whole {
                // What is done, and can't be synced and not be taken back either, was not reported.
                let is_after = inventory::difference(&after, &found).is_empty();
                let wrong = inventory::difference(&before, &found);
                assert!(is_after || wrong.is_empty(), "{step}; pruned:\n{wrong}");
            }
            if !succeeds {
                (kind.prepare)();
                Kelp::new(bench.command(command)).succeeds();
                bench.prune();
                let wrong = inventory::difference(&after, &kind.found(bench, &unpruned));
                assert!(wrong.is_empty(), "{step}; repeated:\n{wrong}");
            }
        }
    }
    bench.put_back();
}

#[test]
fn a_pull_finds_the_disk_full_at_every_call() {
    let Some(bench) = Bench::new() else { return };
    let image = bench.push("full-pull", "first\n");
    let kind = Kind {
        some: SOME,
        ..Kind::USUAL
    };
    each_step_of(&bench, &["pull", "-q", &image], Effect::Any, kind);
}

#[test]
fn names_and_volumes_find_the_disk_full_at_every_call() {
    let Some(bench) = Bench::new() else { return };
    let image = bench.pull("full-names", "first\n");
    let kind = Kind {
        some: SOME,
        ..Kind::USUAL
    };
    let tag = ["tag", &image, "localhost/new:tag"];
    each_step_of(&bench, &tag, Effect::Any, kind);
    let create = ["volume", "create", "--label", "a=b", "made"];
    each_step_of(&bench, &create, Effect::Any, kind);
}

#[test]
fn removals_find_the_disk_full_at_every_call() {
    let Some(bench) = Bench::new() else { return };
    let image = bench.pull("full-remove", "first\n");
    let other = bench.pull("full-stays", "other\n");
    each_step_of_removal(&bench, &["untag", &image]);
    each_step_of_removal(&bench, &["rmi", &image]);
    bench.make_container(&other);
    each_step_of_removal(&bench, &["rm", "made"]);
    bench.succeeds(&["untag", &image]);
    // What killed commands leave is to go as well.
    bench.leave_garbage();
    // So that what layers take is written down.
    bench.succeeds(&["system", "df"]);
    each_step_of_removal(&bench, &["image", "prune", "-f"]);
    each_step_of_removal(&bench, &["system", "prune", "-f"]);
    bench.succeeds(&["rm", "made"]);
}

#[test]
fn artifacts_find_the_disk_full_at_every_call() {
    let Some(bench) = Bench::new() else { return };
    let artifact = Artifact::new()
        .file("one", "first\n")
        .file("two", "second\n");
    let address = &bench.env.registry().address;
    artifact.push(address, "full-artifact");
    let name = format!("{address}/full-artifact:latest");
    let kind = Kind {
        some: SOME,
        ..Kind::USUAL
    };
    each_step_of(
        &bench,
        &["artifact", "pull", "-q", &name],
        Effect::Any,
        kind,
    );
    let file = bench.env.word("h/file");
    fs::write(&file, "added\n").unwrap();
    each_step_of(
        &bench,
        &["artifact", "add", "localhost/new", &file],
        Effect::Any,
        DATED,
    );
    bench.succeeds(&["artifact", "pull", "-q", &name]);
    let target = bench.env.word("out");
    let kind = Kind {
        // A file that is whole is the user's.
        rest: Rest::ToBeResumed,
        ..Kind::USUAL
    };
    let extract = ["artifact", "extract", &name, &target];
    each_step_of(&bench, &extract, Effect::Any, kind);
    // It frees space, and what only reads needs none.
    each_step_of_removal(&bench, &["artifact", "rm", &name]);
    each_step_of_removal(&bench, &["artifact", "ls", "-n"]);
    each_step_of_removal(&bench, &["artifact", "push", "-q", &name]);
}

#[test]
fn loads_find_the_disk_full_at_every_call() {
    let Some(bench) = Bench::new() else { return };
    let image = bench.pull("full-load", "first\n");
    for format in ["docker-archive", "oci-archive"] {
        let archive = bench.env.word(&format!("h/{format}"));
        bench.succeeds(&["save", "-q", "--format", format, "-o", &archive, &image]);
        bench.succeeds(&["rmi", &image]);
        each_step(&bench, &["load", "-q", "-i", &archive]);
        bench.succeeds(&["load", "-q", "-i", &archive]);
    }
}

#[test]
fn an_image_of_podmans_finds_the_disk_full_at_every_call() {
    let Some(bench) = Bench::new() else { return };
    let Some(podman) = Podman::empty(&bench.env, "vfs") else {
        return;
    };
    let image = bench.push("full-podman", "first\n");
    podman
        .run(&["pull", "-q", "--tls-verify=false", &image])
        .exits(0);
    let root = bench.env.word("h/storage");
    let words = ["image", "import-from", "podman", "-q", "--root", &root];
    let kind = Kind {
        some: SOME,
        ..Kind::USUAL
    };
    each_step_of(&bench, &words, Effect::Any, kind);
}

#[test]
fn removals_of_volumes_find_the_disk_full_at_every_call() {
    let Some(bench) = Bench::new() else { return };
    let image = bench.pull("full-volumes", "first\n");
    // One that has content, one that a container uses, and an anonymous one.
    bench.succeeds(&["volume", "create", "filled"]);
    bench.succeeds(&["volume", "create", "used"]);
    let content = bench.data().join("volumes/filled/_data/directory");
    fs::create_dir(&content).unwrap();
    fs::write(content.join("file"), "of a volume").unwrap();
    let create = [
        "create",
        "--network=none",
        "--name=made",
        "-v",
        "used:/data",
    ];
    bench.succeeds(&[&create[..], &["-v", "/other", &image, "true"]].concat());
    each_step_of_removal(&bench, &["volume", "rm", "filled"]);
    each_step_of_removal(&bench, &["volume", "prune", "-f"]);
    each_step_of_removal(&bench, &["volume", "prune", "-a", "-f"]);
    each_step_of_removal(&bench, &["rm", "-v", "made"]);
    bench.succeeds(&["rm", "-v", "made"]);
}

#[test]
fn removals_of_secrets_find_the_disk_full_at_every_call() {
    let Some(bench) = Bench::new() else { return };
    let file = bench.env.word("h/value");
    fs::write(&file, "of a secret").unwrap();
    for name in ["one", "other"] {
        bench.succeeds(&["secret", "create", name, &file]);
    }
    each_step_of_removal(&bench, &["secret", "rm", "one"]);
    each_step_of_removal(&bench, &["secret", "rm", "--all"]);
    bench.succeeds(&["secret", "rm", "--all"]);
}

/// Where there is no space for another name, a volume is deleted by its own, after it was closed.
#[test]
fn a_removal_of_a_volume_that_was_killed_on_a_full_disk_is_finished_by_a_prune() {
    let Some(bench) = Bench::new() else { return };
    bench.succeeds(&["volume", "create", "closed"]);
    let volume = bench.data().join("volumes/closed");
    fs::write(volume.join("_data/file"), "of a volume").unwrap();
    fs::set_permissions(&volume, fs::Permissions::from_mode(0o600)).unwrap();
    let kelp = |words: &[&str]| Kelp::new(bench.command(words));
    assert_eq!(kelp(&["volume", "ls", "-q"]).succeeds(), "");
    kelp(&["volume", "rm", "closed"]).fails(1);
    let line = kelp(&["volume", "create", "closed"]).fails(125);
    assert!(line.contains("`kelp image prune` deletes what"), "{line}");
    bench.prune();
    assert!(!volume.exists());
    bench.succeeds(&["volume", "create", "closed"]);
    bench.succeeds(&["volume", "rm", "closed"]);
}

#[test]
fn saves_find_the_disk_full_at_every_call() {
    let Some(bench) = Bench::new() else { return };
    let image = bench.pull("full-save", "first\n");
    let words = |format| ["save", "-q", "--format", format, "-o", "saved", &image];
    // Nothing is left of a file.
    each_step(&bench, &words("docker-archive"));
    let kind = Kind {
        // The blobs of a directory are whole, and the next save goes on with them.
        rest: Rest::ToBeResumed,
        ..Kind::USUAL
    };
    each_step_of(&bench, &words("oci-dir"), Effect::Any, kind);
}

#[test]
fn what_is_made_here_finds_the_disk_full_at_every_call() {
    let Some(bench) = Bench::new() else { return };
    let archive = bench.env.word("h/root.tar");
    let root = Layer::default().owned_file("file", 0o640, (1000, 1000), b"imported\n");
    fs::write(&archive, root.finish()).unwrap();
    let import = ["import", "-q", &archive, "localhost/new:tag"];
    each_step_of(&bench, &import, Effect::Any, DATED);
    let image = bench.pull("full-commit", "first\n");
    bench.succeeds(&["create", "--network=none", "--name=made", &image, "true"]);
    bench.succeeds(&["cp", &archive, "made:/etc/copied"]);
    let commit = ["commit", "-q", "made", "localhost/new:tag"];
    each_step_of(&bench, &commit, Effect::Any, DATED);
    bench.succeeds(&["rm", "made"]);
}

#[test]
fn lists_find_the_disk_full_at_every_call() {
    let Some(bench) = Bench::new() else { return };
    let list = "localhost/list:tag";
    let image = bench.pull("full-list", "first\n");
    let create = ["manifest", "create", list, &image];
    each_step_of(&bench, &create, Effect::Any, DATED);
    bench.succeeds(&create);
    let to = format!("{}/elsewhere/list", bench.env.registry().address);
    let push = ["manifest", "push", "-q", "--all", list, &to];
    each_step_of(&bench, &push, Effect::Nothing, Kind::USUAL);
    let other = format!("docker://{}", bench.push("full-list-other", "other\n"));
    let add = ["manifest", "add", "--arch", "arm64", list, &other];
    each_step(&bench, &add);
    bench.succeeds(&add);
    // What is not here comes by on its way.
    each_step(&bench, &push);
    bench.succeeds(&["rmi", &image]);
    each_step_of_removal(&bench, &["manifest", "rm", list]);
}

#[test]
fn a_check_finds_the_disk_full_at_every_call() {
    let Some(bench) = Bench::new() else { return };
    bench.pull("full-check", "first\n");
    each_step_of(&bench, &["system", "check"], Effect::Nothing, Kind::USUAL);
    let old = ["system", "check", "--max", "0s"];
    each_step_of(&bench, &old, Effect::Nothing, Kind::USUAL);
}
