//! `kelp mount` and `kelp image mount`.

use std::fs;

use serde_json::{Value, json};

use crate::archive::Layer;
use crate::env::Env;
use crate::image::Image;
use crate::kelp::wait_until;
use crate::unshare::Session;

/// An image of two layers, in which each hides something of the other.
fn layered(env: &Env) -> String {
    env.push("mount/layered", &|| {
        let first = Layer::default()
            .directory("d", 0o755)
            .file("d/gone", 0o644, b"gone")
            .owned_file("owned", 0o600, (7, 8), b"first");
        let second = Layer::default()
            .whiteout("d/gone")
            .file("top", 0o644, b"top");
        Image::empty().layer(first).layer(second)
    })
}

#[test]
fn what_can_be_mounted_only_in_an_unshare_says_so() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    env.kelp(&["create", "--name", "c", &image, "true"])
        .succeeds();
    let said = "Error: cannot mount in rootless mode, must execute `kelp unshare` first: a mount lasts as \
                long as the command or the shell that it runs";
    for words in [
        &["mount", "c"][..],
        &["mount"],
        &["container", "mount", "--all"],
        &["image", "mount", &image],
        &["image", "mount"],
    ] {
        assert_eq!(env.kelp(words).fails(125), said, "{words:?}");
    }
    // What is not mounted is as was wanted.
    assert_eq!(env.kelp(&["umount", "c"]).succeeds(), "c\n");
    assert_eq!(env.kelp(&["image", "umount", &image]).succeeds(), "");
    env.kelp(&["unmount", "none"]).fails(125);
    env.kelp(&["image", "unmount", "none"]).fails(125);
    env.kelp(&["rm", "c"]).succeeds();
}

#[test]
fn an_image_is_mounted_to_be_read_and_stays_while_it_is() {
    for env in Env::new().into_iter().chain(Env::of_old_kernel()) {
        let image = layered(&env);
        let single = env.push("mount/single", &|| {
            let layer = Layer::default()
                .file("only", 0o644, b"one")
                .whiteout("hidden");
            Image::empty().layer(layer)
        });
        for image in [&image, &single] {
            env.kelp(&["pull", "-q", image]).succeeds();
        }
        let mut session = Session::new(&env);
        let path = session.ask(&format!("$kelp image mount {image}")).done();
        let path = path.trim_end();
        let script = format!(
            "cd {path}; ls -A . d; cat top owned; stat -c %u:%g:%a owned; touch x; echo $?; cd /"
        );
        let said = session.ask(&script).done();
        assert_eq!(
            said.lines().collect::<Vec<_>>()[..6].join(" "),
            ".: d owned top  d:",
        );
        assert!(said.contains("topfirst7:8:600\n"), "{said}");
        assert!(said.contains("Read-only file system\n1\n"), "{said}");
        // Again is the same; one layer is a mount as well.
        assert_eq!(
            session.ask(&format!("$kelp image mount {image}")).done(),
            format!("{path}\n")
        );
        let other = session.ask(&format!("$kelp image mount {single}")).done();
        let script = format!("cd {}; ls -A; cat only; touch x; cd /", other.trim());
        let said = session.ask(&script).done();
        assert!(said.starts_with("only\none"), "{said}");
        assert!(said.contains("Read-only file system"), "{said}");
        let listed = session.ask("$kelp image mount | sort").done();
        assert_eq!(listed.lines().count(), 2, "{listed}");
        assert!(listed.contains(&image) && listed.contains(path), "{listed}");
        let shown: Value =
            serde_json::from_str(&session.ask("$kelp image mount --format json").done()).unwrap();
        let of_image = shown.as_array().unwrap().iter();
        let mut of_image = of_image.filter(|one| one["Repositories"] == json!([image]));
        assert_eq!(of_image.next().unwrap()["mountpoint"], path);
        // It stays, whoever would remove it.
        let line = env.kelp(&["rmi", &image]).fails(2);
        assert!(
            line.contains("is in use by a mount where process"),
            "{line}"
        );
        let line = session.ask(&format!("$kelp rmi {image}")).failed(2);
        assert!(
            line.contains("is in use by a mount (kelp image unmount"),
            "{line}"
        );
        env.kelp(&["image", "prune", "-a", "-f"]).succeeds();
        assert_eq!(env.kelp(&["images", "-q"]).succeeds().lines().count(), 2);
        assert_eq!(session.ask(&format!("cat {path}/top")).done(), "top");
        // Somebody is in it.
        let busy = format!("cd {path}; $kelp image unmount {image}; cd /");
        let busy = session.ask(&busy);
        assert!(
            busy.text.contains("somebody's working directory"),
            "{}",
            busy.text
        );
        let id = env.kelp(&["images", "-q", "--no-trunc", &image]).succeeds();
        let unmounted = session.ask(&format!("$kelp image unmount {image}")).done();
        assert_eq!(format!("sha256:{unmounted}"), id);
        assert_eq!(
            session
                .ask(&format!(
                    "$kelp image umount {image}; ls {path} 2>&1 | wc -l"
                ))
                .done(),
            "1\n"
        );
        env.kelp(&["rmi", &image]).succeeds();
        // With the session the other mount ends, and nothing has to be told.
        session.end();
        env.kelp(&["rmi", &single]).succeeds();
        env.kelp(&["image", "prune", "-f"]).succeeds();
        assert_eq!(
            fs::read_dir(env.path("d/kelp/mounts/images"))
                .unwrap()
                .count(),
            0
        );
    }
}

