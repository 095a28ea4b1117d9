//! Containers and images across a reboot and across a power cut, in the user's own directories.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::env::kelp_program;
use crate::image::Image;
use crate::kelp::{Kelp, wait_until};
use crate::registry::Registry;

use super::elsewhere;
use super::systemd::systemctl;

fn kelp(arguments: &[&str]) -> Kelp {
    let mut command = Command::new(kelp_program());
    command.args(arguments).stdin(Stdio::null());
    Kelp::new(command)
}

fn containers() -> String {
    let list = ["ps", "-a", "--sort", "names"];
    let format = ["--format", "{{.Names}}: {{.State}} {{.ExitCode}}"];
    kelp(&[&list[..], &format].concat()).succeeds()
}

/// Makes what the next boot has to find. All of it is reported done, so all of it has to last.
#[test]
fn before() {
    if elsewhere() {
        return;
    }
    let registry = Registry::shared();
    registry.push_once("busybox", &Image::busybox);
    let reference = format!("{}/busybox:latest", registry.address);
    kelp(&["pull", "-q", "--tls-verify=false", &reference]).succeeds();
    kelp(&["tag", &reference, "lasting"]).succeeds();
    let image = "localhost/lasting";
    kelp(&[
        "run",
        "--name=ended",
        image,
        "sh",
        "-c",
        "echo kept; exit 3",
    ])
    .done()
    .exits(3);
    kelp(&["create", "--name=made", image, "echo", "first start"]).succeeds();
    kelp(&["run", "-d", "--name=running", image, "sleep", "10000"]).succeeds();
    kelp(&["run", "-d", "--rm", "--name=gone", image, "sleep", "10000"]).succeeds();
    // Those that should run are started by a unit of the user's, and those that somebody has stopped are not.
    enable_unit();
    for (name, policy) in [
        ("fails", "on-failure"),
        ("stays", "unless-stopped"),
        ("stopped", "unless-stopped"),
    ] {
        let flags = [&format!("--restart={policy}"), "--stop-timeout=0"];
        let words = [
            &["run", "-d", "--name", name],
            &flags[..],
            &[image, "sleep", "10000"],
        ];
        kelp(&words.concat()).succeeds();
    }
    kelp(&["stop", "stopped"]).succeeds();
    // What a container writes is its own to sync.
    let script = "echo data >/file && sync /file";
    kelp(&["exec", "running", "sh", "-c", script]).succeeds();
}

/// Installs contrib's unit for the program that is tested.
fn enable_unit() {
    let unit = include_str!("../../../contrib/systemd/user/kelp-restart.service");
    let program = kelp_program();
    let unit = unit.replace("/usr/bin/kelp", program.to_str().unwrap());
    let units = PathBuf::from(std::env::var_os("HOME").unwrap()).join(".config/systemd/user");
    fs::create_dir_all(&units).unwrap();
    fs::write(units.join("kelp-restart.service"), unit).unwrap();
    systemctl(&["daemon-reload"]);
    // What it stops at the end of the session it starts again.
    systemctl(&["enable", "--now", "kelp-restart.service"]);
    // Of what is not synced the power cut that comes takes some along.
    rustix::fs::sync();
}

fn after() {
    if elsewhere() {
        return;
    }
    wait_until("the unit has started what should run", || {
        let state = systemctl(&["is-active", "kelp-restart.service"]);
        let status = || systemctl(&["status", "--no-pager", "--full", "kelp-restart.service"]);
        assert_ne!(state, "failed", "{}", status());
        state == "active"
    });
    assert_eq!(
        containers(),
        "ended: exited 3\nfails: running 0\nmade: created 0\nrunning: exited 137\nstays: running 0\n\
         stopped: exited 137\n"
    );
    kelp(&["rm", "-f", "-t0", "fails", "stays", "stopped"]).succeeds();
    assert_eq!(kelp(&["logs", "ended"]).succeeds(), "kept\n");
    assert_eq!(kelp(&["start", "-a", "made"]).succeeds(), "first start\n");
    kelp(&["start", "running"]).succeeds();
    let text = kelp(&["exec", "running", "cat", "/file"]).succeeds();
    assert_eq!(text, "data\n");
    // The name of the one that removes itself is free again.
    let script = ["sh", "-c", "echo fine"];
    let again = [
        &["run", "--rm", "--name=gone", "localhost/lasting"],
        &script[..],
    ]
    .concat();
    assert_eq!(kelp(&again).succeeds(), "fine\n");
    kelp(&["rm", "-f", "-t0", "ended", "made", "running"]).succeeds();
    assert_eq!(containers(), "");
    kelp(&["rmi", "-f", "lasting"]).succeeds();
    kelp(&["system", "prune", "-f"]).succeeds();
}

#[test]
fn after_a_reboot() {
    after();
}

#[test]
fn after_a_power_cut() {
    after();
}
