//! Containers whose runtime directory is another one than the caller's, or is gone; monitors that do not
//! answer.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

use crate::env::Env;
use crate::kelp::Kelp;

fn sleeps(env: &Env, flags: &[&str]) -> String {
    let image = env.busybox();
    let run = ["run", "-d", "--network=none"];
    let id = env
        .kelp(&[&run[..], flags, &[&image, "sleep", "1000"]].concat())
        .succeeds();
    id.trim().to_owned()
}

fn states(env: &Env) -> String {
    let format = "{{.Names}} {{.State}} {{.ExitCode}}";
    env.kelp(&["ps", "-a", "--sort=names", "--format", format])
        .succeeds()
}

fn monitor(env: &Env, name: &str) -> Pid {
    let shown = ["inspect", "-f", "{{.State.ConmonPid}}", name];
    let pid = env.kelp(&shown).succeeds();
    Pid::from_raw(pid.trim().parse().unwrap()).unwrap()
}

#[test]
fn another_session_sees_what_runs() {
    let Some(env) = Env::new() else { return };
    sleeps(&env, &["--name=box", "--rm"]);
    let other = env.path("h/session");
    fs::create_dir(&other).unwrap();
    let elsewhere = |words: &[&str]| {
        let mut command = env.kelp(words).into_command();
        command.env("XDG_RUNTIME_DIR", &other);
        Kelp::new(command)
    };
    for flag in ["-a", "--no-trunc"] {
        let shown = elsewhere(&["ps", flag, "--format", "{{.Names}} {{.State}}"]).succeeds();
        assert_eq!(shown, "box running\n");
    }
    assert_eq!(elsewhere(&["exec", "box", "echo", "in"]).succeeds(), "in\n");
    elsewhere(&["start", "box"]).succeeds();
    let refused = elsewhere(&["rm", "box"]).fails(2);
    assert!(refused.contains("it is running"), "{refused}");
    elsewhere(&["stop", "-t0", "box"]).succeeds();
    assert_eq!(states(&env), "");
}

#[test]
fn what_ran_when_its_runtime_directory_was_taken_away_has_ended() {
    let Some(env) = Env::new() else { return };
    for flags in [&["--name=kept"][..], &["--name=removed", "--rm"]] {
        let id = sleeps(&env, flags);
        kill_process(monitor(&env, &id), Signal::KILL).unwrap();
    }
    let runtime = env.runtime().join("kelp/c");
    fs::remove_dir_all(runtime).unwrap();
    assert_eq!(states(&env), "kept exited 137\n");
    assert_eq!(env.kelp(&["wait", "kept"]).succeeds(), "137\n");
    env.kelp(&["start", "kept"]).succeeds();
    env.kelp(&["rm", "-f", "-t0", "kept"]).succeeds();
}

#[test]
fn a_monitor_that_does_not_answer_is_no_obstacle_to_rm() {
    let Some(env) = Env::new() else { return };
    sleeps(&env, &["--name=box", "--restart=always"]);
    kill_process(monitor(&env, "box"), Signal::STOP).unwrap();
    env.kelp(&["rm", "-f", "-t0", "box"]).succeeds();
    assert_eq!(states(&env), "");
}
