//! Some hundreds of archives, each extracted by GNU tar and by the extractor.
#![allow(clippy::unwrap_used)]

use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

use kelp_fuzz::differential::compare;

/// How many archives there are at most, and how long they may take.
const ARCHIVES: u64 = 400;
const TIME: Duration = Duration::from_secs(8);

/// An archive is as good as its number: that of a failure is in the message.
fn compare_many(first: u64) {
    if Command::new("tar").arg("--version").output().is_err() {
        eprintln!("SKIP: gnu_tar: no tar");
        return;
    }
    let start = Instant::now();
    for seed in first..first + ARCHIVES {
        if start.elapsed() > TIME {
            // A slow machine has done what it could, and says how much that was.
            println!("{} archives of {ARCHIVES}", seed - first);
            assert!(seed - first >= 20, "{} archives in {TIME:?}", seed - first);
            return;
        }
        if let Err(difference) = compare(&bytes(seed)) {
            panic!("archive {seed}: {difference}");
        }
    }
}

/// Numbers that look like chance: splitmix64.
fn bytes(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut value = state;
        value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (value ^ (value >> 31)).to_le_bytes()
    };
    let length = 8 + (seed % 40) as usize;
    (0..length).flat_map(|_| next()).collect()
}

/// As whoever runs it: with one id, or as root with all of the machine's.
#[test]
fn gnu_tar_makes_the_same_of_well_formed_archives() {
    compare_many(0);
}

/// The same with the ids of a user namespace, in this program started again.
#[test]
fn gnu_tar_makes_the_same_in_a_user_namespace() {
    if std::env::var_os("KELP_TEST_IN_NAMESPACE").is_some() {
        compare_many(1_000_000);
        return;
    }
    let own = std::env::current_exe().unwrap();
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--map-auto", "--"])
        .arg(own)
        .args([
            "--exact",
            "--nocapture",
            "gnu_tar_makes_the_same_in_a_user_namespace",
        ])
        .env("KELP_TEST_IN_NAMESPACE", "1")
        .output()
        .unwrap();
    std::io::stdout().write_all(&output.stdout).unwrap();
    std::io::stderr().write_all(&output.stderr).unwrap();
    assert!(output.status.success());
}
