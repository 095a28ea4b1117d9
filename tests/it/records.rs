//! Records: where they are, who may be near them, and what is left of those that were never whole.

use std::fs;
use std::path::Path;

use crate::env::Env;

mod overlay;

/// What is in a directory.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect()
}

/// A power cut leaves the name of a file that was not synced, without its content.
#[test]
fn a_record_without_its_content_is_garbage() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let create = ["create", "--rm", "--name", "cut", &image, "true"];
    let id = env.kelp(&create).succeeds();
    let record = env.path("d/kelp/containers").join(id.trim());
    fs::File::create(record.join("config.json")).unwrap();
    assert_eq!(env.kelp(&["ps", "-a", "-q"]).succeeds(), "");
    env.kelp(&["container", "prune", "-f"]).succeeds();
    for directory in ["containers", "names", "trash"] {
        let left = names(&env.path("d/kelp").join(directory));
        assert_eq!(left, [""; 0], "{directory}");
    }
}
