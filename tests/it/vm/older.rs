//! A kernel before Linux 6.5, Debian 12's.

use crate::env::Env;
use crate::kelp::Kelp;

#[test]
fn the_kernel_is_older_and_nothing_is_wrong_with_it() {
    let release = rustix::system::uname()
        .release()
        .to_string_lossy()
        .into_owned();
    assert!(release.starts_with("6.1."), "{release}");
    let Some(env) = Env::new() else { return };
    let checks = env.kelp(&["doctor"]).succeeds();
    let line = |name: &str| checks.lines().find(|line| line.contains(name)).unwrap();
    for name in ["kernel", "overlay"] {
        assert!(line(name).contains("ok"), "{checks}");
    }
    let driver = ["info", "--format", "{{.Store.GraphDriverName}}"];
    assert_eq!(env.kelp(&driver).succeeds(), "overlay\n");
    // A tmpfs has no attributes of users before Linux 6.6: layers can't say there what they hide.
    let directory = tempfile::tempdir_in("/dev/shm").unwrap();
    let mut on_tmpfs = env.kelp(&driver).into_command();
    on_tmpfs.env("XDG_DATA_HOME", directory.path());
    assert_eq!(Kelp::new(on_tmpfs).succeeds(), "vfs\n");
}
