//! The process that deletes what a large image had after the answer: killed at every call by which it or the
//! command changes a file, and beside an addition of the same image.

use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::thread;

use serde_json::json;

use super::store::{Bench, Kind, each_step_of};
use crate::archive::Layer;
use crate::image::digest;
use crate::inventory;
use crate::kelp::Kelp;
use crate::steps::{self, Blow, Chance, Counted, is_nightly};

/// The name of the image.
const LARGE: &str = "localhost/large:tag";

/// Bytes of its blobs from which on an image is large.
const LEAST: usize = 128 << 20;

/// A bench that has an image with a large blob and a small layer, and the command that adds it.
fn with_large() -> Option<(Bench, [String; 4])> {
    let bench = Bench::new()?;
    let place = bench.env.word("h/large");
    write_large(Path::new(&place));
    let load = ["load", "-q", "-i", &place].map(str::to_owned);
    bench.succeeds(&load.each_ref().map(String::as_str));
    Some((bench, load))
}

/// Writes an image in the layout of OCI whose layer's archive is followed by zeros, as tar(1) fills up its last
/// block.
fn write_large(directory: &Path) {
    let blobs = directory.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let mut layer = Layer::default().file("marker", 0o644, b"large\n").finish();
    let length = layer.len();
    layer.resize(length + LEAST, 0);
    let diff_id = digest(&layer);
    let config = json!({
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
    });
    let config = config.to_string().into_bytes();
    let descriptor = |kind: &str, bytes: &[u8]| {
        let media_type = format!("application/vnd.oci.image.{kind}");
        json!({"mediaType": media_type, "size": bytes.len(), "digest": digest(bytes)})
    };
    let manifest = json!({
        "schemaVersion": 2,
        "config": descriptor("config.v1+json", &config),
        "layers": [descriptor("layer.v1.tar", &layer)],
    });
    let manifest = manifest.to_string().into_bytes();
    let mut entry = descriptor("manifest.v1+json", &manifest);
    entry["annotations"] = json!({"org.opencontainers.image.ref.name": LARGE});
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    for blob in [&config, &manifest, &layer] {
        let path = blobs.join(digest(blob).trim_start_matches("sha256:"));
        fs::write(path, blob).unwrap();
    }
    fs::write(directory.join("index.json"), index.to_string()).unwrap();
    let layout = "{\"imageLayoutVersion\": \"1.0.0\"}";
    fs::write(directory.join("oci-layout"), layout).unwrap();
}

/// Whether a call, as it is told, is the remover's.
fn is_removers(call: &str) -> bool {
    call.ends_with("\"internal remove\"")
}

#[test]
fn a_removal_of_a_large_image_is_killed_at_every_write() {
    let Some((bench, _)) = with_large() else {
        return;
    };
    each_step_of(&bench, &["rmi", LARGE], Kind::USUAL);
    bench.succeeds(&["rmi", LARGE]);
}

#[test]
fn what_a_killed_remover_was_at_can_be_added_again() {
    let Some((bench, load)) = with_large() else {
        return;
    };
    let load = load.each_ref().map(String::as_str);
    bench.keep();
    let before = bench.inventory();
    let rmi = bench.command(&["rmi", LARGE]);
    let whole = steps::run(&rmi, Counted::Files, None);
    assert_eq!(whole.code(), 0, "{whole:#?}");
    let mut chance = Chance::new();
    let mut removers = 0;
    // The remover's calls are the last ones.
    for number in (1..=whole.calls).rev() {
        bench.put_back();
        let blow = [Blow::KillCaller, Blow::KillAll][chance.below(2)];
        let outcome = steps::run(&rmi, Counted::Files, Some((number, blow)));
        let Some(struck) = &outcome.struck else {
            continue;
        };
        let step = format!("{blow:?} at call {number}, {struck}");
        if is_removers(struck) {
            removers += 1;
            // With all others the command is killed, if it has not ended yet.
            let is_killed = blow == Blow::KillAll && outcome.code() == 137;
            let has_ended = outcome.code() == 0 && outcome.stderr.is_empty();
            assert!(is_killed || has_ended, "{step}: {outcome:#?}");
            let left = Kelp::new(bench.command(&["images", "-q"])).succeeds();
            assert_eq!(left, "", "{step}");
        } else if !is_nightly() {
            break;
        }
        bench.succeeds(&load);
        bench.succeeds(&["system", "check"]);
        bench.prune();
        let wrong = inventory::difference(&before, &bench.inventory());
        assert!(wrong.is_empty(), "{step}; added again:\n{wrong}");
    }
    bench.put_back();
    assert!(removers > 0, "nothing was deleted after the answer");
    bench.succeeds(&["rmi", LARGE]);
}

#[test]
fn what_a_remover_is_at_can_be_added_beside_it() {
    let Some((bench, load)) = with_large() else {
        return;
    };
    bench.keep();
    let before = bench.inventory();
    let rmi = bench.command(&["rmi", LARGE]);
    let whole = steps::run(&rmi, Counted::Files, None);
    assert_eq!(whole.code(), 0, "{whole:#?}");
    // With less space an addition waits for the remover, and so can't be waited for here.
    let state = rustix::fs::statvfs(bench.data()).unwrap();
    let has_little = state.f_bavail * state.f_frsize < 5 << 30;
    let mut removers = 0;
    for number in (1..=whole.calls).rev() {
        bench.put_back();
        let addition = bench.command(&load.each_ref().map(String::as_str));
        let addition = Mutex::new(Some(Kelp::new(addition)));
        let adding = Mutex::new(None);
        let beside = |call: &str| {
            if !is_removers(call) {
                return;
            }
            let addition = addition.lock().unwrap().take().unwrap();
            let addition = thread::spawn(|| addition.succeeds());
            if has_little {
                *adding.lock().unwrap() = Some(addition);
            } else {
                addition.join().unwrap();
            }
        };
        let outcome = steps::run_beside(&rmi, Counted::Files, number, &beside);
        if let Some(addition) = adding.into_inner().unwrap() {
            addition.join().unwrap();
        }
        let struck = outcome.struck.as_deref().unwrap_or_default();
        if !is_removers(struck) {
            break;
        }
        removers += 1;
        let step = format!("at call {number}, {struck}");
        assert_eq!((outcome.code(), outcome.stderr.as_str()), (0, ""), "{step}");
        bench.succeeds(&["system", "check"]);
        bench.prune();
        let wrong = inventory::difference(&before, &bench.inventory());
        assert!(wrong.is_empty(), "{step}; added beside it:\n{wrong}");
    }
    assert!(removers > 0, "nothing was deleted after the answer");
    bench.put_back();
    bench.succeeds(&["rmi", LARGE]);
}
