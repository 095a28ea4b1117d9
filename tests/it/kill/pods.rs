//! Pods whose making, start and removal are killed.
//!
//! Of a start it is the command alone: a tracer that follows others waits for the infra container, which runs on where
//! the monitor of the last member was killed.

use super::{Scene, Who};

const CREATE: &[&str] = &[
    "pod",
    "create",
    "--network=none",
    "--exit-policy=stop",
    "--name=victim",
    "--infra-name=infra",
];
const REMOVE: &[&str] = &["pod", "rm", "-f", "-t", "0", "victim"];

/// What was killed can be listed and removed, and the same names can be used again.
fn recovers(scene: &Scene, step: &str) {
    scene.list(step);
    let list = ["pod", "ps", "--format={{.Name}}"];
    let listed = scene.env.kelp(&list).succeeds();
    assert!(
        matches!(listed.as_str(), "" | "victim\n"),
        "{step}: {listed}"
    );
    for words in [REMOVE, CREATE, REMOVE] {
        let done = scene.env.kelp(words).done();
        assert_eq!(
            (done.code, done.stderr.as_str()),
            (0, ""),
            "{step}: {done:#?}"
        );
    }
    assert_eq!(scene.list(step), [], "{step}");
}

/// A scene with an image.
fn scene() -> Option<(Scene, String)> {
    let scene = Scene::new()?;
    let image = scene.small();
    scene.env.kelp(&["pull", "-q", &image]).succeeds();
    // The image of infra containers is made.
    recovers(&scene, "not begun");
    Some((scene, image))
}

#[test]
fn a_killed_pod_create_is_no_obstacle() {
    let Some((scene, _)) = scene() else { return };
    for who in [Who::Command, Who::Anybody] {
        scene.each_step(who, CREATE, &|| {}, &|step| recovers(&scene, step));
    }
    scene.end();
}

/// Kills a command at each of its steps, where a pod `victim` with a container was made before.
fn each_step_of(who: Who, command: &[&str], starts: bool) {
    let Some((scene, image)) = scene() else {
        return;
    };
    let member = [
        "create",
        "--pod=victim",
        "--name=member",
        "--stop-timeout=0",
    ];
    let member = scene.container(&member, &image, &["sleep", "1000"]);
    let before = || {
        scene.env.kelp(CREATE).succeeds();
        scene.env.kelp(&member).succeeds();
        if starts {
            scene.env.kelp(&["pod", "start", "victim"]).succeeds();
        }
    };
    scene.each_step(who, command, &before, &|step| recovers(&scene, step));
    scene.end();
}

#[test]
fn a_killed_pod_start_is_no_obstacle() {
    each_step_of(Who::Command, &["pod", "start", "victim"], false);
}

#[test]
fn a_killed_pod_rm_is_no_obstacle() {
    each_step_of(Who::Anybody, REMOVE, true);
}

#[test]
fn a_killed_run_in_a_pod_is_no_obstacle() {
    let Some((scene, image)) = scene() else {
        return;
    };
    let run = ["run", "--rm", "--pod=victim", "--name=member"];
    let command = scene.container(&run, &image, &["cat", "/marker"]);
    let before = || {
        scene.env.kelp(CREATE).succeeds();
    };
    scene.each_step(Who::Command, &command, &before, &|step| {
        recovers(&scene, step);
    });
    scene.end();
}
