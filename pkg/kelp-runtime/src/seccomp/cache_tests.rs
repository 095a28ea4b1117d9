//! Tests of the kept filters.

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::PathBuf;

use rustix::fs::{CWD, mknodat};

use super::*;
use crate::seccomp::tests::{built, profile};

/// A directory for filters that nobody has made yet.
struct Place {
    parent: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let parent = tempfile::tempdir().unwrap();
        Self { parent }
    }

    fn directory(&self) -> PathBuf {
        self.parent.path().join("kept")
    }

    fn plan(&self) -> Program {
        planned(Some(&self.directory()))
    }

    fn file(&self) -> PathBuf {
        self.directory().join(default_key(CapSet::DEFAULT, false))
    }

    /// What is kept, whole.
    fn kept(&self) -> Option<Program> {
        read(
            &open(&self.directory()).unwrap(),
            &default_key(CapSet::DEFAULT, false),
        )
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory()).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }
}

fn planned(directory: Option<&Path>) -> Program {
    let program = plan_cached(None, Some(CapSet::DEFAULT), false, directory);
    program.unwrap().unwrap()
}

/// A program that no profile here makes.
fn other() -> Program {
    built(serde_json::json!({ "defaultAction": "SCMP_ACT_ALLOW" }))
        .unwrap()
        .program
}

/// A file as a writer makes it, with another program in it.
fn planted(key: &str) -> Vec<u8> {
    let mut bytes = other().to_bytes();
    bytes.extend(digest(key, &bytes));
    bytes
}

#[test]
fn a_filter_is_compiled_once() {
    let place = Place::new();
    let program = planned(None);
    assert_eq!(place.plan(), program);
    let mode = |path: PathBuf| fs::metadata(path).unwrap().mode() & 0o7777;
    assert_eq!(mode(place.directory()), 0o700);
    assert_eq!(mode(place.file()), 0o600);
    assert_eq!(place.kept(), Some(program));
    assert_eq!(place.names().len(), 1, "no temporary file is left");
    // What is kept is what a start gets.
    fs::write(place.file(), planted(&default_key(CapSet::DEFAULT, false))).unwrap();
    assert_eq!(place.plan(), other());
}

#[test]
fn each_profile_has_its_own() {
    let place = Place::new();
    let directory = place.directory();
    let given = profile(serde_json::json!({ "defaultAction": "SCMP_ACT_LOG" }));
    let mut programs = Vec::new();
    let cases = [
        (None, Some(CapSet::DEFAULT), false),
        (None, Some(CapSet::DEFAULT), true),
        (None, Some(CapSet::EMPTY), false),
        (Some(&given), None, false),
        (Some(&given), Some(CapSet::DEFAULT), true),
        (None, None, true),
    ];
    for _ in 0..2 {
        for (profile, default, single_id) in cases {
            let program = plan_cached(profile, default, single_id, Some(&directory)).unwrap();
            let fresh = plan_cached(profile, default, single_id, None).unwrap();
            assert_eq!(program, fresh);
            programs.push(program.unwrap());
        }
    }
    assert_eq!(programs[..6], programs[6..]);
    assert_eq!(place.names().len(), 6);
    assert_eq!(
        plan_cached(None, None, false, Some(&directory)).unwrap(),
        None
    );
    assert_eq!(place.names().len(), 6);
}

#[test]
fn what_is_damaged_is_compiled_again_and_replaced() {
    let place = Place::new();
    let program = place.plan();
    let whole = fs::read(place.file()).unwrap();
    let mut wrongs = vec![
        Vec::new(),
        vec![0; LONGEST],
        vec![0; LONGEST + 1],
        vec![0; 1 << 20],
        [&whole[..], b"x"].concat(),
        // Of another version of what a profile means, and of another name.
        planted("default-0.0.1"),
        planted(&default_key(CapSet::DEFAULT, true)),
        planted(&default_key(CapSet::EMPTY, false)),
    ];
    let mut older = whole.clone();
    older[7] = older[7].wrapping_sub(1);
    let end = older.len() - DIGEST;
    let key = default_key(CapSet::DEFAULT, false);
    let right = digest(&key, &older[..end]);
    older[end..].copy_from_slice(&right);
    wrongs.push(older);
    for at in (0..whole.len()).step_by(97).chain([whole.len() - 1]) {
        wrongs.push(whole[..at].to_vec());
        let mut flipped = whole.clone();
        flipped[at] ^= 4;
        wrongs.push(flipped);
    }
    for wrong in wrongs {
        fs::write(place.file(), &wrong).unwrap();
        assert_eq!(place.plan(), program, "{} bytes", wrong.len());
        assert_eq!(fs::read(place.file()).unwrap(), whole);
    }
    assert_eq!(place.names().len(), 1);
}

