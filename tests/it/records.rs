//! Records: where they are, who may be near them, and what is left of those that were never whole.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::env::{Env, names};
use crate::kelp::Kelp;
use crate::skip::skip;

mod copies;
mod overlay;

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

/// Without a session the runtime directory is in /tmp, where others may make names as well.
#[test]
fn a_runtime_directory_that_others_may_write_in_is_refused() {
    let uid = rustix::process::getuid().as_raw();
    let base = Path::new("/tmp").join(format!("kelp-{uid}"));
    if Path::new(&format!("/run/user/{uid}")).exists() || base.exists() {
        skip("a user without a session");
        return;
    }
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let kelp = |words: &[&str]| {
        let mut command = env.kelp(words).into_command();
        command.env_remove("XDG_RUNTIME_DIR");
        Kelp::new(command)
    };
    let run = ["run", "--rm", "--network", "none", &image, "echo", "said"];
    assert_eq!(kelp(&run).succeeds(), "said\n");
    // The monitor is root of its user namespace, and has the same.
    assert!(!Path::new("/tmp/kelp-0").exists());
    fs::set_permissions(&base, fs::Permissions::from_mode(0o777)).unwrap();
    let said = kelp(&["ps"]).fails(125);
    fs::remove_dir_all(&base).unwrap();
    let expected = format!(
        "Error: {} belongs to somebody else or is open to others: set XDG_RUNTIME_DIR to a \
         directory of your own with mode 700, or have it removed",
        base.display()
    );
    assert_eq!(said, expected);
}
