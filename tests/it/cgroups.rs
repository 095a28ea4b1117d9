//! Where a container's cgroup is, and limits that can't be had. What takes controllers or systemd is the
//! virtual machine's.

use std::fs;
use std::path::{Path, PathBuf};

use crate::env::Env;
use crate::skip;

/// The cgroup that the tests are in, below the mount.
pub(crate) fn own() -> String {
    let text = fs::read_to_string("/proc/self/cgroup").unwrap();
    let own = text.lines().find_map(|line| line.strip_prefix("0::"));
    own.unwrap().trim_end_matches('/').to_owned()
}

fn directory(path: &str) -> PathBuf {
    Path::new("/sys/fs/cgroup").join(path.trim_start_matches('/'))
}

#[test]
fn a_parent_can_be_named_from_the_root_or_from_what_is_the_users() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let own = own();
    for (parent, expected) in [
        (format!("{own}/named-{}", std::process::id()), None),
        (format!("near-{}/below", std::process::id()), Some(&own)),
    ] {
        let path = expected.map_or(parent.clone(), |own| format!("{own}/{parent}"));
        let flag = format!("--cgroup-parent={parent}");
        let run = ["run", "-d", "--network=none", "--name=inside", &flag];
        let id = env
            .kelp(&[&run[..], &[&image, "sleep", "1000"]].concat())
            .succeeds();
        let format = "{{.State.CgroupPath}} {{.HostConfig.CgroupParent}}";
        let told = env.kelp(&["inspect", "-f", format, "inside"]).succeeds();
        assert_eq!(told, format!("{path}/kelp-{} {parent}\n", id.trim()));
        let listed = fs::read_to_string(
            directory(&path)
                .join(format!("kelp-{}", id.trim()))
                .join("cgroup.procs"),
        );
        assert_eq!(listed.unwrap().lines().count(), 1);
        env.kelp(&["restart", "-t0", "inside"]).succeeds();
        env.kelp(&["rm", "-f", "-t0", "inside"]).succeeds();
        // The parent stays for the next one; the container's own is gone.
        let mut left = directory(&path);
        while left != directory(&own) {
            fs::remove_dir(&left).unwrap();
            left.pop();
        }
    }
}

#[test]
fn a_parent_that_is_not_the_users_is_told_with_what_to_do() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    for (flags, expected) in [
        (
            &["--cgroup-parent=/kelp-nobodys"][..],
            "create cgroup /sys/fs/cgroup/kelp-nobodys: it is not in a cgroup that is delegated to this \
             user; this session has no delegated cgroup: start kelp in a systemd user session",
        ),
        (&["--cgroup-parent=a/../../b"], "it leads upwards"),
        (
            &["--cgroup-parent=a", "--cgroups=disabled"],
            "--cgroup-parent cannot be used together with --cgroups=disabled or split",
        ),
        (
            &["--cgroup-parent=a", "--cgroups=split"],
            "--cgroup-parent cannot be used together with --cgroups=disabled or split",
        ),
        (
            &["--cgroups=split"],
            "--cgroups=split needs a unit with Delegate=yes around kelp",
        ),
        (
            &["--cgroups=some"],
            "use enabled, no-conmon, split or disabled",
        ),
    ] {
        let words = [&["run", "--rm"], flags, &[&image, "true"]].concat();
        let line = env.kelp(&words).fails(125);
        assert!(line.contains(expected), "{flags:?}: {line}");
    }
}

#[test]
fn a_limit_without_its_controller_is_an_error_with_its_remedy() {
    let Some(env) = Env::new() else { return };
    let controllers = fs::read_to_string(directory(&own()).join("cgroup.controllers"));
    if controllers.unwrap().contains("pids") {
        skip::skip("a cgroup that has no controllers");
        return;
    }
    let image = env.busybox();
    for (flag, controller) in [
        ("--memory=64m", "memory"),
        ("--cpus=0.5", "cpu"),
        ("--cpuset-cpus=0", "cpuset"),
        ("--pids-limit=5", "pids"),
        ("--blkio-weight=10", "io"),
        ("--cgroup-conf=memory.high=1", "memory"),
    ] {
        let line = env.kelp(&["run", "--rm", flag, &image, "true"]).fails(125);
        let expected = format!(
            "Error: the {controller} controller is not delegated to this user; as root, put `[Service]`"
        );
        assert!(line.starts_with(&expected), "{flag}: {line}");
    }
    // That there is none is what a container has here anyway.
    let none = [
        "--memory=-1",
        "--pids-limit=-1",
        "--cpus=0",
        "--memory-swap=-1",
    ];
    let words = [&["run", "--rm"], &none[..], &[&image, "true"]].concat();
    env.kelp(&words).succeeds();
}
