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

/// With a user namespace of its own to be made.
#[test]
fn a_killed_first_run_is_no_obstacle() {
    let Some(scene) = Scene::alone() else { return };
    let image = scene.small();
    scene.env.kelp(&["pull", "-q", &image]).succeeds();
    let run = ["run", "-d", "--name", "victim"];
    let command = scene.container(&run, &image, &["sleep", "1000"]);
    scene.each_step(Who::Command, &command, &|| {}, &|step| {
        recovers(&scene, &image, step);
    });
    scene.end();
}

#[test]
fn a_killed_run_rm_is_no_obstacle() {
    each_step(&["--rm", "-v", "/volume"]);
}

/// The copy of the image is killed as well.
#[test]
fn a_killed_run_with_a_copy_is_no_obstacle() {
    let Some((scene, image)) = scene() else {
        return;
    };
    let run = ["--storage-driver=vfs", "run", "--name", "victim"];
    let command = scene.container(&run, &image, &["cat", "/marker"]);
    scene.each_step(Who::Anybody, &command, &|| {}, &|step| {
        recovers(&scene, &image, step);
    });
    scene.end();
}

#[test]
fn a_killed_run_in_the_background_is_no_obstacle() {
    each_step(&["-d"]);
}

/// Kills a command at each of its steps, where a container `victim` was created before; `after` looks at what
/// that has left.
fn each_step_of(who: Who, command: &[&str], after: &dyn Fn(&Scene, &str, &str)) {
    let Some((scene, image)) = scene() else {
        return;
    };
    let create = scene.container(&["create", "--name", "victim"], &image, &["cat", "/marker"]);
    let before = || {
        scene.env.kelp(&create).succeeds();
    };
    scene.each_step(who, command, &before, &|step| {
        after(&scene, &image, step);
        recovers(&scene, &image, step);
    });
    scene.end();
}

#[test]
fn a_killed_start_is_no_obstacle() {
    each_step_of(Who::Anybody, &["start", "victim"], &|scene, _, step| {
        scene.list(step);
        // As often as one likes.
        let done = scene.env.kelp(&["start", "-a", "victim"]).done();
        assert_eq!(
            (done.code, done.stdout.as_str()),
            (0, "whole\n"),
            "{step}: {done:#?}"
        );
    });
}

#[test]
fn a_killed_rename_loses_nothing() {
    let rename = ["rename", "victim", "other"];
    each_step_of(Who::Command, &rename, &|scene, image, step| {
        let list = scene.list(step);
        assert_eq!(list.len(), 1, "{step}");
        // By whichever name it has.
        let (name, _) = &list[0];
        let started = scene.env.kelp(&["start", "-a", name]).succeeds();
        assert_eq!(started, "whole\n", "{step}");
        scene.env.kelp(&["rm", name]).succeeds();
        scene.check("other", image, step);
    });
}

#[test]
fn a_killed_update_can_be_repeated() {
    let update = ["update", "--restart=on-failure:2", "-e", "A=1", "victim"];
    each_step_of(Who::Command, &update, &|scene, _, step| {
        let started = scene.env.kelp(&["start", "-a", "victim"]).succeeds();
        assert_eq!(started, "whole\n", "{step}");
        scene.env.kelp(&update).succeeds();
        let format = "{{.HostConfig.RestartPolicy.Name}} {{join .Config.Env \" \"}}";
        let shown = scene.env.kelp(&["inspect", "-f", format, "victim"]);
        let shown = shown.succeeds();
        assert!(
            shown.starts_with("on-failure ") && shown.ends_with(" A=1\n"),
            "{step}: {shown}"
        );
    });
}

/// What is done to a container that runs can be done again, and the container runs on.
#[test]
fn what_is_killed_beside_a_container_does_it_no_harm() {
    // It counts as one that keeps a namespace.
    const NAME: &str = "keeper-and-victim";
    let Some(scene) = Scene::new() else { return };
    scene.keep(NAME, "host");
    let source = scene.env.path("h/source");
    std::fs::write(&source, "copied").unwrap();
    let target = format!("{NAME}:/copied");
    let copy = ["cp", source.to_str().unwrap(), &target];
    let exec = ["exec", NAME, "true"];
    let kelp = |arguments: &[&str]| scene.env.kelp(arguments).succeeds();
    for (who, command) in [
        (Who::Command, &exec[..]),
        (Who::Anybody, &exec),
        (Who::Command, &copy),
        (Who::Anybody, &copy),
    ] {
        scene.each_step(who, command, &|| {}, &|step| {
            scene.list(step);
            kelp(command);
            assert_eq!(kelp(&["exec", NAME, "echo", "fine"]), "fine\n", "{step}");
        });
    }
    assert_eq!(kelp(&["exec", NAME, "cat", "/copied"]), "copied");
    for (command, back) in [("pause", "unpause"), ("unpause", "pause")] {
        let before = || {
            if command == "unpause" {
                kelp(&["pause", NAME]);
            }
        };
        scene.each_step(Who::Command, &[command, NAME], &before, &|step| {
            // By one of the two, whatever was done and noted.
            let done = scene.env.kelp(&[command, NAME]).done();
            let done = done.code == 0 || done.stderr.contains("it is ");
            assert!(done, "{step}");
            kelp(&[back, NAME]);
            if back == "pause" {
                kelp(&["unpause", NAME]);
            }
            assert_eq!(kelp(&["exec", NAME, "echo", "fine"]), "fine\n", "{step}");
        });
    }
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