#[test]
fn a_mount_of_a_session_is_taken_away_from_outside_by_force() {
    let Some(env) = Env::new() else { return };
    let image = layered(&env);
    env.kelp(&["pull", "-q", &image]).succeeds();
    let mut session = Session::new(&env);
    let path = session.ask(&format!("$kelp image mount {image}")).done();
    let path = path.trim_end();
    let line = env.kelp(&["image", "unmount", &image]).fails(125);
    assert!(
        line.contains("which is not here: unmount it there, or use --force"),
        "{line}"
    );
    assert_eq!(session.ask(&format!("cat {path}/top")).done(), "top");
    env.kelp(&["image", "unmount", "--force", &image])
        .succeeds();
    assert_eq!(session.ask("$kelp image mount").done(), "");
    session.ask(&format!("$kelp image mount {image}")).done();
    env.kelp(&["rmi", "--force", &image]).succeeds();
    assert_eq!(session.ask("$kelp image mount").done(), "");
    assert_eq!(session.ask(&format!("test -e {path}")).code, 1);
    session.end();
}

#[test]
fn a_container_that_does_not_run_is_mounted_and_starts_from_what_was_written() {
    for env in Env::new().into_iter().chain(Env::of_old_kernel()) {
        let image = env.busybox();
        let script = "cat /note; echo of the container > /note; sleep 1000";
        let flags = ["create", "--name=c", "--network=none", &image];
        let create = [&flags[..], &["sh", "-c", script]].concat();
        let id = env.kelp(&create).succeeds();
        let mut session = Session::new(&env);
        let path = session.ask("$kelp mount c").done();
        let path = path.trim_end();
        session
            .ask(&format!("echo of the user > {path}/note"))
            .done();
        assert_eq!(session.ask("$kelp mount c").done(), format!("{path}\n"));
        let listed = session.ask("$kelp mount").done();
        let words: Vec<_> = listed.split_whitespace().collect();
        assert_eq!(words, [&id[..12], path]);
        let shown = session.ask("$kelp container mount --format json").done();
        let shown: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(
            shown,
            json!([{"id": id.trim(), "Names": ["c"], "mountpoint": path}])
        );
        // Nobody else mounts it a second time.
        for words in [&["start", "c"][..], &["cp", "c:/note", "-"]] {
            let line = env.kelp(words).fails(125);
            assert!(
                line.contains("is mounted by `kelp mount` where process"),
                "{line}"
            );
        }
        let line = env.kelp(&["rm", "c"]).fails(2);
        assert!(
            line.contains("unmount it there (kelp umount), or use --force"),
            "{line}"
        );
        let mut other = Session::new(&env);
        let line = other.ask("$kelp mount c").failed(125);
        assert!(line.contains("unmount it there"), "{line}");
        other.end();
        assert_eq!(
            session.ask("$kelp cp c:/note - | tar -xO").done(),
            "of the user\n"
        );
        // Where it is mounted it starts, from this very mount.
        session.ask("$kelp start c").done();
        let note = || env.kelp(&["exec", "c", "cat", "/note"]).succeeds();
        wait_until("what the container writes", || {
            note() == "of the container\n"
        });
        let read = format!("cat {path}/note; echo live > {path}/note");
        assert_eq!(session.ask(&read).done(), "of the container\n");
        assert_eq!(note(), "live\n");
        assert_eq!(env.kelp(&["logs", "c"]).succeeds(), "of the user\n");
        session.ask("$kelp stop -t 0 c").done();
        assert_eq!(session.ask(&format!("cat {path}/note")).done(), "live\n");
        assert_eq!(session.ask("$kelp umount --all").done(), id);
        assert_eq!(session.ask("$kelp mount").done(), "");
        env.kelp(&["start", "c"]).succeeds();
        session.end();
        env.kelp(&["rm", "-f", "-t", "0", "c"]).succeeds();
    }
}

