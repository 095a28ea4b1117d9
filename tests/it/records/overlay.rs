//! Whether overlays can be had: asked by mounting one.

use std::fs;

use crate::env::{Env, names};
use crate::full_disk::on_small_disk;
use crate::kelp::{Kelp, wait_until};
use crate::skip::skip;

const DRIVER: [&str; 3] = ["info", "--format", "{{.Store.GraphDriverName}}"];

#[test]
fn a_data_directory_may_have_any_name() {
    let Some(env) = Env::new() else { return };
    for name in ["a,b", "a:b", "a\\b", "a\"b c"] {
        let data = env.path("h").join(name);
        let kelp = |words: &[&str]| {
            let mut command = env.kelp(words).into_command();
            command.env("XDG_DATA_HOME", &data);
            Kelp::new(command)
        };
        let _ = fs::remove_file(env.path("r/kelp/overlay"));
        assert_eq!(kelp(&DRIVER).succeeds(), "overlay\n", "{name}");
        assert_eq!(names(&data.join("kelp/tmp")), [""; 0], "{name}");
    }
}

#[test]
fn a_full_disk_is_no_reason_to_copy() {
    let Some(env) = Env::new() else { return };
    let driver = |inodes: u32| {
        // A later file system may get the number of an earlier one.
        let _ = fs::remove_file(env.path("r/kelp/overlay"));
        on_small_disk(&env, &format!("1m,nr_inodes={inodes}"), &DRIVER, ":")
    };
    if driver(1000).1 != "overlay\n" {
        skip("a tmpfs with attributes of users (Linux 6.6)");
        return;
    }
    let mut refused = 0;
    for inodes in 12..40 {
        let (code, said, error) = driver(inodes);
        if code == 0 {
            assert_eq!(said, "overlay\n", "{inodes}");
        } else {
            assert!(error.contains("no space left on device"), "{error}");
            refused += u32::from(error.contains("try an overlay on"));
        }
    }
    assert!(refused > 0, "the probe always fitted");
}

#[test]
fn what_a_killed_probe_leaves_is_garbage() {
    let Some(env) = Env::new() else { return };
    let directory = env.path("d/kelp/tmp");
    let left = (0..100).find_map(|_| {
        let _ = fs::remove_file(env.path("r/kelp/overlay"));
        let mut kelp = env.kelp(&DRIVER).start();
        while names(&directory).is_empty() && kelp.try_wait().unwrap().is_none() {
            std::thread::yield_now();
        }
        let _ = kelp.kill();
        kelp.wait().unwrap();
        names(&directory).pop()
    });
    assert!(left.is_some_and(|name| name.starts_with("overlay-")));
    // A child of the one that was killed may last a moment longer, and what it makes is nobody's before it ends.
    wait_until("what was left is pruned", || {
        env.kelp(&["image", "prune", "-f"]).succeeds();
        names(&directory).is_empty()
    });
    let strays = names(&env.path("d/kelp"));
    let known = ["blobs", "images", "layers", "lists", "lock", "tags", "tmp"];
    let strays: Vec<_> = strays
        .iter()
        .filter(|name| !known.contains(&name.as_str()))
        .collect();
    assert_eq!(strays, [""; 0]);
}
