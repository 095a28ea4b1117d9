//! Commands on the store whose every call that may need space fails, once or from then on.
//!
//! Either the command succeeds all the same, or it ends with 125 and one line that says which file system is
//! full; then a prune leaves what was there before, and once there is space the command succeeds.

use nix::errno::Errno;

use crate::inventory;
use crate::kelp::Kelp;
use crate::kill::store::Bench;
use crate::steps::{self, Blow, Chance, Counted, is_nightly};

/// How many calls of each command are tried by chance.
const SOME: usize = 8;

fn each_step(bench: &Bench, command: &[&str]) {
    bench.keep();
    bench.put_back();
    bench.prune();
    let before = bench.inventory();
    bench.put_back();
    let whole = steps::run(&bench.command(command), Counted::Space, None);
    assert_eq!((whole.code(), whole.stderr.as_str()), (0, ""), "{whole:#?}");
    bench.prune();
    let after = bench.inventory();
    let mut chance = Chance::new();
    let some = chance.choose(whole.calls, SOME);
    let numbers = if is_nightly() {
        (1..=whole.calls).collect()
    } else {
        some
    };
    for number in numbers {
        let blows = [Blow::Fail(Errno::EDQUOT), Blow::FailFromHere(Errno::ENOSPC)];
        for blow in blows {
            bench.put_back();
            let counted = Counted::Space;
            let outcome = steps::run(&bench.command(command), counted, Some((number, blow)));
            // Threads may have made fewer calls this time.
            let Some(struck) = &outcome.struck else {
                continue;
            };
            let step = format!("{command:?}, {blow:?} at call {number}, {struck}: {outcome:#?}");
            let expected = if outcome.code() == 0 { &after } else { &before };
            if outcome.code() != 0 {
                assert_eq!(outcome.code(), 125, "{step}");
                assert!(outcome.stderr.contains("is full: "), "{step}");
                assert_eq!(outcome.stderr.lines().count(), 1, "{step}");
            }
            bench.prune();
            let wrong = inventory::difference(expected, &bench.inventory());
            assert!(wrong.is_empty(), "{step}; pruned:\n{wrong}");
            if outcome.code() != 0 {
                Kelp::new(bench.command(command)).succeeds();
                bench.prune();
                let wrong = inventory::difference(&after, &bench.inventory());
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
    each_step(&bench, &["pull", "-q", &image]);
}

#[test]
fn names_and_volumes_find_the_disk_full_at_every_call() {
    let Some(bench) = Bench::new() else { return };
    let image = bench.push("full-names", "first\n");
    bench.succeeds(&["pull", "-q", &image]);
    each_step(&bench, &["tag", &image, "localhost/new:tag"]);
    each_step(&bench, &["volume", "create", "--label", "a=b", "made"]);
}
