//! Manifest lists, killed at every call by which a file is changed.

use super::store::{Bench, Kind, each_step_of};
use crate::registry::Registry;

const LIST: &str = "localhost/list:tag";

#[test]
fn changes_of_lists_are_killed_at_every_write() {
    let Some(bench) = Bench::new() else { return };
    let here = bench.pull("steps-list-here", "first\n");
    // With an image that is here, in one step.
    let create = ["manifest", "create", "--annotation", "a=b", LIST, &here];
    let kind = Kind {
        is_dated: true,
        ..Kind::USUAL
    };
    each_step_of(&bench, &create, kind);
    bench.succeeds(&create);
    // One that is in a registry alone: its manifest is brought.
    let there = bench.push("steps-list-there", "other\n");
    let there = format!("docker://{there}");
    let add = ["manifest", "add", "--arch", "arm64", LIST, &there];
    each_step_of(&bench, &add, Kind::USUAL);
    bench.succeeds(&add);
    // What stays is needed by the list alone.
    bench.succeeds(&["rmi", &here]);
    let words = ["--index", "--annotation", "c=d", LIST];
    let annotate = [&["manifest", "annotate"], &words[..]].concat();
    each_step_of(&bench, &annotate, Kind::USUAL);
    each_step_of(&bench, &["manifest", "rm", LIST], Kind::USUAL);
}

/// With an image that is not here: its layers come by here for as long as the push takes.
#[test]
fn a_push_of_a_list_is_killed_at_every_write() {
    let Some(bench) = Bench::new() else { return };
    let here = bench.pull("steps-list-pushed", "first\n");
    let there = bench.push("steps-list-beside", "other\n");
    bench.succeeds(&["manifest", "create", LIST, &here]);
    let there = format!("docker://{there}");
    bench.succeeds(&["manifest", "add", "--arch", "arm64", LIST, &there]);
    let registry = Registry::own();
    let to = format!("{}/pushed:latest", registry.address);
    let push = [
        "manifest",
        "push",
        "-q",
        "--all",
        "--tls-verify=false",
        LIST,
        &to,
    ];
    let kind = Kind {
        prepare: &|| registry.forget_all(),
        ..Kind::USUAL
    };
    each_step_of(&bench, &push, kind);
}
