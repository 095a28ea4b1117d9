//! Read-only stores beneath the user's own.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::env::Env;
use crate::inventory;

/// Moves what the user has to a store of its own, closes it for writing, and names it in kelp.conf.
fn shared(env: &Env) -> (String, std::path::PathBuf) {
    let name = env.busybox();
    let (own, shared) = (env.path("d/kelp"), env.path("d/shared"));
    fs::rename(&own, &shared).unwrap();
    configure(env, &shared);
    for place in [
        "",
        "images",
        "tags",
        "layers",
        "blobs",
        "blobs/sha256",
        "tmp",
    ] {
        fs::set_permissions(shared.join(place), PermissionsExt::from_mode(0o555)).unwrap();
    }
    (name, shared)
}

fn configure(env: &Env, store: &Path) {
    let conf = env.path("c/kelp/kelp.conf");
    fs::create_dir_all(conf.parent().unwrap()).unwrap();
    let text = format!(
        "[storage]\nadditional_image_stores = [\"{}\"]\n",
        store.display()
    );
    fs::write(conf, text).unwrap();
}

fn layers(env: &Env) -> usize {
    let maps = fs::read_dir(env.path("d/kelp/layers"))
        .into_iter()
        .flatten();
    let names = maps.flat_map(|map| fs::read_dir(map.unwrap().path()).unwrap());
    names
        .filter(|name| name.as_ref().unwrap().file_name().len() == 64)
        .count()
}

#[test]
fn an_image_of_a_shared_store_is_found_and_runs_without_a_copy() {
    let Some(env) = Env::new() else { return };
    let (name, store) = shared(&env);
    let before = inventory::with_times(&store);
    let format = "{{.Repository}} {{.ReadOnly}}";
    let listed = env.kelp(&["images", "--format", format]).succeeds();
    let repository = name.strip_suffix(":latest").unwrap();
    assert_eq!(listed, format!("{repository} true\n"));
    let table = env.kelp(&["images"]).succeeds();
    let (headings, row) = table.split_once('\n').unwrap();
    assert!(
        headings.ends_with("R/O") && row.ends_with("true\n"),
        "{table}"
    );
    for (filter, count) in [("readonly=true", 1), ("readonly=false", 0)] {
        let words = ["images", "-q", "--filter", filter];
        assert_eq!(env.kelp(&words).succeeds().lines().count(), count);
    }
    env.kelp(&["image", "inspect", &name]).succeeds();
    env.kelp(&["history", &name]).succeeds();
    assert_eq!(env.shell(&[], "echo works; touch /new"), "works\n");
    assert_eq!(layers(&env), 0);
    // For another map layers are made here, from the blobs there; and they stay.
    for _ in 0..2 {
        let said = env.shell(&["--userns=keep-id"], "stat -c %u /etc/passwd /home/user");
        assert_eq!(said, "0\n1000\n");
        assert_eq!(layers(&env), 2);
        env.kelp(&["system", "prune", "-f"]).succeeds();
    }
    env.kelp(&["system", "check", "-r"]).succeeds();
    assert_eq!(inventory::with_times(&store), before);
}

#[test]
fn what_is_shared_is_not_removed_and_what_is_not_there_is_no_obstacle() {
    let Some(env) = Env::new() else { return };
    let (name, store) = shared(&env);
    let before = inventory::with_times(&store);
    let id = env.kelp(&["images", "-q"]).succeeds().trim().to_owned();
    let refusal = format!(
        "Error: image {id} can't be removed: it is in the read-only store {}",
        store.display()
    );
    for words in [&["rmi", &name][..], &["rmi", "-f", &id]] {
        assert_eq!(env.kelp(words).fails(2), refusal);
    }
    // All there is to be removed.
    env.kelp(&["rmi", "-a"]).succeeds();
    env.kelp(&["image", "prune", "-af"]).succeeds();
    env.kelp(&["image", "prune", "-f", "--keep-storage=0"])
        .succeeds();
    // A name of the user's own is.
    env.kelp(&["tag", &name, "mine"]).succeeds();
    let words = ["run", "--rm", "mine", "echo", "mine"];
    assert_eq!(env.kelp(&words).succeeds(), "mine\n");
    env.kelp(&["system", "check", "-r"]).succeeds();
    assert_eq!(
        env.kelp(&["rmi", "mine"]).succeeds(),
        "Untagged: localhost/mine:latest\n"
    );
    assert_eq!(env.kelp(&["images", "-q"]).succeeds().trim(), id);
    // A pull makes it the user's own, which goes like any other.
    env.kelp(&["pull", "-q", &name]).succeeds();
    let words = ["images", "--format={{.ReadOnly}}"];
    assert_eq!(env.kelp(&words).succeeds(), "false\n");
    env.kelp(&["rmi", &name]).succeeds();
    assert_eq!(env.kelp(&words).succeeds(), "true\n");
    assert_eq!(inventory::with_times(&store), before);
    env.kelp(&["system", "reset", "-f"]).succeeds();
    assert_eq!(inventory::with_times(&store), before);
    configure(&env, &env.path("not-mounted"));
    assert_eq!(env.kelp(&["images", "-q"]).succeeds(), "");
    configure(&env, Path::new("here"));
    let error = env.kelp(&["images"]).fails(125);
    assert!(
        error.contains("kelp.conf:2: a store is an absolute path"),
        "{error}"
    );
    // So that it can be deleted.
    fs::set_permissions(&store, PermissionsExt::from_mode(0o700)).unwrap();
}
