//! Where a container's cgroup is, and what those above it say.

use super::limits::{directory, read, start};
use super::{as_service, cgroup_of, run_in_service, systemctl};
use crate::env::Env;
use crate::kelp::{Kelp, around};

#[test]
fn the_limit_of_a_slice_holds_for_the_containers_in_it() {
    let Some(env) = Env::of_session() else { return };
    let set = ["set-property", "--runtime", "kelplimited.slice"];
    systemctl(&[&set[..], &["MemoryMax=32M", "MemorySwapMax=0"]].concat());
    let image = env.busybox();
    let parent = "--cgroup-parent=kelplimited.slice";
    for own in [&[][..], &["--memory=1g"]] {
        let run = ["run", "--network=none", "--name=small", parent];
        let program = [image.as_str(), "tail", "/dev/zero"];
        env.kelp(&[&run[..], own, &program].concat())
            .done()
            .exits(137);
        let format = "{{.State.ExitCode}} {{.State.OOMKilled}}";
        let state = env.kelp(&["inspect", "--format", format, "small"]);
        assert_eq!(state.succeeds(), "137 true\n", "{own:?}");
        env.kelp(&["rm", "small"]).succeeds();
    }
    // And it is told.
    start(&env, "told", &[parent]);
    let words = ["stats", "--no-stream", "--format={{.MemLimit}}", "told"];
    assert_eq!(env.kelp(&words).succeeds(), format!("{}\n", 32 << 20));
    env.kelp(&["rm", "-f", "-t0", "told"]).succeeds();
    systemctl(&["stop", "kelplimited.slice"]);
}

#[test]
fn the_limit_of_a_cgroup_holds_for_the_containers_in_it() {
    let Some(env) = Env::of_session() else { return };
    let image = env.busybox();
    // In a delegated service, whose processes make room for what is below it.
    let script = "own=$(sed -n s/^0:://p /proc/self/cgroup); cd /sys/fs/cgroup$own && \
                  mkdir rest mine && echo 0 >rest/cgroup.procs && echo +pids >cgroup.subtree_control && \
                  echo 4 >mine/pids.max && \
                  exec \"$0\" run --rm --network=none --cgroup-parent=$own/mine \"$@\"";
    let forks = "for i in 1 2 3 4 5; do sleep 1 & done; wait";
    let inner = env.kelp(&[&image, "sh", "-c", forks]).into_command();
    let command = around(&inner, "sh", &["-c", script]);
    let done = as_service(Kelp::new(command), &["Delegate=yes"]).done();
    assert!(done.code != 0 && done.stderr.contains("fork"), "{done:#?}");
}

#[test]
fn split_divides_the_unit_and_no_conmon_asks_for_no_scope() {
    let Some(env) = Env::of_session() else { return };
    let flags = [
        "--rm",
        "--network=none",
        "--cgroups=split",
        "--pids-limit=9",
    ];
    let script = "cat /sys/fs/cgroup/pids.max";
    assert_eq!(run_in_service(&env, &flags, script).succeeds(), "9\n");
    // From a login nothing else than a scope can be had.
    start(&env, "here", &["--cgroups=no-conmon"]);
    assert_eq!(cgroup_of(&env, "here"), "");
    let line = env.kelp(&["update", "--memory=64m", "here"]).fails(125);
    assert!(
        line.starts_with("Error: --memory can't be set: this session has no delegated cgroup"),
        "{line}"
    );
    let format = ["inspect", "--format={{.HostConfig.Memory}}", "here"];
    assert_eq!(env.kelp(&format).succeeds(), "0\n");
    env.kelp(&["rm", "-f", "-t0", "here"]).succeeds();
    let image = env.busybox();
    let run = ["run", "--rm", "--cgroups=no-conmon", "--pids-limit=9"];
    let line = env.kelp(&[&run[..], &[&image, "true"]].concat()).fails(125);
    assert!(
        line.contains("--pids-limit can't be set: this session has no"),
        "{line}"
    );
}

#[test]
fn a_limit_of_none_needs_no_cgroup() {
    let Some(env) = Env::of_session() else { return };
    let flags = ["--cgroups=no-conmon", "--memory=-1", "--pids-limit=-1"];
    start(&env, "free", &flags);
    env.kelp(&["rm", "-f", "-t0", "free"]).succeeds();
    // What a scope has beside it is the monitor, which stays when its container gets limits.
    start(&env, "scoped", &[]);
    env.kelp(&["update", "--pids-limit=9", "scoped"]).succeeds();
    let cgroup = directory(&env, "scoped");
    let beside = cgroup.parent().unwrap().join("supervisor");
    assert_eq!(read(&beside, "cgroup.procs").lines().count(), 1);
    env.kelp(&["rm", "-f", "-t0", "scoped"]).succeeds();
}
