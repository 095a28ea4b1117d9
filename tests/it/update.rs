//! `kelp update`: what a container may use, and is started with, is changed later. Limits that take
//! effect need controllers: those tests are the virtual machine's.

use rustix::fs::{FlockOperation, flock};
use serde_json::Value;

use crate::env::Env;
use crate::flags::restart::Starts;

/// Makes a container from busybox, with these flags and a shell command.
fn create(env: &Env, name: &str, flags: &[&str], script: &str) -> String {
    let image = env.busybox();
    let words = [
        &["create", "--name", name, "--network=none"],
        flags,
        &[image.as_str(), "sh", "-c", script],
    ];
    env.kelp(&words.concat()).succeeds().trim().to_owned()
}

/// A part of what inspect tells.
fn inspect(env: &Env, name: &str, pointer: &str) -> Value {
    let text = env.kelp(&["inspect", name]).succeeds();
    let list: Value = serde_json::from_str(&text).unwrap();
    list[0].pointer(pointer).unwrap_or(&Value::Null).clone()
}

#[test]
fn limits_of_a_container_that_does_not_run_are_in_its_record() {
    let Some(env) = Env::new() else { return };
    let id = create(&env, "still", &["--memory=64m", "--cpus=0.5"], "true");
    let flags = [
        "update",
        "--memory=128m",
        "--memory-reservation=32m",
        "--pids-limit=20",
        "--cpu-shares=512",
        "--cpuset-cpus=0",
        "--blkio-weight=300",
        "still",
    ];
    assert_eq!(env.kelp(&flags).succeeds(), format!("{id}\n"));
    for (name, expected) in [
        ("Memory", 128 << 20),
        ("MemorySwap", 256 << 20),
        ("MemoryReservation", 32 << 20),
        ("PidsLimit", 20),
        ("CpuShares", 512),
        ("CpuQuota", 50_000),
        ("BlkioWeight", 300),
    ] {
        let value = inspect(&env, "still", &format!("/HostConfig/{name}"));
        assert_eq!(value, expected, "{name}");
    }
    // One that is changed by itself leaves the others.
    env.kelp(&["container", "update", "--cpus=2", "--latest"])
        .succeeds();
    assert_eq!(inspect(&env, "still", "/HostConfig/CpuQuota"), 200_000);
    assert_eq!(inspect(&env, "still", "/HostConfig/Memory"), 128 << 20);
    let events = ["events", "--stream=false", "--filter", "event=update"];
    assert_eq!(env.kelp(&events).succeeds().lines().count(), 2);
    env.kelp(&["rm", "still"]).succeeds();
}

#[test]
fn what_is_wrong_changes_nothing() {
    let Some(env) = Env::new() else { return };
    let id = create(&env, "kept", &["--memory=64m"], "true");
    create(&env, "bare", &["--cgroups=disabled"], "true");
    create(&env, "gone", &["--rm"], "true");
    let before = env.kelp(&["inspect", "kept"]).succeeds();
    for (flags, expected) in [
        (
            &["--memory-swap=32m", "--pids-limit=5", "kept"][..],
            "--memory-swap 33554432 is below --memory 67108864: it counts both together",
        ),
        (
            &["--cpus=1", "--cpu-quota=5000", "kept"],
            "--cpus cannot be used together with --cpu-period or --cpu-quota",
        ),
        (
            &["--blkio-weight=5", "kept"],
            "invalid --blkio-weight 5: it is from 10 to 1000",
        ),
        (&["--pids-limit=5", "none"], "no such container"),
        (&["--pids-limit=5"], "you must provide the name or id"),
        (
            &["--pids-limit=5", "bare"],
            "--cgroups=disabled leaves no place",
        ),
        (
            &["--restart=always", "gone"],
            "--rm and --restart exclude each other",
        ),
        (
            &["--health-retries=2", "kept"],
            "there is no health check to change: the image has none, and --health-cmd is not given",
        ),
        (
            &["--memory-swappiness=5", "kept"],
            "--memory-swappiness is not supported by kelp yet: cgroup v2 has no such limit",
        ),
    ] {
        let line = env.kelp(&[&["update"], flags].concat()).fails(125);
        assert!(line.contains(expected), "{flags:?}: {line}");
    }
    assert_eq!(env.kelp(&["inspect", "kept"]).succeeds(), before);
    // Nothing is asked for: nothing changes, and that is no error.
    assert_eq!(env.kelp(&["update", "kept"]).succeeds(), format!("{id}\n"));
    assert_eq!(env.kelp(&["inspect", "kept"]).succeeds(), before);
    env.kelp(&["rm", "kept", "bare", "gone"]).succeeds();
}

#[test]
fn the_next_start_has_other_variables_and_limits_of_processes() {
    let Some(env) = Env::new() else { return };
    let script = "echo $A $B $C; ulimit -n";
    create(&env, "vars", &["-e", "A=1", "-e", "B=2"], script);
    let flags = [
        "update",
        "-e",
        "A=one",
        "--env=C=3",
        "--unsetenv=B",
        "--ulimit=nofile=99:99",
        "vars",
    ];
    env.kelp(&flags).succeeds();
    let text = env.kelp(&["start", "-a", "vars"]).succeeds();
    assert_eq!(text, "one 3\n99\n");
    let variables = inspect(&env, "vars", "/Config/Env");
    let variables: Vec<_> = variables.as_array().unwrap().iter().collect();
    assert!(variables.contains(&&"A=one".into()), "{variables:?}");
    env.kelp(&["rm", "vars"]).succeeds();
}

