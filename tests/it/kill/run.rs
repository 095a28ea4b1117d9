//! Runs and removals of containers that are killed.

use super::{Scene, Who};

const REMOVE: &[&str] = &["rm", "-f", "-v", "-t", "0", "victim"];

/// What was killed can be listed and removed, and the same name can be used again.
fn recovers(scene: &Scene, image: &str, step: &str) {
    for (name, state) in scene.list(step) {
        assert_eq!(name, "victim", "{step}");
        assert!(
            ["created", "running", "exited", "stopping"].contains(&state.as_str()),
            "{step}: {state}"
        );
    }
    let done = scene.env.kelp(REMOVE).done();
    assert_eq!(
        (done.code, done.stderr.as_str()),
        (0, ""),
        "{step}: {done:#?}"
    );
    assert_eq!(scene.list(step), [], "{step}");
    scene.check("victim", image, step);
}

/// A scene with an image.
fn scene() -> Option<(Scene, String)> {
    let scene = Scene::new()?;
    let image = scene.small();
    scene.env.kelp(&["pull", "-q", &image]).succeeds();
    Some((scene, image))
}

fn each_step(flags: &[&str]) {
    let Some((scene, image)) = scene() else {
        return;
    };
    let run = [&["run", "--name", "victim"], flags].concat();
    let command = scene.container(&run, &image, &["cat", "/marker"]);
    for who in [Who::Command, Who::Anybody] {
        scene.each_step(who, &command, &|| {}, &|step| {
            recovers(&scene, &image, step);
        });
    }
    scene.end();
}

#[test]
fn a_killed_run_is_no_obstacle() {
    each_step(&[]);
}

#[test]
fn a_killed_run_rm_is_no_obstacle() {
    each_step(&["--rm", "-v", "/volume"]);
}

#[test]
fn a_killed_run_in_the_background_is_no_obstacle() {
    each_step(&["-d"]);
}

#[test]
fn a_killed_start_is_no_obstacle() {
    let Some((scene, image)) = scene() else {
        return;
    };
    let create = ["create", "--name", "victim"];
    let create = scene.container(&create, &image, &["cat", "/marker"]);
    let before = || {
        scene.env.kelp(&create).succeeds();
    };
    scene.each_step(Who::Anybody, &["start", "victim"], &before, &|step| {
        scene.list(step);
        // As often as one likes.
        let done = scene.env.kelp(&["start", "-a", "victim"]).done();
        assert_eq!(
            (done.code, done.stdout.as_str()),
            (0, "whole\n"),
            "{step}: {done:#?}"
        );
        recovers(&scene, &image, step);
    });
    scene.end();
}

#[test]
fn a_killed_rename_loses_nothing() {
    let Some((scene, image)) = scene() else {
        return;
    };
    let create = ["create", "--name", "victim"];
    let create = scene.container(&create, &image, &["cat", "/marker"]);
    let before = || {
        scene.env.kelp(&create).succeeds();
    };
    let rename = ["rename", "victim", "other"];
    scene.each_step(Who::Command, &rename, &before, &|step| {
        let list = scene.list(step);
        assert_eq!(list.len(), 1, "{step}");
        // By whichever name it has.
        let (name, _) = &list[0];
        let started = scene.env.kelp(&["start", "-a", name]).succeeds();
        assert_eq!(started, "whole\n", "{step}");
        scene.env.kelp(&["rm", name]).succeeds();
        scene.check("other", &image, step);
        recovers(&scene, &image, step);
    });
    scene.end();
}

#[test]
fn a_killed_rm_can_be_repeated() {
    let Some((scene, image)) = scene() else {
        return;
    };
    let create = ["create", "--name", "victim", "-v", "/volume"];
    let create = scene.container(&create, &image, &["cat", "/marker"]);
    let run = ["run", "-d", "--name", "victim"];
    let run = scene.container(&run, &image, &["sleep", "1000"]);
    for (start, who) in [
        (&create, Who::Command),
        (&create, Who::Anybody),
        (&run, Who::Command),
    ] {
        let before = || {
            scene.env.kelp(start).succeeds();
        };
        scene.each_step(who, REMOVE, &before, &|step| {
            recovers(&scene, &image, step);
        });
    }
    scene.end();
}
