//! Images that move over from podman's store.

use std::fs;
use std::path::Path;

use crate::archive::Layer;
use crate::env::Env;
use crate::image::Image;
use crate::podman::Podman;
use crate::skip;

/// An image with what a copy may lose.
fn sample() -> Image {
    Image::busybox()
        .layer(
            Layer::default()
                .directory("data", 0o755)
                .owned_file("data/owned", 0o4640, (1000, 2000), b"owned\n")
                .owned_file("data/closed", 0, (7, 8), b"closed\n")
                .hardlink("data/again", "data/owned")
                .symlink("data/link", "owned"),
        )
        .layer(Layer::default().owned_file("data/owned", 0o600, (1000, 2000), b"changed\n"))
}

const SCRIPT: &str = "stat -c '%n %u %g %a %h %s' /data/*; cat /data/owned /data/again /data/closed; \
                      readlink /data/link";

/// podman with the sample image, pulled from the test's registry, and the image's name.
fn with_sample<'a>(env: &'a Env, driver: &'static str) -> Option<(Podman<'a>, String)> {
    let podman = Podman::empty(env, driver)?;
    if driver == "overlay" && podman.run(&["info"]).code != 0 {
        skip::skip("overlay for podman");
        return None;
    }
    let name = env.push("from-podman", &sample);
    podman
        .run(&["pull", "-q", "--tls-verify=false", &name])
        .exits(0);
    Some((podman, name))
}

/// What is beneath a directory and when it changed; what can't be looked into is left out.
fn tree(path: &Path, found: &mut Vec<(String, std::time::SystemTime)>) {
    let metadata = fs::symlink_metadata(path).unwrap();
    found.push((path.display().to_string(), metadata.modified().unwrap()));
    if metadata.is_dir()
        && let Ok(entries) = fs::read_dir(path)
    {
        for entry in entries {
            tree(&entry.unwrap().path(), found);
        }
    }
}

fn moves_over(driver: &'static str) {
    let Some(env) = Env::new() else { return };
    let Some((podman, name)) = with_sample(&env, driver) else {
        return;
    };
    let inspect = ["image", "inspect", "--format", "{{.ID}} {{.Digest}}", &name];
    let said = podman.run(&inspect).exits(0);
    let (id, digest) = said.trim().split_once(' ').unwrap();
    let storage = env.path("h/storage");
    let (mut before, mut after) = (Vec::new(), Vec::new());
    tree(&storage, &mut before);
    let root = storage.to_str().unwrap();
    let words = ["image", "import-from", "podman", "-q", "--root", root];
    let said = env.kelp(&words).succeeds();
    assert_eq!(said, format!("Imported image: {name}\n"));
    tree(&storage, &mut after);
    before.sort();
    after.sort();
    assert!(before == after, "podman's store is only read");
    let own = env.kelp(&["images", "-q", "--no-trunc", &name]).succeeds();
    assert_eq!(own.trim(), format!("sha256:{id}"));
    let format = "{{range .RepoDigests}}{{.}}{{end}}";
    let known = env.kelp(&["image", "inspect", "--format", format, &name]);
    let bare = name.rsplit_once(':').unwrap().0;
    assert!(known.succeeds().contains(&format!("{bare}@{digest}")));
    let expected = "/data/again 1000 2000 4640 1 6\n/data/closed 7 8 0 1 7\n\
                    /data/link 0 0 777 1 5\n/data/owned 1000 2000 600 1 8\n\
                    changed\nowned\nclosed\nowned\n";
    let said = env.kelp(&["run", "--rm", &name, "sh", "-c", SCRIPT]);
    assert_eq!(said.succeeds().replace(" 2 6\n", " 1 6\n"), expected);
    // It is whole without podman, and leaves.
    let target = format!("{}/moved/on:1", env.registry().address);
    env.kelp(&["push", "-q", &name, &target]).succeeds();
    env.kelp(&["rmi", "-a"]).succeeds();
    let pulled = env.kelp(&["pull", "-q", &target]).succeeds();
    assert_eq!(pulled.trim(), id);
}