#[test]
fn a_policy_and_variables_that_change_while_it_runs_are_those_of_the_next_run() {
    let Some(env) = Env::new() else { return };
    let mut starts = Starts::new(&env);
    let volume = starts.volume();
    let directory = env.path("in");
    std::fs::create_dir(&directory).unwrap();
    let input = format!("{}:/in", directory.display());
    let script = "echo started >/starts; echo run $N; until [ -s /in/$N ]; do sleep 0.02; done; \
                  exit $(cat /in/$N)";
    let image = env.busybox();
    let run = ["run", "-d", "--network=none", "-v", &volume, "-v", &input];
    let named = ["-e", "N=1", "--name=next", &image, "sh", "-c", script];
    env.kelp(&[&run[..], &named].concat()).succeeds();
    starts.wait(1);
    let update = ["update", "--restart=on-failure:1", "-e", "N=2", "next"];
    env.kelp(&update).succeeds();
    let policy = inspect(&env, "next", "/HostConfig/RestartPolicy/Name");
    assert_eq!(policy, "on-failure");
    std::fs::write(directory.join("1"), "3").unwrap();
    starts.wait(1);
    std::fs::write(directory.join("2"), "4").unwrap();
    env.kelp(&["wait", "next"]).succeeds();
    assert_eq!(env.kelp(&["logs", "next"]).succeeds(), "run 1\nrun 2\n");
    assert_eq!(inspect(&env, "next", "/State/ExitCode"), 4);
    assert_eq!(inspect(&env, "next", "/RestartCount"), 1);
    env.kelp(&["rm", "next"]).succeeds();
}

/// The cgroup that the tests are in, if it has no controllers.
fn bare_cgroup() -> Option<std::path::PathBuf> {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
    let path = std::path::Path::new("/sys/fs/cgroup").join(own.unwrap());
    let controllers = std::fs::read_to_string(path.join("cgroup.controllers")).unwrap();
    if controllers.contains("pids") {
        crate::skip::skip("a cgroup that has no controllers");
        return None;
    }
    Some(path)
}

#[test]
fn a_limit_that_comes_while_the_container_is_started_is_not_lost() {
    let Some(env) = Env::new() else { return };
    let Some(own) = bare_cgroup() else { return };
    let image = env.busybox();
    // Who mounts a volume waits for who fills it: with the cgroup made, and nothing said of what runs.
    env.kelp(&["volume", "create", "filled"]).succeeds();
    let mark = env.path("d/kelp/volumes/filled/filling");
    let mark = std::fs::File::create(mark).unwrap();
    flock(&mark, FlockOperation::LockExclusive).unwrap();
    let run = ["run", "-d", "--network=none", "--name=slow"];
    let run = [&run[..], &["-v", "filled:/data"]].concat();
    let program = [image.as_str(), "sleep", "1000"];
    let mut child = env.kelp(&[&run[..], &program].concat()).start();
    let is_there = || {
        let id = env.kelp(&["ps", "-aq", "--no-trunc"]).succeeds();
        !id.is_empty() && own.join(format!("kelp-{}", id.trim())).exists()
    };
    crate::kelp::wait_until("the container is there", is_there);
    env.kelp(&["update", "--pids-limit=5", "slow"]).succeeds();
    drop(mark);
    let stderr = crate::kelp::collect(child.stderr.take().unwrap());
    assert_eq!(crate::kelp::wait(&mut child, "kelp run"), 125);
    let said = String::from_utf8(stderr.recv().unwrap()).unwrap();
    // Here it can't be had, and so it was not passed over.
    assert!(
        said.starts_with("Error: the pids controller is not delegated"),
        "{said}"
    );
    env.kelp(&["rm", "slow"]).succeeds();
    env.kelp(&["volume", "rm", "filled"]).succeeds();
}

#[test]
fn without_the_controller_a_running_container_keeps_what_it_has() {
    let Some(env) = Env::new() else { return };
    if bare_cgroup().is_none() {
        return;
    }
    let image = env.busybox();
    let run = ["run", "-d", "--network=none", "--name=plain"];
    env.kelp(&[&run[..], &[&image, "sleep", "1000"]].concat())
        .succeeds();
    let before = env.kelp(&["inspect", "plain"]).succeeds();
    let update = ["update", "--pids-limit=5", "--restart=always", "plain"];
    let line = env.kelp(&update).fails(125);
    assert!(
        line.starts_with("Error: the pids controller is not delegated to this user; as root, put"),
        "{line}"
    );
    assert_eq!(env.kelp(&["inspect", "plain"]).succeeds(), before);
    env.kelp(&["stop", "-t0", "plain"]).succeeds();
    // In the record of one that does not run it is an error at the start, and can be taken back.
    env.kelp(&["update", "--pids-limit=5", "plain"]).succeeds();
    let line = env.kelp(&["start", "plain"]).fails(125);
    assert!(line.contains("the pids controller"), "{line}");
    env.kelp(&["update", "--pids-limit=-1", "plain"]).succeeds();
    env.kelp(&["start", "plain"]).succeeds();
    env.kelp(&["rm", "-f", "-t0", "plain"]).succeeds();
}
