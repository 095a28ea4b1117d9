//! What waits for something that never comes, and is given up on.

use std::fs;
use std::io::Write;

use rustix::process::{Pid, Signal, kill_process};

use super::{kill, traced, wait_until};
use crate::archive::Layer;
use crate::env::Env;
use crate::kelp::wait_status;
use crate::kill::Scene;

fn state(env: &Env, name: &str) -> String {
    let format = "{{.State.Status}}";
    let state = env.kelp(&["inspect", "-f", format, name]).succeeds();
    state.trim_end().to_owned()
}

/// The init is stopped where it changes its root, as one that waits for a file system would be.
#[test]
fn a_start_that_hangs_is_no_obstacle_to_rm() {
    let Some(scene) = Scene::new() else { return };
    let env = &scene.env;
    let image = env.busybox();
    for restart in ["no", "always"] {
        let run = ["run", "-d", "--name", "victim", "--network", "none"];
        let program = ["--restart", restart, &image, "sleep", "100000"];
        let command = [&run[..], &program].concat();
        let flags = ["--trace=pivot_root", "--inject=pivot_root:signal=STOP"];
        let mut run = traced(env, &flags, &command).spawn().unwrap();
        wait_until("the init is stopped", || {
            let trace = fs::read_to_string(env.path("trace")).unwrap_or_default();
            trace.contains("stopped by SIGSTOP")
        });
        assert_eq!(state(env, "victim"), "stopping");
        env.kelp(&["rm", "-f", "-t", "0", "victim"]).succeeds();
        wait_status(&mut run, "a run that hangs");
        fs::remove_file(env.path("trace")).unwrap();
    }
    scene.end();
}

/// The process to be is stopped by somebody inside before it says that it is ready.
#[test]
fn an_exec_that_hangs_ends_with_its_command() {
    let Some(scene) = Scene::new() else { return };
    let env = &scene.env;
    let image = env.busybox();
    let run = ["run", "-d", "--name", "victim", "--network", "none", &image];
    env.kelp(&[&run[..], &["sleep", "100000"]].concat())
        .succeeds();
    for user in ["0", "1000"] {
        let exec = ["exec", "-u", user, "victim", "sleep", "1000"];
        // Before the process says all is ready, and after its ids have changed.
        let call = if user == "0" { "setsid" } else { "capset" };
        let inject = format!("--inject={call}:signal=STOP:when=1");
        let mut exec = traced(env, &[&format!("--trace={call}"), &inject], &exec);
        let mut exec = exec.spawn().unwrap();
        wait_until("the process is stopped", || {
            let trace = fs::read_to_string(env.path("trace")).unwrap_or_default();
            trace.contains("stopped by SIGSTOP")
        });
        let tracer = exec.id();
        let children = format!("/proc/{tracer}/task/{tracer}/children");
        let children = fs::read_to_string(children).unwrap();
        let command = children.split_whitespace().next().unwrap();
        let command = Pid::from_raw(command.parse().unwrap()).unwrap();
        kill_process(command, Signal::INT).unwrap();
        // It ends when all that it traces has.
        wait_status(&mut exec, "an exec that hangs");
        fs::remove_file(env.path("trace")).unwrap();
    }
    scene.end();
}

/// An archive whose end has not come yet.
#[test]
fn a_copy_that_is_killed_keeps_nothing_from_its_container() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    for flags in [&[][..], &["--userns", "keep-id"]] {
        let create = ["create", "--name", "box", "--network", "none"];
        let program = [image.as_str(), "sleep", "100000"];
        let create = [&create[..], flags, &program].concat();
        let id = env.kelp(&create).succeeds();
        let mut copy = env.kelp(&["cp", "-", "box:/tmp"]).start();
        let archive = Layer::default().file("first", 0o644, b"first\n").file(
            "second",
            0o644,
            &vec![0; 1 << 20],
        );
        let bytes = archive.finish();
        let mut stdin = copy.stdin.take().unwrap();
        stdin.write_all(&bytes[..1 << 19]).unwrap();
        let upper = format!("d/kelp/containers/{}/upper/tmp", id.trim());
        wait_until("the copy has begun", || env.path(&upper).exists());
        // A start waits for it, and is given up on.
        let mut start = env.kelp(&["start", "box"]).start();
        wait_until("the monitor waits", || state(&env, "box") == "stopping");
        kill(&start);
        wait_status(&mut start, "start");
        wait_until("the monitor ends", || state(&env, "box") != "stopping");
        assert_eq!(state(&env, "box"), "created");
        kill(&copy);
        wait_status(&mut copy, "cp");
        env.kelp(&["rm", "-f", "box"]).succeeds();
        drop(stdin);
    }
}
