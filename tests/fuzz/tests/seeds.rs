//! Every seed, given to its target: none panics.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use kelp_fuzz::TARGETS;

/// Where a directory of seeds is for each target.
fn parent() -> PathBuf {
    // At run time, because the checkout may have moved since the build.
    let package = std::env::var_os("CARGO_MANIFEST_DIR");
    let package = package.map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    package.join("seeds")
}

/// The seeds of a target, in their names' order.
fn seeds(target: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent().join(target)).unwrap();
    let mut files: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn no_seed_breaks_its_target() {
    for (target, run) in TARGETS {
        let files = seeds(target);
        assert!(files.len() >= 5, "{target} has {} seeds", files.len());
        for file in files {
            let input = fs::read(&file).unwrap();
            let start = Instant::now();
            // The test's own output says which one it was.
            println!("{}", file.display());
            run(&input);
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "{}",
                file.display()
            );
        }
    }
}

/// Cut anywhere, and with a byte changed, a seed is what a fuzzer tries first.
#[test]
fn no_damaged_seed_breaks_its_target() {
    for (target, run) in TARGETS {
        for file in seeds(target) {
            let input = fs::read(&file).unwrap();
            println!("{}", file.display());
            // Those make files, and start programs.
            let places = match *target {
                "layer" | "gnu_tar" => 4,
                _ => 50,
            };
            for at in (0..input.len()).step_by(input.len() / places + 1) {
                run(&input[..at]);
                for byte in [0, b'"', b'9', 0xff] {
                    let mut changed = input.clone();
                    changed[at] = byte;
                    run(&changed);
                }
            }
        }
    }
}

#[test]
fn every_directory_of_seeds_has_a_target() {
    for entry in fs::read_dir(parent()).unwrap() {
        let name = entry.unwrap().file_name();
        let known = TARGETS.iter().any(|(target, _)| *target == name);
        assert!(known, "{}", name.display());
    }
}
