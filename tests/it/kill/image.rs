//! Pulls and removals of images that are killed.

use super::{KEEPER, Scene, Who};

#[test]
fn a_killed_pull_leaves_nothing_that_is_in_the_way() {
    let Some(scene) = Scene::new() else { return };
    let image = scene.small();
    for who in [Who::Command, Who::Anybody] {
        let before = || {
            let done = scene.env.kelp(&["rmi", "-f", "-i", &image]).done();
            done.exits(0);
        };
        scene.each_step(who, &["pull", "-q", &image], &before, &|step| {
            // What is there is whole, and what is not can be pulled.
            if exists(&scene, &image) {
                scene.check("check", &image, step);
            }
            scene.list(step);
            let again = scene.env.kelp(&["pull", "-q", &image]).done();
            assert_eq!(
                (again.code, again.stderr.as_str()),
                (0, ""),
                "{step}: {again:#?}"
            );
            scene.check("check", &image, step);
        });
    }
    scene.end();
}

#[test]
fn a_killed_rmi_leaves_a_whole_image_or_none() {
    let Some(scene) = Scene::new() else { return };
    let image = scene.small();
    for who in [Who::Command, Who::Anybody] {
        let before = || {
            scene.env.kelp(&["pull", "-q", &image]).succeeds();
        };
        scene.each_step(who, &["rmi", &image], &before, &|step| {
            if exists(&scene, &image) {
                scene.check("check", &image, step);
                scene.env.kelp(&["rmi", &image]).done().exits(0);
            }
            scene.list(step);
        });
    }
    scene.end();
}

/// A layer is made from its blob where a container needs it for another map of ids.
#[test]
fn a_killed_extraction_is_made_again() {
    let Some(scene) = Scene::new() else { return };
    scene.keep("keeper-of-ids", "keep-id");
    let image = scene.small();
    let before = || {
        scene.env.kelp(&["rmi", "-i", &image]).done().exits(0);
        scene.env.kelp(&["pull", "-q", &image]).succeeds();
    };
    let map = ["create", "--name", "victim", "--userns", "keep-id"];
    let create = scene.container(&map, &image, &["cat", "/marker"]);
    scene.each_step(Who::Anybody, &create, &before, &|step| {
        scene.list(step);
        let remove = ["rm", "-f", "-t", "0", "victim"];
        scene.env.kelp(&remove).succeeds();
        let run = ["run", "--rm", "--userns", "keep-id"];
        let run = scene.container(&run, &image, &["cat", "/marker"]);
        assert_eq!(scene.env.kelp(&run).succeeds(), "whole\n", "{step}");
    });
    scene.end();
}

#[test]
fn a_killed_commit_leaves_a_whole_image_or_none() {
    let Some(scene) = Scene::new() else { return };
    let mark = ["exec", KEEPER, "sh", "-c", "echo whole > /marker"];
    scene.env.kelp(&mark).succeeds();
    let commit = ["commit", "-q", KEEPER, "localhost/made"];
    for who in [Who::Command, Who::Anybody] {
        let before = || {
            let done = scene.env.kelp(&["rmi", "-f", "-i", "made"]).done();
            done.exits(0);
        };
        scene.each_step(who, &commit, &before, &|step| {
            if exists(&scene, "made") {
                scene.check("check", "localhost/made", step);
            }
            scene.list(step);
            scene.env.kelp(&commit).succeeds();
            scene.check("check", "localhost/made", step);
        });
    }
    scene.env.kelp(&["rmi", "made"]).done().exits(0);
    scene.end();
}

fn exists(scene: &Scene, image: &str) -> bool {
    scene.env.kelp(&["image", "exists", image]).done().code == 0
}
