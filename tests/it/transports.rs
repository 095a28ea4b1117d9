//! Images that leave and come again: by registries, archives and directories, with podman and skopeo on
//! the other side.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use serde_json::Value;

use crate::archive::Layer;
use crate::env::Env;
use crate::image::Image;
use crate::inventory;
use crate::kelp::Kelp;
use crate::skip;

/// An image with a few layers.
fn sample() -> Image {
    Image::busybox().layer(
        Layer::default()
            .directory("data", 0o755)
            .owned_file("data/owned", 0o640, (1000, 2000), b"owned\n")
            .hardlink("data/again", "data/owned")
            .symlink("data/link", "owned"),
    )
}

/// Its manifest's digest, as `image inspect` tells it.
fn digest(env: &Env, image: &str) -> String {
    let said = env
        .kelp(&["image", "inspect", "--format", "{{.Digest}}", image])
        .succeeds();
    said.trim().to_owned()
}

fn id(env: &Env, image: &str) -> String {
    let words = ["images", "-q", "--no-trunc", image];
    env.kelp(&words).succeeds().trim().to_owned()
}

fn runs(env: &Env, image: &str) {
    let script = "stat -c '%u %g %a %h' /data/owned; cat /data/link";
    let said = env.kelp(&["run", "--rm", image, "sh", "-c", script]);
    assert_eq!(said.succeeds(), "1000 2000 640 2\nowned\n");
}

/// skopeo with no policy of the host's; the flags say that no registry is verified.
pub(crate) fn skopeo(env: &Env, words: &[&str]) -> String {
    let mut command = env.program("skopeo");
    command.arg("--insecure-policy").args(words);
    Kelp::new(command).done().exits(0)
}

#[test]
fn a_pushed_image_is_the_same_where_it_arrives() {
    let Some(env) = Env::new() else { return };
    if skip::lacks("skopeo") {
        return;
    }
    let image = env.image("transports", &sample);
    let (own_digest, own_id) = (digest(&env, &image), id(&env, &image));
    let registry = env.registry().address.clone();
    let target = format!("{registry}/elsewhere/pushed:1");
    let file = env.path("h/digest");
    env.kelp(&[
        "push",
        "-q",
        "--digestfile",
        file.to_str().unwrap(),
        &image,
        &target,
    ])
    .succeeds();
    assert_eq!(fs::read_to_string(&file).unwrap(), own_digest);
    let from = format!("docker://{target}");
    let raw = skopeo(
        &env,
        &[
            "inspect",
            "--tls-verify=false",
            "--format={{.Digest}}",
            &from,
        ],
    );
    assert_eq!(raw.trim(), own_digest);
    // Again there is nothing to send; and a digest is as good a name.
    env.kelp(&["push", "-q", &image, &target]).succeeds();
    env.kelp(&["rmi", "-f", &own_id]).succeeds();
    let by_digest = format!("{registry}/elsewhere/pushed@{own_digest}");
    env.kelp(&["pull", "-q", &by_digest]).succeeds();
    assert_eq!(digest(&env, &own_id), own_digest);
    runs(&env, &own_id);
}

#[test]
fn every_form_keeps_the_digest() {
    let Some(env) = Env::new() else { return };
    let image = env.image("transports", &sample);
    let (own_digest, own_id) = (digest(&env, &image), id(&env, &image));
    for form in ["docker-archive", "oci-archive", "oci-dir"] {
        let path = env.path(&format!("h/{form}"));
        let path = path.to_str().unwrap();
        env.kelp(&["save", "-q", "--format", form, "-o", path, &image])
            .succeeds();
        env.kelp(&["rmi", &image]).succeeds();
        let said = env.kelp(&["load", "-q", "-i", path]).succeeds();
        assert_eq!(said, format!("Loaded image: {image}\n"), "{form}");
        assert_eq!(
            (digest(&env, &image), id(&env, &image)),
            (own_digest.clone(), own_id.clone())
        );
        runs(&env, &image);
    }
    // What docker calls v2s2 has other names for the same blobs.
    let path = env.path("h/docker-dir");
    let path = path.to_str().unwrap();
    env.kelp(&["save", "-q", "--format=docker-dir", "-o", path, &image])
        .succeeds();
    env.kelp(&["rmi", &image]).succeeds();
    let said = env.kelp(&["load", "-q", "-i", path]).succeeds();
    assert_eq!(
        said,
        format!(
            "Loaded image: sha256:{}\n",
            own_id.trim_start_matches("sha256:")
        )
    );
    runs(&env, &own_id);
}

