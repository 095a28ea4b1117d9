//! Ctrl-C and SIGTERM: what a user does who has changed their mind.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::archive::{Layer, noise};
use crate::env::Env;
use crate::image::Image;
use crate::kelp::wait_status;
use crate::leaks;
use crate::slow_proxy::SlowProxy;

/// What a shell shows.
fn code(status: ExitStatus) -> Option<i32> {
    status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
}

fn interrupt(child: &Child, signal: Signal) {
    let pid = Pid::from_raw(child.id() as i32).unwrap();
    kill_process(pid, signal).unwrap();
}

#[test]
fn a_pull_that_is_interrupted_goes_on_the_next_time() {
    let Some(env) = Env::new() else { return };
    env.push("large", &|| {
        let layer = Layer::default().file("noise", 0o644, &noise(1, 1 << 20));
        Image::busybox().layer(layer)
    });
    let proxy = SlowProxy::start(&env.registry().address);
    let path = env.path("c/containers/registries.conf");
    let mut registries = fs::read_to_string(&path).unwrap();
    let location = format!(
        "[[registry]]\nlocation = \"{}\"\ninsecure = true\n",
        proxy.address
    );
    registries.push_str(&location);
    fs::write(&path, registries).unwrap();
    let image = format!("{}/large:latest", proxy.address);
    let moments = [0, 1, 300, 2_000, 5_000, 20_000, 200_000, 700_000, 1_100_000];
    for (number, moment) in moments.into_iter().enumerate() {
        let (signal, expected) = [(Signal::INT, 130), (Signal::TERM, 143)][number % 2];
        proxy.allow(moment);
        let mut child = env.kelp(&["pull", &image]).start();
        proxy.wait_until_held(&mut child);
        interrupt(&child, signal);
        let status = wait_status(&mut child, "pull");
        assert_eq!(code(status), Some(expected), "after {moment} bytes");
        // The unpackers see the end of their input.
        assert_eq!(leaks::processes(&env.path("d")), [] as [String; 0]);
        env.kelp(&["image", "exists", &image]).done().exits(1);
        assert_eq!(env.kelp(&["ps", "-aq"]).succeeds(), "");
    }
    proxy.allow(usize::MAX);
    env.kelp(&["pull", "-q", &image]).succeeds();
    let tmp = || fs::read_dir(env.path("d/kelp/tmp")).unwrap().count();
    assert_eq!(tmp(), 0, "a pull takes what others have left");
    let flags = ["run", "--rm", "--pull", "never", "--network", "none"];
    let script = [image.as_str(), "sh", "-c", "wc -c <noise"];
    let text = env.kelp(&[&flags[..], &script].concat()).succeeds();
    assert_eq!(text, "1048576\n");
    let partial = fs::read_dir(env.path("d/kelp/blobs/partial")).unwrap();
    assert_eq!(partial.count(), 0);
}

#[test]
fn a_run_passes_signals_on() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    for (signal, own) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let script = "trap 'echo got; exit 7' INT TERM; echo ready; while :; do sleep 0.05; done";
        let (mut child, mut stdout) = start(&env, &["--rm", &image, "sh", "-c", script]);
        interrupt(&child, signal);
        assert_eq!(line(&mut stdout), "got\n");
        assert_eq!(wait_status(&mut child, "run").code(), Some(7));
        // A program that does nothing about it ends by it, below an init.
        let script = "echo ready; exec sleep 100000";
        let (mut child, _stdout) = start(&env, &["--rm", "--init", &image, "sh", "-c", script]);
        interrupt(&child, signal);
        assert_eq!(wait_status(&mut child, "run").code(), Some(own));
        assert_eq!(env.kelp(&["ps", "-aq"]).succeeds(), "");
    }
}

#[test]
fn without_the_proxy_of_signals_the_container_goes_on() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let script = "echo ready; exec sleep 100000";
    let flags = ["--sig-proxy=false", "--name", "kept", &image];
    let (mut child, _stdout) = start(&env, &[&flags[..], &["sh", "-c", script]].concat());
    interrupt(&child, Signal::TERM);
    assert_eq!(code(wait_status(&mut child, "run")), Some(143));
    let state = env.kelp(&["ps", "--format", "{{.Names}} {{.State}}"]);
    assert_eq!(state.succeeds(), "kept running\n");
    env.kelp(&["rm", "-f", "-t", "0", "kept"]).succeeds();
}

/// `rm -f` asks the container to stop first; whoever loses patience meanwhile loses nothing else.
#[test]
fn an_rm_that_is_interrupted_can_be_repeated() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    for (signal, expected) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let script = "trap 'echo asked' TERM; echo ready; while :; do sleep 0.05; done";
        let flags = ["--name", "stubborn", &image, "sh", "-c", script];
        let (mut run, mut stdout) = start(&env, &flags);
        let mut child = env.kelp(&["rm", "-f", "stubborn"]).start();
        assert_eq!(line(&mut stdout), "asked\n");
        interrupt(&child, signal);
        assert_eq!(code(wait_status(&mut child, "rm")), Some(expected));
        let state = env.kelp(&["ps", "--format", "{{.Names}} {{.State}}"]);
        assert_eq!(state.succeeds(), "stubborn running\n");
        let removed = env.kelp(&["rm", "-f", "-t", "0", "stubborn"]).succeeds();
        assert_eq!(removed, "stubborn\n");
        assert_eq!(wait_status(&mut run, "run").code(), Some(137));
        assert_eq!(env.kelp(&["ps", "-aq"]).succeeds(), "");
    }
}

type Lines = BufReader<std::process::ChildStdout>;

/// `run` with these arguments, once its program says that it is ready.
fn start(env: &Env, arguments: &[&str]) -> (Child, Lines) {
    let run = [&["run", "--network", "none"], arguments].concat();
    let mut child = env
        .kelp(&run)
        .into_command()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    assert_eq!(line(&mut stdout), "ready\n");
    (child, stdout)
}

fn line(stdout: &mut Lines) -> String {
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    line
}