#[test]
fn a_container_that_runs_shows_its_own_root() {
    let Some(env) = Env::new() else { return };
    env.waiting("c", &["--network", "none", "-v", "/data"]);
    let mut session = Session::new(&env);
    env.waiting("k", &["--network", "none"]);
    for name in ["c", "k"] {
        env.kelp(&["exec", name, "sh", "-c", "echo inside > /note"])
            .succeeds();
        let path = session.ask(&format!("$kelp mount {name}")).done();
        let path = path.trim_end();
        let read = format!("cat {path}/note; ls -A {path}/proc | wc -l; echo back > {path}/note");
        assert_eq!(session.ask(&read).done(), "inside\n0\n");
        assert_eq!(
            env.kelp(&["exec", name, "cat", "/note"]).succeeds(),
            "back\n"
        );
        // What is looked at stays when it ends, and is in nobody's way but a start's.
        env.kelp(&["stop", "-t", "0", name]).succeeds();
        assert_eq!(session.ask(&format!("cat {path}/note")).done(), "back\n");
        env.kelp(&["start", name]).fails(125);
        env.kelp(&["umount", "--force", name]).succeeds();
        env.kelp(&["start", name]).succeeds();
        assert_eq!(
            env.kelp(&["exec", name, "cat", "/note"]).succeeds(),
            "back\n"
        );
        session.ask(&format!("$kelp mount {name}")).done();
        env.kelp(&["rm", "-f", "-v", "-t", "0", name]).succeeds();
        assert_eq!(session.ask("$kelp mount").done(), "");
    }
    session.end();
}

#[test]
fn a_restart_of_its_own_hides_what_was_mounted_of_the_run_before() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let script = "echo run >> /runs; until rm /go 2>/dev/null; do sleep 0.05; done";
    let flags = [
        "run",
        "-d",
        "--name=c",
        "--network=none",
        "--restart=always",
    ];
    let run = [&flags[..], &[&image, "sh", "-c", script]].concat();
    env.kelp(&run).succeeds();
    let mut session = Session::new(&env);
    let path = session.ask("$kelp mount c").done();
    let path = path.trim_end();
    let runs = || env.kelp(&["exec", "c", "cat", "/runs"]).done().stdout;
    wait_until("the first run", || runs() == "run\n");
    env.kelp(&["exec", "c", "touch", "/go"]).succeeds();
    wait_until("the second run", || runs() == "run\nrun\n");
    assert_eq!(session.ask("$kelp mount").done(), "");
    assert_eq!(session.ask(&format!("test -e {path}/runs")).code, 1);
    let again = session.ask("$kelp mount c").done();
    assert_eq!(
        session.ask(&format!("cat {}/runs", again.trim())).done(),
        "run\nrun\n"
    );
    session.end();
    env.kelp(&["rm", "-f", "-t", "0", "c"]).succeeds();
}

#[test]
fn a_copy_of_an_image_is_mounted_without_an_overlay() {
    let Some(env) = Env::overlaid() else { return };
    let image = env.busybox();
    env.kelp(&[
        "create",
        "--name",
        "c",
        "--network",
        "none",
        &image,
        "cat",
        "/note",
    ])
    .succeeds();
    let mut session = Session::new(&env);
    let path = session.ask("$kelp mount c").done();
    session
        .ask(&format!("echo here > {}/note", path.trim()))
        .done();
    assert_eq!(session.ask("$kelp start -a c").done(), "here\n");
    let line = session
        .ask(&format!("$kelp image mount {image}"))
        .failed(125);
    assert!(
        line.contains("it needs an overlay, and none can be mounted here"),
        "{line}"
    );
    session.ask("$kelp rm c").done();
    session.end();
}

#[test]
fn a_reset_empties_nothing_that_is_mounted() {
    let Some(env) = Env::new() else { return };
    let root = env.path("h/root");
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::write(root.join("kept"), "mine").unwrap();
    env.kelp(&[
        "create",
        "--name",
        "c",
        "--rootfs",
        root.to_str().unwrap(),
        "true",
    ])
    .succeeds();
    let mut session = Session::new(&env);
    let path = session.ask("$kelp mount c").done();
    assert_eq!(
        session.ask(&format!("cat {}/kept", path.trim())).done(),
        "mine"
    );
    session.ask("$kelp system reset --force").done();
    assert_eq!(session.ask("$kelp mount").done(), "");
    session.end();
    assert_eq!(fs::read(root.join("kept")).unwrap(), b"mine");
}
