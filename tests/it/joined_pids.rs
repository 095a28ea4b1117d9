//! `--pid=container:X` and `--pid=ns:PATH`: the processes of another container.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

use crate::env::Env;

/// Prints the number and name of every process in /proc that has not ended.
const PROCESSES: &str = r#"
for process in /proc/[0-9]*; do
    read line < $process/stat
    case "$line" in
        *") Z "*) ;;
        *) name="${line#*(}"; echo "${name%%)*}" ;;
    esac
done
"#;

/// A container with one process, `sleep`.
fn start(env: &Env, name: &str, flags: &[&str]) {
    let image = env.busybox();
    let run = ["run", "-d", "--network=none", "--name", name];
    env.kelp(&[&run[..], flags, &[&image, "sleep", "1000"]].concat())
        .succeeds();
}

fn processes_of(env: &Env, name: &str) -> Vec<String> {
    let said = env.kelp(&["exec", name, "sh", "-c", PROCESSES]).succeeds();
    let mut names: Vec<_> = said.lines().map(str::to_owned).collect();
    names.sort();
    names
}

fn namespace_of(env: &Env, name: &str) -> String {
    env.kelp(&["exec", name, "readlink", "/proc/self/ns/pid"])
        .succeeds()
}

#[test]
fn a_pid_namespace_that_is_joined_shows_its_processes_and_no_others() {
    let Some(env) = Env::new() else { return };
    start(&env, "one", &[]);
    let pid = env.kelp(&["inspect", "-f", "{{.State.Pid}}", "one"]);
    let file = format!("--pid=ns:/proc/{}/ns/pid", pid.succeeds().trim());
    for mode in ["--pid=container:one", file.as_str()] {
        let flags = ["--network=none", mode];
        let mut names: Vec<_> = env
            .shell(&flags, PROCESSES)
            .lines()
            .map(str::to_owned)
            .collect();
        names.sort();
        assert_eq!(names, ["sh", "sleep"], "{mode}");
        let inside = env.shell(&flags, "readlink /proc/self/ns/pid");
        assert_eq!(inside, namespace_of(&env, "one"), "{mode}");
    }
    env.kelp(&["rm", "-f", "-t0", "one"]).succeeds();
}

#[test]
fn both_containers_have_exec_and_end_by_themselves() {
    let Some(env) = Env::new() else { return };
    start(&env, "one", &[]);
    start(&env, "two", &["--pid=container:one"]);
    let host = fs::read_link("/proc/self/ns/pid").unwrap();
    assert_ne!(namespace_of(&env, "two").trim(), host.to_str().unwrap());
    assert_eq!(namespace_of(&env, "one"), namespace_of(&env, "two"));
    for name in ["one", "two"] {
        assert_eq!(processes_of(&env, name), ["sh", "sleep", "sleep"]);
    }
    env.kelp(&["stop", "-t0", "two"]).succeeds();
    assert_eq!(processes_of(&env, "one"), ["sh", "sleep"]);
    env.kelp(&["start", "two"]).succeeds();
    assert_eq!(processes_of(&env, "one"), ["sh", "sleep", "sleep"]);
    // A pid namespace ends with its first process.
    env.kelp(&["kill", "one"]).succeeds();
    assert_eq!(env.kelp(&["wait", "two"]).succeeds(), "137\n");
    env.kelp(&["rm", "-f", "-t0", "one", "two"]).succeeds();
}

#[test]
fn a_policy_starts_it_again_in_the_same_namespace() {
    let Some(env) = Env::new() else { return };
    start(&env, "one", &[]);
    let image = env.busybox();
    let script = "readlink /proc/self/ns/pid; test -e /again && exec sleep 1000; >/again; exit 1";
    let run = [
        "run",
        "-d",
        "--network=none",
        "--name=two",
        "--pid=container:one",
        "--restart=on-failure:1",
        &image,
        "sh",
        "-c",
        script,
    ];
    env.kelp(&run).succeeds();
    let own = namespace_of(&env, "one");
    let expected = own.repeat(2);
    crate::kelp::wait_until("it is started again", || {
        env.kelp(&["logs", "two"]).succeeds() == expected
    });
    env.kelp(&["rm", "-f", "-t0", "two", "one"]).succeeds();
}

#[test]
fn a_monitor_that_is_killed_takes_its_container_out_of_the_namespace() {
    let Some(env) = Env::new() else { return };
    let file = env.path("monitor");
    start(&env, "one", &[]);
    let flag = format!("--conmon-pidfile={}", file.display());
    start(&env, "two", &["--pid=container:one", &flag]);
    let monitor = fs::read_to_string(&file).unwrap().parse().unwrap();
    kill_process(Pid::from_raw(monitor).unwrap(), Signal::KILL).unwrap();
    env.kelp(&["rm", "-f", "-t0", "two"]).succeeds();
    assert_eq!(processes_of(&env, "one"), ["sh", "sleep"]);
    env.kelp(&["rm", "-f", "-t0", "one"]).succeeds();
}