#[test]
fn what_is_no_file_of_the_users_alone_is_not_trusted() {
    let place = Place::new();
    let program = place.plan();
    let key = default_key(CapSet::DEFAULT, false);
    let elsewhere = place.parent.path().join("elsewhere");
    fs::write(&elsewhere, planted(&key)).unwrap();
    // A link, even to a good one.
    fs::remove_file(place.file()).unwrap();
    symlink(&elsewhere, place.file()).unwrap();
    assert_eq!(place.plan(), program);
    assert!(!fs::symlink_metadata(place.file()).unwrap().is_symlink());
    assert_eq!(fs::read(&elsewhere).unwrap(), planted(&key));
    // One that others may write to.
    fs::write(place.file(), planted(&key)).unwrap();
    fs::set_permissions(place.file(), Permissions::from_mode(0o620)).unwrap();
    assert_eq!(place.plan(), program);
    assert_eq!(fs::metadata(place.file()).unwrap().mode() & 0o777, 0o600);
    // A pipe, which holds nobody up.
    fs::remove_file(place.file()).unwrap();
    let mode = Mode::RUSR | Mode::WUSR;
    mknodat(CWD, place.file(), FileType::Fifo, mode, 0).unwrap();
    assert_eq!(place.plan(), program);
    assert!(place.kept().is_some());
    // A directory can't be replaced; the start goes on.
    fs::remove_file(place.file()).unwrap();
    fs::create_dir(place.file()).unwrap();
    assert_eq!(place.plan(), program);
    assert_eq!(place.names(), [key], "no temporary file is left");
}

#[test]
fn a_directory_that_others_may_enter_is_not_used() {
    let key = default_key(CapSet::DEFAULT, false);
    let program = planned(None);
    for mode in [0o755, 0o710, 0o701, 0o777] {
        let place = Place::new();
        fs::create_dir(place.directory()).unwrap();
        fs::write(place.file(), planted(&key)).unwrap();
        fs::set_permissions(place.directory(), Permissions::from_mode(mode)).unwrap();
        assert_eq!(place.plan(), program, "{mode:o}");
        assert_eq!(fs::read(place.file()).unwrap(), planted(&key));
    }
    let place = Place::new();
    let real = place.parent.path().join("real");
    planned(Some(&real));
    fs::write(real.join(&key), planted(&key)).unwrap();
    symlink(&real, place.directory()).unwrap();
    assert_eq!(place.plan(), program, "by a link");
}

#[test]
fn where_nothing_can_be_written_a_start_goes_on() {
    let program = planned(None);
    let place = Place::new();
    fs::write(place.directory(), "a file").unwrap();
    assert_eq!(place.plan(), program);
    assert_eq!(fs::read(place.directory()).unwrap(), b"a file");
    let missing = place.parent.path().join("no/such");
    assert_eq!(planned(Some(&missing)), program);
    assert!(!missing.exists());
    // No permission: for root there is always one.
    let is_root = rustix::process::geteuid().is_root();
    for mode in [0o500, 0o000] {
        let place = Place::new();
        fs::create_dir(place.directory()).unwrap();
        fs::set_permissions(place.directory(), Permissions::from_mode(mode)).unwrap();
        assert_eq!(place.plan(), program);
        fs::set_permissions(place.directory(), Permissions::from_mode(0o700)).unwrap();
        assert_eq!(place.names().is_empty(), !is_root, "{mode:o}");
    }
}

#[test]
fn writers_at_the_same_time_leave_one_whole_file() {
    let place = Place::new();
    let program = planned(None);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for round in 0..100 {
                    if round % 10 == 0 {
                        // Another one that has found it damaged.
                        let _ = fs::remove_file(place.file());
                    }
                    assert_eq!(place.plan(), program);
                }
            });
        }
    });
    assert_eq!(place.plan(), program);
    assert_eq!(place.names().len(), 1);
}

#[test]
fn many_filters_make_room() {
    let place = Place::new();
    for bits in 0..MOST as u64 + 3 {
        let caps = CapSet::from_bits(bits);
        plan_cached(None, Some(caps), false, Some(&place.directory())).unwrap();
        assert!(place.names().len() <= MOST);
    }
    assert_eq!(place.names().len(), 3);
}