#[test]
fn an_archive_comes_by_pipes_and_compressed() {
    let Some(env) = Env::new() else { return };
    let image = env.image("transports", &sample);
    let own_digest = digest(&env, &image);
    let mut saved = env.kelp(&["save", "-q", &image]).into_command();
    let mut saved = saved.stdout(Stdio::piped()).spawn().unwrap();
    let mut gzip = Command::new("gzip")
        .arg("-1")
        .stdin(saved.stdout.take().unwrap())
        .stdout(fs::File::create(env.path("h/archive.gz")).unwrap())
        .spawn()
        .unwrap();
    assert!(saved.wait().unwrap().success() && gzip.wait().unwrap().success());
    env.kelp(&["rmi", &image]).succeeds();
    let mut load = env.kelp(&["load"]).into_command();
    load.stdin(fs::File::open(env.path("h/archive.gz")).unwrap());
    let done = Kelp::new(load).done();
    assert_eq!(done.exits(0), format!("Loaded image: {image}\n"));
    assert_eq!(digest(&env, &image), own_digest);
    // It is the same archive whenever it is written.
    let archives = ["h/one", "h/two"].map(|name| env.path(name));
    for archive in &archives {
        env.kelp(&["save", "-q", "-o", archive.to_str().unwrap(), &image])
            .succeeds();
    }
    let [one, two] = archives.map(|path| fs::read(path).unwrap());
    assert!(one == two);
}

#[test]
fn several_images_go_into_one_archive() {
    let Some(env) = Env::new() else { return };
    let (one, two) = (env.image("transports", &sample), env.busybox());
    env.kelp(&["tag", &one, "localhost/also:2"]).succeeds();
    let path = env.path("h/several");
    let path = path.to_str().unwrap();
    env.kelp(&["save", "-q", "-m", "-o", path, &one, "also:2", &two])
        .succeeds();
    env.kelp(&["rmi", "-a"]).succeeds();
    let said = env.kelp(&["load", "-q", "-i", path]).succeeds();
    let expected = [&one, "localhost/also:2", &two].map(|name| format!("Loaded image: {name}\n"));
    assert_eq!(said, expected.concat());
    assert_eq!(id(&env, &one), id(&env, "also:2"));
    // One of them alone, by its name or its position.
    env.kelp(&["rmi", "-a"]).succeeds();
    let pulled = env.kelp(&["pull", "-q", &format!("docker-archive:{path}:{two}")]);
    let pulled = pulled.succeeds();
    assert_eq!(id(&env, &two), format!("sha256:{}", pulled.trim()));
    assert_eq!(env.kelp(&["images", "-q"]).succeeds().lines().count(), 1);
    env.kelp(&["pull", "-q", &format!("docker-archive:{path}:@0")])
        .succeeds();
    runs(&env, "also:2");
    let line = env
        .kelp(&["pull", "-q", &format!("oci-archive:{path}:nothing")])
        .fails(125);
    assert!(line.contains("nothing (the layout has "), "{line}");
}

/// An archive that takes a name (containerd 2026-50195).
#[test]
fn a_name_never_moves_silently() {
    let Some(env) = Env::new() else { return };
    let image = env.image("transports", &sample);
    let other = env.busybox();
    let path = env.path("h/archive");
    let path = path.to_str().unwrap();
    env.kelp(&["save", "-q", "-o", path, &image]).succeeds();
    env.kelp(&["rmi", &image]).succeeds();
    env.kelp(&["tag", &other, &image]).succeeds();
    let before = id(&env, &other);
    let done = env.kelp(&["load", "-q", "-i", path]).done();
    let short = &before.trim_start_matches("sha256:")[..12];
    assert_eq!(
        done.stderr,
        format!("Warning: {image} was a name of image {short} before\n")
    );
    assert_eq!(done.exits(0), format!("Loaded image: {image}\n"));
    assert_eq!(id(&env, &other), before);
}

