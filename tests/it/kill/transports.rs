//! Images that come from files and leave, killed at every call by which a file is changed.

use std::fs;

use super::store::{Bench, Kind, Rest, each_step, each_step_of};
use crate::archive::Layer;
use crate::podman::Podman;
use crate::registry::Registry;

/// What says when it was made.
fn dated() -> Kind<'static> {
    Kind {
        is_dated: true,
        ..Kind::default()
    }
}

/// A root of a file system, as an archive.
fn root() -> Vec<u8> {
    Layer::default()
        .directory("etc", 0o755)
        .owned_file("etc/file", 0o640, (1000, 1000), b"imported\n")
        .finish()
}

#[test]
fn loads_are_killed_at_every_write() {
    let Some(bench) = Bench::new() else { return };
    let image = bench.pull("steps-load", "first\n");
    let archive = bench.env.path("h/image.tar");
    let archive = archive.to_str().unwrap();
    for format in ["docker-archive", "oci-archive"] {
        let _ = fs::remove_file(archive);
        bench.succeeds(&["save", "-q", "--format", format, "-o", archive, &image]);
        bench.succeeds(&["rmi", &image]);
        each_step(&bench, &["load", "-q", "-i", archive]);
        bench.succeeds(&["load", "-q", "-i", archive]);
    }
}

#[test]
fn images_of_podmans_are_killed_at_every_write() {
    let Some(bench) = Bench::new() else { return };
    let Some(podman) = Podman::empty(&bench.env, "vfs") else {
        return;
    };
    let image = bench.push("steps-podman", "first\n");
    podman
        .run(&["pull", "-q", "--tls-verify=false", &image])
        .exits(0);
    let root = bench.env.word("h/storage");
    let words = ["image", "import-from", "podman", "-q", "--root", &root];
    each_step_of(&bench, &words, Kind::USUAL);
}

#[test]
fn imports_are_killed_at_every_write() {
    let Some(bench) = Bench::new() else { return };
    let archive = bench.env.path("h/root.tar");
    fs::write(&archive, root()).unwrap();
    let words = [
        "import",
        "-q",
        archive.to_str().unwrap(),
        "localhost/new:tag",
    ];
    each_step_of(&bench, &words, dated());
}

#[test]
fn commits_are_killed_at_every_write() {
    let Some(bench) = Bench::new() else { return };
    let image = bench.pull("steps-commit", "first\n");
    bench.make_container(&image);
    let words = ["commit", "-q", "made", "localhost/new:tag"];
    each_step_of(&bench, &words, dated());
    bench.succeeds(&["rm", "made"]);
}

#[test]
fn saves_are_killed_at_every_write() {
    let Some(bench) = Bench::new() else { return };
    let image = bench.pull("steps-save", "first\n");
    for format in ["docker-archive", "oci-dir"] {
        let words = ["save", "-q", "--format", format, "-o", "saved", &image];
        let kind = Kind {
            // A file or a directory that was given a name by hand is whoever gave it to remove.
            rest: Rest::ToBeResumed,
            ..Kind::default()
        };
        each_step_of(&bench, &words, kind);
    }
}

/// To a registry that has nothing of it: what was compressed for it is noted here.
#[test]
fn pushes_are_killed_at_every_write() {
    let Some(bench) = Bench::new() else { return };
    let archive = bench.env.path("h/root.tar");
    fs::write(&archive, root()).unwrap();
    bench.succeeds(&[
        "import",
        "-q",
        archive.to_str().unwrap(),
        "localhost/made:tag",
    ]);
    let registry = Registry::own();
    let to = format!("{}/pushed:latest", registry.address);
    let words = [
        "push",
        "-q",
        "--tls-verify=false",
        "localhost/made:tag",
        &to,
    ];
    let kind = Kind {
        rest: Rest::ToBeResumed,
        prepare: &|| registry.forget_all(),
        ..Kind::default()
    };
    each_step_of(&bench, &words, kind);
}
