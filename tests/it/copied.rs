//! Root file systems that are copies: where no overlay can be had, and where they are asked for.

use std::fs;

use crate::archive::Layer;
use crate::env::Env;
use crate::image::Image;

/// A little of all that a copy must keep.
fn varied() -> Image {
    Image::busybox()
        .layer(
            Layer::default()
                .file("srv/gone", 0o644, b"gone\n")
                .directory("srv/replaced", 0o755)
                .file("srv/replaced/below", 0o644, b"hidden\n")
                .owned_file("srv/user", 0o4750, (1000, 1001), b"of the user\n")
                .file("srv/first", 0o644, b"linked\n")
                .hardlink("srv/second", "srv/first")
                .symlink("srv/link", "/etc/passwd")
                .fifo("srv/pipe"),
        )
        .layer(
            Layer::default()
                .whiteout("srv/gone")
                .opaque("srv/replaced")
                .file("srv/replaced/above", 0o644, b"shown\n"),
        )
}

const LOOK: &str = "cd /srv; echo * replaced/*; stat -c '%n %u:%g %a %h' user first; \
                    [ first -ef second ] && readlink link; [ -p pipe ] && stat -c '%u:%g %a' /";

const SEEN: &str = "first link pipe replaced second user replaced/above\n\
                    user 1000:1001 4750 1\nfirst 0:0 644 2\n/etc/passwd\n0:0 755\n";

#[test]
fn on_an_overlay_containers_have_copies() {
    let Some(env) = Env::overlaid() else { return };
    let image = env.image("varied", &varied);
    let driver = ["info", "--format", "{{.Store.GraphDriverName}}"];
    assert_eq!(env.kelp(&driver).succeeds(), "vfs\n");
    let checks = env.kelp(&["doctor"]).done().stdout;
    let line = checks
        .lines()
        .find(|line| line.contains("overlay"))
        .unwrap();
    assert!(
        line.contains("warn") && line.contains("can't be mounted on"),
        "{checks}"
    );
    let run = |words: &[&str]| env.kelp(words).succeeds();
    assert_eq!(run(&["run", "--rm", &image, "sh", "-c", LOOK]), SEEN);
    assert_eq!(
        run(&["run", "--rm", "--read-only", &image, "sh", "-c", LOOK]),
        SEEN
    );
    let single = "0:0:1";
    let words = [
        "run", "--rm", "--uidmap", single, "--gidmap", single, &image,
    ];
    let seen = SEEN.replace("1000:1001 4750", "0:0 4750");
    let owned = run(&[&words[..], &["sh", "-c", LOOK]].concat());
    assert_eq!(owned.replace("0:0 750", "0:0 4750"), seen);
    // What one container writes is its own, and stays.
    let script =
        "[ -e /srv/own ] && echo again; echo x >/srv/own; rm -f /srv/first; cat /srv/second";
    run(&["create", "--name", "kept", &image, "sh", "-c", script]);
    assert_eq!(run(&["start", "-a", "kept"]), "linked\n");
    assert_eq!(run(&["start", "-a", "kept"]), "again\nlinked\n");
    assert_eq!(run(&["diff", "kept"]), "C /srv\nD /srv/first\nA /srv/own\n");
    assert_eq!(run(&["cp", "kept:/srv/own", "-"]).matches("own").count(), 1);
    let root = [
        "inspect",
        "--format",
        "{{.GraphDriver.Name}} {{.GraphDriver.Data.dir}}",
        "kept",
    ];
    let said = run(&root);
    let (name, directory) = said.trim_end().split_once(' ').unwrap();
    assert_eq!(name, "vfs");
    assert!(fs::exists(directory).unwrap());
    run(&["rm", "kept"]);
    assert!(!fs::exists(directory).unwrap());
    assert_eq!(run(&["run", "--rm", &image, "sh", "-c", LOOK]), SEEN);
}

#[test]
fn a_copy_can_be_asked_for() {
    let Some(env) = Env::new() else { return };
    let image = env.image("varied", &varied);
    let name = ["inspect", "--format", "{{.GraphDriver.Name}}", "one"];
    env.kelp(&[
        "--storage-driver=vfs",
        "run",
        "--name",
        "one",
        &image,
        "sh",
        "-c",
        LOOK,
    ])
    .done()
    .exits(0);
    assert_eq!(env.kelp(&name).succeeds(), "vfs\n");
    env.kelp(&["rm", "one"]).succeeds();
    let with = |driver: &str, words: &[&str]| {
        let mut command = env.kelp(words).into_command();
        command.env("STORAGE_DRIVER", driver);
        crate::kelp::Kelp::new(command)
    };
    let look = ["run", "--name", "one", &image, "sh", "-c", LOOK];
    assert_eq!(with("vfs", &look).succeeds(), SEEN);
    assert_eq!(env.kelp(&name).succeeds(), "vfs\n");
    // It is what it was made as.
    assert_eq!(env.kelp(&["start", "-a", "one"]).succeeds(), SEEN);
    env.kelp(&["rm", "one"]).succeeds();
    assert_eq!(with("overlay", &look).succeeds(), SEEN);
    assert_eq!(env.kelp(&name).succeeds(), "overlay\n");
    env.kelp(&["rm", "one"]).succeeds();
    let said = with("btrfs", &["ps"]).fails(125);
    assert_eq!(
        said,
        "Error: STORAGE_DRIVER=btrfs: no such storage driver: overlay, vfs"
    );
}

#[test]
fn a_copy_that_does_not_fit_says_so_and_is_no_more() {
    let Some(env) = Env::new() else { return };
    let image = env.push("large-to-copy", &|| {
        let noise: Vec<u8> = (0..6_u32 << 20).map(|at| (at % 251) as u8).collect();
        Image::empty().layer(Layer::default().file("srv/large", 0o644, &noise))
    });
    let words = [
        "--storage-driver=vfs",
        "run",
        "--name",
        "one",
        &image,
        "true",
    ];
    let after = "ls kelp/containers kelp/tmp; du -sk . | cut -f1";
    let (code, said, error) = crate::full_disk::on_small_disk(&env, "9m", &words, after);
    assert_eq!(code, 125, "{error}");
    assert_eq!(
        error.lines().last(),
        Some(
            "Error: copy the image's files for the container: copy /srv/large: No space left on \
             device; free some space (kelp system prune), or move $XDG_DATA_HOME"
        )
    );
    let (left, kilobytes) = said.trim_end().rsplit_once('\n').unwrap();
    assert_eq!(left, "kelp/containers:\n\nkelp/tmp:");
    assert!(kilobytes.parse::<u32>().unwrap() < 7 << 10, "{said}");
}