#[test]
fn skopeo_reads_what_is_written_and_writes_what_is_read() {
    let Some(env) = Env::new() else { return };
    if skip::lacks("skopeo") {
        return;
    }
    let image = env.image("transports", &sample);
    let own_digest = digest(&env, &image);
    let place = |name: &str| env.path(&format!("h/{name}")).to_str().unwrap().to_owned();
    for (transport, keeps) in [
        ("oci:DIR:name", true),
        ("oci-archive:DIR.tar:name", true),
        ("dir:DIR", true),
        ("docker-archive:DIR.tar:docker.io/library/name:1", false),
    ] {
        let own = transport.replace("DIR", &place(&format!("own-{}", &transport[..3])));
        let theirs = transport.replace("DIR", &place(&format!("theirs-{}", &transport[..3])));
        env.kelp(&["push", "-q", &image, &own]).succeeds();
        let read = skopeo(&env, &["inspect", "--format={{.Digest}}", &own]);
        assert!(!keeps || read.trim() == own_digest, "{own}: {read}");
        skopeo(&env, &["copy", "-q", &own, &theirs]);
        let pulled = env.kelp(&["pull", "-q", &theirs]).succeeds();
        let expected = id(&env, &image);
        assert_eq!(format!("sha256:{}", pulled.trim()), expected, "{theirs}");
        runs(&env, pulled.trim());
    }
    // And by a registry.
    let registry = env.registry().address.clone();
    let theirs = format!("docker://{registry}/by-skopeo:1");
    let copied = format!("oci:{}:name", place("own-oci"));
    skopeo(
        &env,
        &["copy", "-q", "--dest-tls-verify=false", &copied, &theirs],
    );
    let pulled = env.kelp(&["pull", "-q", &theirs]).succeeds();
    assert_eq!(format!("sha256:{}", pulled.trim()), id(&env, &image));
    assert_eq!(digest(&env, pulled.trim()), own_digest);
}

#[test]
fn an_image_that_came_without_a_manifest_leaves_as_gzip() {
    let Some(env) = Env::new() else { return };
    if skip::lacks("skopeo") {
        return;
    }
    let image = env.image("transports", &sample);
    let archive = env.path("h/plain.tar");
    let archive = archive.to_str().unwrap();
    let layout = env.path("h/layout");
    let own = format!("oci:{}:name", layout.display());
    env.kelp(&["push", "-q", &image, &own]).succeeds();
    // An archive in the old form, with plain layers.
    let plain = format!("docker-archive:{archive}:localhost/plain:1");
    skopeo(&env, &["copy", "-q", &own, &plain]);
    let before = id(&env, &image);
    env.kelp(&["rmi", "-a"]).succeeds();
    let said = env.kelp(&["load", "-q", "-i", archive]).succeeds();
    assert_eq!(said, "Loaded image: localhost/plain:1\n");
    assert_eq!(id(&env, "plain:1"), before);
    runs(&env, "plain:1");
    let registry = env.registry().address.clone();
    let push = |flags: &[&str], name: &str| {
        let target = format!("{registry}/made-here/{name}:1");
        env.kelp(&[&["push", "-q"], flags, &["plain:1", &target]].concat())
            .succeeds();
        let raw = skopeo(
            &env,
            &[
                "inspect",
                "--raw",
                "--tls-verify=false",
                &format!("docker://{target}"),
            ],
        );
        serde_json::from_str::<Value>(&raw).unwrap()
    };
    let kinds = |manifest: &Value| -> Vec<String> {
        let layers = manifest["layers"].as_array().unwrap().iter();
        layers
            .map(|layer| layer["mediaType"].as_str().unwrap().to_owned())
            .collect()
    };
    let oci = "application/vnd.oci.image.layer.v1.tar";
    assert_eq!(kinds(&push(&[], "gzip")), vec![format!("{oci}+gzip"); 3]);
    assert_eq!(
        kinds(&push(&["--compression-format=zstd"], "zstd")),
        vec![format!("{oci}+zstd"); 3]
    );
    let docker = push(&["--format=v2s2"], "docker");
    assert_eq!(
        kinds(&docker),
        vec!["application/vnd.docker.image.rootfs.diff.tar.gzip".to_owned(); 3]
    );
    // The same image wherever it is fetched from.
    for name in ["gzip", "zstd", "docker"] {
        env.kelp(&["rmi", "-a"]).succeeds();
        let target = format!("{registry}/made-here/{name}:1");
        let pulled = env.kelp(&["pull", "-q", &target]).succeeds();
        assert_eq!(format!("sha256:{}", pulled.trim()), before);
        runs(&env, &target);
    }
}

