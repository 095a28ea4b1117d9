//! Images of several platforms: manifest lists, indexes in registries and files.

use std::fs;

use serde_json::{Value, json};

use crate::archive::Layer;
use crate::env::Env;
use crate::image::Image;
use crate::skip;
use crate::transports::skopeo;

/// An image for a platform, with a layer of its own.
fn image(architecture: &'static str) -> impl Fn() -> Image {
    move || {
        let layer = Layer::default().file("platform", 0o644, architecture.as_bytes());
        Image::busybox().layer(layer).architecture(architecture)
    }
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

/// Digest and platform of each entry.
fn entries(index: &Value) -> Vec<(String, String)> {
    let entries = index["manifests"].as_array().unwrap().iter();
    let word = |entry: &Value, key: &str| entry["platform"][key].as_str().unwrap_or("").to_owned();
    let entry = |entry: &Value| {
        let variant = word(entry, "variant");
        let architecture = word(entry, "architecture");
        let platform = format!("{}/{architecture}{variant}", word(entry, "os"));
        (entry["digest"].as_str().unwrap().to_owned(), platform)
    };
    entries.map(entry).collect()
}

pub(crate) fn raw(env: &Env, name: &str) -> String {
    let from = format!("docker://{name}");
    skopeo(env, &["inspect", "--raw", "--tls-verify=false", &from])
}

#[test]
fn a_list_of_local_and_remote_images_is_pushed_with_them() {
    let Some(env) = Env::new() else { return };
    if skip::lacks("skopeo") {
        return;
    }
    let here = env.image("lists-amd64", &image("amd64"));
    let there = env.push("lists-arm64", &image("arm64"));
    let id = env.kelp(&["manifest", "create", "multi"]).succeeds();
    assert_eq!(id.trim().len(), 64, "{id}");
    let added = env.kelp(&["manifest", "add", "multi", &here]).succeeds();
    assert_eq!(added, id);
    env.kelp(&[
        "manifest",
        "add",
        "multi",
        &format!("docker://{there}"),
        "--variant=v8",
    ])
    .succeeds();
    let shown = json_of(&env.kelp(&["manifest", "inspect", "multi"]).succeeds());
    let own = entries(&shown);
    let platforms: Vec<&str> = own.iter().map(|(_, platform)| platform.as_str()).collect();
    assert_eq!(platforms, ["linux/amd64", "linux/arm64v8"]);
    // What is named is not for a prune, be there a record of it or not.
    env.kelp(&["rmi", &here]).succeeds();
    env.kelp(&["image", "prune", "-af"]).succeeds();
    env.kelp(&["manifest", "exists", "multi"]).succeeds();
    let registry = env.registry().address.clone();
    let target = format!("{registry}/lists/multi:1");
    let file = env.path("h/digest");
    let digestfile = format!("--digestfile={}", file.display());
    env.kelp(&[
        "manifest",
        "push",
        "-q",
        "--rm",
        &digestfile,
        "multi",
        &target,
    ])
    .succeeds();
    let exists = env.kelp(&["manifest", "exists", "multi"]).done();
    assert_eq!(exists.exits(1), "");
    let pushed = raw(&env, &target);
    assert_eq!(entries(&json_of(&pushed)), own);
    assert_eq!(
        fs::read_to_string(&file).unwrap(),
        crate::image::digest(pushed.as_bytes())
    );
    for (digest, _) in &own {
        let by_digest = format!("{registry}/lists/multi@{digest}");
        assert_eq!(
            &crate::image::digest(raw(&env, &by_digest).as_bytes()),
            digest
        );
    }
    // Every blob is there: skopeo reads all of it.
    let copied = env.path("h/copied");
    let from = format!("docker://{target}");
    let to = format!("oci:{}:multi", copied.display());
    skopeo(
        &env,
        &["copy", "-q", "--all", "--src-tls-verify=false", &from, &to],
    );
    let pulled = env.kelp(&["pull", "-q", &target]).succeeds();
    let said = env.kelp(&["run", "--rm", pulled.trim(), "cat", "/platform"]);
    assert_eq!(said.succeeds(), "amd64");
}

#[test]
fn a_list_is_changed_and_has_its_name_alone() {
    let Some(env) = Env::new() else { return };
    let here = env.image("lists-amd64", &image("amd64"));
    let create = ["manifest", "create", "--annotation", "a=b", "multi", &here];
    let id = env.kelp(&create).succeeds();
    let line = env.kelp(&["manifest", "create", "multi"]).fails(125);
    assert!(line.contains("is the name of a manifest list"), "{line}");
    assert_eq!(
        env.kelp(&["manifest", "create", "-a", "multi"]).succeeds(),
        id
    );
    let line = env.kelp(&["tag", &here, "localhost/multi"]).fails(125);
    assert!(line.contains("is the name of a manifest list"), "{line}");
    let line = env.kelp(&["manifest", "create", &here]).fails(125);
    assert!(line.contains("is the name of image"), "{line}");
    let inspect = || json_of(&env.kelp(&["manifest", "inspect", "multi"]).succeeds());
    let digest = entries(&inspect())[0].0.clone();
    let flags = ["--annotation=c=d", "--os-version=1", "--features=x,y"];
    let annotate = [&["manifest", "annotate"], &flags[..], &["multi", &digest]].concat();
    env.kelp(&annotate).succeeds();
    let shown = inspect();
    assert_eq!(shown["annotations"], json!({"a": "b"}));
    let entry = &shown["manifests"][0];
    assert_eq!(entry["annotations"], json!({"c": "d"}));
    assert_eq!(entry["platform"]["os.version"], "1");
    assert_eq!(entry["platform"]["features"], json!(["x", "y"]));
    let images = env.kelp(&["images", "--format={{.Repository}} {{.Id}}", "multi"]);
    assert_eq!(images.succeeds(), format!("localhost/multi {id}"));
    // The list stands for its image of this platform.
    let said = env.kelp(&["run", "--rm", "multi", "cat", "/platform"]);
    assert_eq!(said.succeeds(), "amd64");
    // A name of a list is as good as one of an image.
    env.kelp(&["system", "check", "--repair"]).succeeds();
    env.kelp(&["manifest", "remove", "multi", &digest])
        .succeeds();
    assert!(entries(&inspect()).is_empty());
    let line = env
        .kelp(&["manifest", "remove", "multi", &digest])
        .fails(125);
    assert!(line.contains("in the manifest list"), "{line}");
    let said = env.kelp(&["manifest", "rm", "multi"]).succeeds();
    assert_eq!(
        said,
        format!("Untagged: localhost/multi:latest\nDeleted: {id}")
    );
    env.kelp(&["image", "exists", &here]).succeeds();
}

/// Pushes images of three platforms and an index of them; the index's name and its digest.
fn push_index(env: &Env, name: &str) -> (String, String) {
    let list = format!("localhost/{name}");
    env.kelp(&["manifest", "create", &list]).succeeds();
    for architecture in ["amd64", "arm64", "s390x"] {
        let image = env.push(&format!("lists-{architecture}"), &image(architecture));
        env.kelp(&["manifest", "add", &list, &format!("docker://{image}")])
            .succeeds();
    }
    let target = format!("{}/lists/{name}:1", env.registry().address);
    env.kelp(&["manifest", "push", "-q", "--rm", &list, &target])
        .succeeds();
    let digest = crate::image::digest(raw(env, &target).as_bytes());
    (target, digest)
}

/// The platforms of all images that are here.
fn architectures(env: &Env) -> Vec<String> {
    let ids = env.kelp(&["images", "-aq", "--no-trunc"]).succeeds();
    let mut found: Vec<String> = ids
        .lines()
        .map(|id| {
            let words = ["image", "inspect", "--format={{.Architecture}}", id];
            env.kelp(&words).succeeds().trim().to_owned()
        })
        .collect();
    found.sort();
    found
}

#[test]
fn all_platforms_of_an_index_stay_as_long_as_its_name() {
    let Some(env) = Env::new() else { return };
    if skip::lacks("skopeo") {
        return;
    }
    let (name, digest) = push_index(&env, "all");
    let pulled = env
        .kelp(&["pull", "-q", "--all-platforms", &name])
        .succeeds();
    assert_eq!(pulled.lines().count(), 3, "{pulled}");
    assert_eq!(architectures(&env), ["amd64", "arm64", "s390x"]);
    env.kelp(&["image", "prune", "-f"]).succeeds();
    assert_eq!(architectures(&env), ["amd64", "arm64", "s390x"]);
    let said = env.kelp(&["run", "--rm", &name, "cat", "/platform"]);
    assert_eq!(said.succeeds(), "amd64");
    // All of it goes elsewhere, with the same digest.
    let copy = format!("{}/lists/all-again:1", env.registry().address);
    env.kelp(&["push", "-q", "--all", &name, &copy]).succeeds();
    assert_eq!(crate::image::digest(raw(&env, &copy).as_bytes()), digest);
    // Once the name is gone the others are dangling.
    env.kelp(&["rmi", &name]).succeeds();
    env.kelp(&["image", "prune", "-f"]).succeeds();
    assert!(architectures(&env).is_empty());
}

#[test]
fn an_index_in_a_layout_is_loaded_for_one_platform_or_all() {
    let Some(env) = Env::new() else { return };
    if skip::lacks("skopeo") {
        return;
    }
    let (name, _) = push_index(&env, "layout");
    let layout = env.path("h/layout");
    let place = format!("oci:{}:multi", layout.display());
    let from = format!("docker://{name}");
    skopeo(
        &env,
        &[
            "copy",
            "-q",
            "--all",
            "--src-tls-verify=false",
            &from,
            &place,
        ],
    );
    let path = layout.to_str().unwrap();
    let load = |flags: &[&str]| {
        env.kelp(&[&["load", "-q", "-i", path], flags].concat())
            .succeeds();
        let found = architectures(&env);
        env.kelp(&["rmi", "-af"]).succeeds();
        found
    };
    assert_eq!(load(&[]), ["amd64"]);
    assert_eq!(load(&["--platform=linux/s390x"]), ["s390x"]);
    env.kelp(&["pull", "-q", "--all-platforms", &place])
        .succeeds();
    env.kelp(&["image", "prune", "-f"]).succeeds();
    assert_eq!(architectures(&env), ["amd64", "arm64", "s390x"]);
}

#[test]
fn all_tags_of_a_repository_are_pulled() {
    let Some(env) = Env::new() else { return };
    let address = env.registry().address.clone();
    let registry = crate::http::Registry(&address);
    for tag in ["one", "two", "three"] {
        let layer = Layer::default().file("tag", 0o644, tag.as_bytes());
        Image::empty()
            .layer(layer)
            .push(&registry, "lists-tags", tag);
    }
    let name = format!("{address}/lists-tags");
    let pulled = env.kelp(&["pull", "-q", "--all-tags", &name]).succeeds();
    assert_eq!(pulled.lines().count(), 3, "{pulled}");
    for tag in ["one", "two", "three"] {
        env.kelp(&["image", "exists", &format!("{name}:{tag}")])
            .succeeds();
    }
    let line = env
        .kelp(&["pull", "-q", "-a", &format!("{name}:one")])
        .fails(125);
    assert!(line.contains("a name without a tag"), "{line}");
}

#[test]
fn a_list_comes_before_what_a_short_name_may_mean_besides() {
    let Some(env) = Env::new() else { return };
    let here = env.image("lists-amd64", &image("amd64"));
    // The image's name ends as the list's does.
    env.kelp(&["manifest", "create", "lists-amd64", &here])
        .succeeds();
    let digest = entries(&json_of(
        &env.kelp(&["manifest", "inspect", "lists-amd64"]).succeeds(),
    ))[0]
        .0
        .clone();
    env.kelp(&[
        "manifest",
        "annotate",
        "--arch=arm64",
        "lists-amd64",
        &digest,
    ])
    .succeeds();
    let line = env
        .kelp(&["manifest", "annotate", "--index", "--arch=x", "lists-amd64"])
        .fails(125);
    assert!(line.contains("--annotation only"), "{line}");
    env.kelp(&["tag", "lists-amd64", "other"]).succeeds();
    // Names are taken from the list, and not from its image.
    env.kelp(&["untag", "lists-amd64", "other"]).succeeds();
    env.kelp(&["rmi", "lists-amd64"]).succeeds();
    let names = env.kelp(&["images", "--format={{.Repository}}"]).succeeds();
    assert_eq!(names, here.replace(":latest", "") + "\n");
    // A list that could not be filled is not left.
    let unknown = format!("{}/lists/no-such:1", env.registry().address);
    env.kelp(&["manifest", "create", "empty", &unknown])
        .fails(125);
    env.kelp(&["manifest", "exists", "empty"]).done().exits(1);
}

#[test]
fn a_lists_record_that_can_not_be_read_is_in_nobodys_way() {
    let Some(env) = Env::new() else { return };
    let id = env.kelp(&["manifest", "create", "broken"]).succeeds();
    let record = env.path(&format!("d/kelp/lists/{}.json", id.trim()));
    fs::write(&record, "{").unwrap();
    let images = env.kelp(&["images", "-q"]).succeeds();
    assert_eq!(images, "");
    let done = env.kelp(&["system", "check"]).done();
    assert_eq!(done.code, 125, "{done:#?}");
    assert!(done.stdout.contains("is no manifest list"), "{done:#?}");
    env.kelp(&["system", "check", "--repair"]).done();
    env.kelp(&["system", "check"]).succeeds();
    assert!(!record.exists());
}
