//! `system check --repair`, killed at every call by which a file is changed: another one finishes.

use std::fs;
use std::path::{Path, PathBuf};

use super::store::{Bench, Kind, Rest, each_step_of};
use crate::env::mapped;

/// The only layer that has a file.
fn layer_with(bench: &Bench, file: &str) -> PathBuf {
    let maps = fs::read_dir(bench.data().join("layers")).unwrap();
    let layers = maps.flat_map(|map| fs::read_dir(map.unwrap().path()).unwrap());
    let mut layers = layers.map(|layer| layer.unwrap().path());
    layers.find(|layer| layer.join(file).exists()).unwrap()
}

/// Replaces a file of any owner.
fn overwrite(path: &Path, text: &str) {
    let script = "rm -f \"$1\" && printf %s \"$2\" >\"$1\"";
    let status = mapped("sh")
        .args(["-c", script, "sh"])
        .arg(path)
        .arg(text)
        .status();
    assert!(status.unwrap().success());
}

fn record_of(bench: &Bench, image: &str) -> PathBuf {
    let inspect = ["image", "inspect", "--format={{.Id}}", image];
    let id = crate::kelp::Kelp::new(bench.command(&inspect)).succeeds();
    bench.data().join(format!("images/{}.json", id.trim()))
}

#[test]
fn repairs_are_killed_at_every_write() {
    let Some(bench) = Bench::new() else { return };
    let image = bench.pull("steps-repair", "first\n");
    let other = bench.pull("steps-rotten", "other\n");
    let kind = Kind {
        rest: Rest::ToBeRepaired,
        ..Kind::USUAL
    };
    // All of it can be made again: a layer's files and its size, a record, and a name that is none goes.
    let layer = layer_with(&bench, "etc/base");
    overwrite(&layer.join("etc/base"), "damaged\n");
    overwrite(&layer.join("more"), "damaged\n");
    fs::remove_file(layer_with(&bench, "link").with_extension("json")).unwrap();
    overwrite(&record_of(&bench, &image), "{");
    fs::write(bench.data().join("tags/none"), "no name").unwrap();
    each_step_of(&bench, &["system", "check", "--repair"], kind);
    bench.succeeds(&["system", "check", "--repair"]);
    // What can't be goes with its image, and the other one stays.
    let record = fs::read(record_of(&bench, &other)).unwrap();
    let record: serde_json::Value = serde_json::from_slice(&record).unwrap();
    let blob = record["layers"][1]["digest"].as_str().unwrap();
    overwrite(
        &bench.data().join("blobs").join(blob.replace(':', "/")),
        "rotten",
    );
    each_step_of(&bench, &["system", "check", "--force"], kind);
}