#[test]
fn podmans_images_move_over_with_vfs() {
    moves_over("vfs");
}

#[test]
fn podmans_images_move_over_with_overlay() {
    moves_over("overlay");
}

#[test]
fn one_is_pulled_by_its_transport() {
    let Some(env) = Env::new() else { return };
    let Some((_podman, name)) = with_sample(&env, "vfs") else {
        return;
    };
    let root = env.path("h/storage");
    let place = format!("containers-storage:[vfs@{}]{name}", root.display());
    let pulled = env.kelp(&["pull", "-q", &place]).succeeds();
    let own = env.kelp(&["images", "-q", "--no-trunc", &name]).succeeds();
    assert_eq!(own.trim(), format!("sha256:{}", pulled.trim()));
    let missing = format!("containers-storage:[{}]nothing", root.display());
    let line = env.kelp(&["pull", "-q", &missing]).fails(125);
    assert!(line.contains("nothing in podman's store"), "{line}");
    // A name that another image had is told.
    let busybox = env.busybox();
    env.kelp(&["tag", &busybox, &name]).succeeds();
    let done = env.kelp(&["pull", "-q", &place]).done();
    assert_eq!(done.code, 0, "{done:#?}");
    assert!(
        done.stderr
            .contains(&format!("Warning: {name} was a name of image "))
    );
}

/// Who writes to the store says nothing of what a registry has.
#[test]
fn a_digest_without_its_manifest_is_not_believed() {
    let Some(env) = Env::new() else { return };
    let Some((_podman, name)) = with_sample(&env, "vfs") else {
        return;
    };
    let list = env.path("h/storage/vfs-images/images.json");
    let mut images: serde_json::Value = serde_json::from_slice(&fs::read(&list).unwrap()).unwrap();
    let claimed = format!("sha256:{}", "a".repeat(64));
    let by_digest = format!("127.0.0.1:1/other@{claimed}");
    let other = "127.0.0.1:1/other:1";
    images[0]["digest"] = claimed.as_str().into();
    images[0]["names"] = serde_json::json!([name, other, by_digest]);
    fs::write(&list, images.to_string()).unwrap();
    let root = env.word("h/storage");
    let words = ["image", "import-from", "podman", "-q", "--root", &root];
    let said = env.kelp(&words).succeeds();
    assert_eq!(
        said,
        format!("Imported image: {name}\nImported image: {other}\n")
    );
    let format = "{{.RepoDigests}} {{.RepoTags}}";
    let known = env.kelp(&["image", "inspect", "--format", format, &name]);
    assert!(!known.succeeds().contains("aaaa"));
    env.kelp(&["run", "--pull=never", "--rm", &by_digest, "true"])
        .fails(125);
}

#[test]
fn a_layer_that_has_changed_is_not_taken() {
    let Some(env) = Env::new() else { return };
    let Some((_podman, name)) = with_sample(&env, "vfs") else {
        return;
    };
    let storage = env.path("h/storage");
    let root = storage.to_str().unwrap();
    // busybox is in every layer's directory, and of this user.
    let mut changed = 0;
    for layer in fs::read_dir(storage.join("vfs/dir")).unwrap() {
        let file = layer.unwrap().path().join("bin/busybox");
        let mut bytes = fs::read(&file).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&file, bytes).unwrap();
        changed += 1;
    }
    assert!(changed > 1);
    let words = ["image", "import-from", "podman", "-q", "--root", root];
    let done = env.kelp(&words).done();
    assert_eq!((done.code, done.stdout.as_str()), (125, ""), "{done:#?}");
    let expected = format!(
        "Error: {name} can't be taken from podman's store (its files are not what they were): \
         pull it with kelp pull\n"
    );
    assert_eq!(done.stderr, expected);
    assert_eq!(env.kelp(&["images", "-q"]).succeeds(), "");
}

#[test]
fn no_store_is_one_line() {
    let Some(env) = Env::new() else { return };
    let line = env.kelp(&["image", "import-from", "podman"]).fails(125);
    assert!(
        line.contains("containers/storage has no images of podman's"),
        "{line}"
    );
}
