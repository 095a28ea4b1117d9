//! `system reset`: nothing is left, on whatever it is called.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use crate::env::Env;
use crate::leaks;

/// What is beneath the directories of kelp's.
fn left(env: &Env) -> Vec<String> {
    [env.path("d/kelp"), env.runtime().join("kelp")]
        .iter()
        .flat_map(|directory| fs::read_dir(directory).unwrap())
        .map(|entry| entry.unwrap().path().display().to_string())
        .collect()
}

#[test]
fn it_asks_first() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let asked = env.kelp(&["system", "reset"]).input(b"n\n").succeeds();
    let expected = format!(
        "WARNING! This will remove:\n        - all containers\n        - all images\n        - all \
         volumes\n        - the graphRoot directory: \"{}\"\n        - the runRoot directory: \"{}\"\n\
         Are you sure you want to continue? [y/N] ",
        env.path("d/kelp").display(),
        env.runtime().join("kelp").display()
    );
    assert_eq!(asked, expected);
    env.kelp(&["image", "exists", &image]).succeeds();
    env.kelp(&["system", "reset"]).input(b"y\n").succeeds();
    assert_eq!(left(&env), Vec::<String>::new());
}

#[test]
fn what_runs_ends_and_files_of_subordinate_ids_go() {
    let Some(env) = Env::new() else { return };
    let script = "mkdir -p /v/a/b; chown -R 1000:1000 /v/a; chmod 0 /v/a /v/a/b; touch /root/x";
    env.shell(&["-v", "kept:/v"], script);
    env.shell(&["--userns=auto", "-v", "other:/v"], script);
    env.waiting("one", &[]);
    env.waiting("two", &["--restart=always", "--userns=keep-id"]);
    let image = env.busybox();
    env.kelp(&["create", "--name=three", &image]).succeeds();
    let asks_nothing = env.kelp(&["system", "reset", "-f"]).succeeds();
    assert_eq!(asks_nothing, "");
    assert_eq!(left(&env), Vec::<String>::new());
    assert_eq!(leaks::processes(&env.path("")), Vec::<String>::new());
    // And all begins anew.
    env.kelp(&["pull", "-q", &image]).succeeds();
    assert_eq!(env.shell(&[], "echo anew"), "anew\n");
}

#[test]
fn a_broken_store_is_no_obstacle() {
    type Break = fn(&Path, &str);
    let breaks: &[(&str, Break)] = &[
        ("records that do not parse", |data, id| {
            fs::write(data.join(format!("containers/{id}/config.json")), "{").unwrap();
            fs::write(data.join(format!("containers/{id}/launch.json")), "").unwrap();
            for directory in ["images", "tags"] {
                for entry in fs::read_dir(data.join(directory)).unwrap() {
                    fs::write(entry.unwrap().path(), "?").unwrap();
                }
            }
        }),
        ("directories without rights", |data, id| {
            let closed = || fs::Permissions::from_mode(0o0);
            for place in [
                &format!("containers/{id}"),
                "containers",
                "layers",
                "blobs",
                "names",
            ] {
                fs::set_permissions(data.join(place), closed()).unwrap();
            }
        }),
        ("files in the place of directories", |data, _| {
            for place in ["images", "blobs", "layers", "names", "tmp"] {
                let moved = data.join(format!("moved-{place}"));
                fs::rename(data.join(place), &moved).unwrap();
                fs::write(data.join(place), "").unwrap();
            }
        }),
        (
            "a link in the place of a directory, and a lock that is none",
            |data, _| {
                fs::rename(data.join("layers"), data.join("moved")).unwrap();
                let outside = data.with_file_name("outside");
                fs::create_dir(&outside).unwrap();
                fs::write(outside.join("kept"), "").unwrap();
                symlink(&outside, data.join("layers")).unwrap();
                fs::remove_file(data.join("lock")).unwrap();
                fs::create_dir(data.join("lock")).unwrap();
            },
        ),
        ("no container's record", |data, _| {
            fs::rename(data.join("containers"), data.join("moved")).unwrap();
            fs::write(data.join("containers"), "").unwrap();
        }),
    ];
    for (name, damage) in breaks {
        let Some(env) = Env::new() else { return };
        let id = env.waiting("x", &[]);
        damage(&env.path("d/kelp"), &id);
        env.kelp(&["system", "reset", "--force"]).succeeds();
        assert_eq!(left(&env), Vec::<String>::new(), "{name}");
        assert_eq!(
            leaks::processes(&env.path("")),
            Vec::<String>::new(),
            "{name}"
        );
        let outside = env.path("d/outside");
        assert!(!outside.exists() || outside.join("kept").exists(), "{name}");
    }
}
