//! Cgroups where systemd is the user's manager and every controller is delegated.

use std::process::{Command, Stdio};

use crate::env::Env;
use crate::kelp::Kelp;

/// The same command as a service of the user's manager, with these properties.
fn as_service(kelp: Kelp, properties: &[&str]) -> Kelp {
    let inner = kelp.into_command();
    let mut outer = Command::new("systemd-run");
    outer.args(["--user", "--quiet", "--wait", "--pipe", "--collect"]);
    for property in properties {
        outer.arg(format!("--property={property}"));
    }
    for (name, value) in inner.get_envs() {
        let value = value.unwrap_or_default().to_string_lossy();
        outer.arg(format!("--setenv={}={value}", name.to_string_lossy()));
    }
    outer.arg("--").arg(inner.get_program());
    outer.args(inner.get_args()).stdin(Stdio::null());
    Kelp::new(outer)
}

/// `kelp run` of a shell command in a service that has its cgroup delegated.
fn run_in_service(env: &Env, flags: &[&str], script: &str) -> Kelp {
    let image = env.busybox();
    let words = [&["run"], flags, &[image.as_str(), "sh", "-c", script]].concat();
    as_service(env.kelp(&words), &["Delegate=yes"])
}

#[test]
fn limits_are_written_to_the_cgroup_of_a_delegated_service() {
    let Some(env) = Env::of_session() else { return };
    let flags = [
        "--rm",
        "--memory=64m",
        "--memory-swap=96m",
        "--pids-limit=50",
        "--cpus=0.5",
        "--cpu-shares=512",
        "--cpuset-cpus=1",
        "--blkio-weight=200",
    ];
    let script = "cd /sys/fs/cgroup && cat memory.max memory.swap.max pids.max cpu.max cpu.weight \
                  cpuset.cpus && grep Cpus_allowed_list /proc/self/status";
    let text = run_in_service(&env, &flags, script).succeeds();
    assert_eq!(
        text,
        "67108864\n33554432\n50\n50000 100000\n20\n1\nCpus_allowed_list:\t1\n"
    );
}

#[test]
fn a_container_above_its_memory_is_killed_and_the_record_says_why() {
    let Some(env) = Env::of_session() else { return };
    let flags = ["--name=hog", "--memory=32m", "--memory-swap=32m"];
    // tail keeps everything up to the end of a line that never comes.
    run_in_service(&env, &flags, "exec tail /dev/zero")
        .done()
        .exits(137);
    let format = "{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}}";
    let state = env.kelp(&["inspect", "--format", format, "hog"]).succeeds();
    assert_eq!(state, "exited 137 true\n");
    env.kelp(&["rm", "hog"]).succeeds();
}