#[test]
fn a_blob_that_holds_another_layer_replaces_no_image() {
    let Some(env) = Env::new() else { return };
    let image = env.image("transports", &sample);
    let own_digest = digest(&env, &image);
    let layout = env.path("h/layout");
    let place = format!("oci:{}:name", layout.display());
    env.kelp(&["push", "-q", &image, &place]).succeeds();
    // The same config, and so the same image, with a layer whose blob is another archive.
    let read = |path: &Path| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let blob = |digest: &Value| {
        let digest = digest.as_str().unwrap();
        layout.join("blobs").join(digest.replace(':', "/"))
    };
    let mut index = read(&layout.join("index.json"));
    let mut manifest = read(&blob(&index["manifests"][0]["digest"]));
    let write = |bytes: &[u8]| {
        let digest = Value::from(crate::image::digest(bytes));
        fs::write(blob(&digest), bytes).unwrap();
        (digest, Value::from(bytes.len()))
    };
    let other = Layer::default().file("evil", 0o644, b"evil").finish();
    let top = manifest["layers"]
        .as_array_mut()
        .unwrap()
        .last_mut()
        .unwrap();
    (top["digest"], top["size"]) = write(&other);
    let (digest_of, size) = write(manifest.to_string().as_bytes());
    (
        index["manifests"][0]["digest"],
        index["manifests"][0]["size"],
    ) = (digest_of, size);
    fs::write(layout.join("index.json"), index.to_string()).unwrap();
    let line = env.kelp(&["pull", "-q", &place]).fails(125);
    assert!(line.contains("the content of layer sha256:"), "{line}");
    assert_eq!(digest(&env, &image), own_digest);
    env.kelp(&["image", "prune", "-f"]).succeeds();
    env.kelp(&["system", "check"]).succeeds();
    runs(&env, &image);
}

#[test]
fn a_pull_that_finds_nothing_new_writes_nothing() {
    let Some(env) = Env::new() else { return };
    let image = env.push("transports", &sample);
    let id = env.kelp(&["pull", "-q", &image]).succeeds();
    let data = env.path("d/kelp");
    let before = inventory::with_times(&data);
    assert_eq!(env.kelp(&["pull", "-q", &image]).succeeds(), id);
    assert_eq!(inventory::with_times(&data), before);
}

#[test]
fn what_holds_no_image_is_refused_in_one_line() {
    let Some(env) = Env::new() else { return };
    let image = env.image("transports", &sample);
    let path = |name: &str| env.path(&format!("h/{name}")).to_str().unwrap().to_owned();
    fs::create_dir(path("empty")).unwrap();
    fs::write(path("text"), "text").unwrap();
    let archive = path("archive");
    env.kelp(&["save", "-q", "-o", &archive, &image]).succeeds();
    let bytes = fs::read(&archive).unwrap();
    fs::write(path("cut"), &bytes[..bytes.len() / 2]).unwrap();
    let mut wrong = bytes.clone();
    // In the middle of a layer: every digest is compared.
    let middle = wrong.len() / 2;
    wrong[middle] ^= 1;
    fs::write(path("wrong"), &wrong).unwrap();
    env.kelp(&["rmi", "-a"]).succeeds();
    for (name, said) in [
        ("empty", "this holds no image"),
        ("text", "the archive ends in the middle of a header"),
        ("cut", "the archive ends in the middle of a file"),
        ("wrong", "expected sha256:"),
        ("missing", "no such file"),
    ] {
        let line = env.kelp(&["load", "-q", "-i", &path(name)]).fails(125);
        assert!(line.contains(said), "{name}: {line}");
    }
    let line = env.kelp(&["pull", "-q", "dir:/dev/null"]).fails(125);
    assert!(line.contains("is a file"), "{line}");
    assert_eq!(env.kelp(&["images", "-q"]).succeeds(), "");
}
