//! Attacks that runtimes fell to. A test is named after its case; each also asserts that legitimate
//! use still works.
//!
//! Where they are: `bundles` has the cases of `kelp-runtime`, `races` those that need somebody who
//! swaps two names ten thousand times meanwhile; `copy` has links and archives for `cp`; `files`
//! kelp's own directories, logs, sockets and digests; `mounts` mounts, masks, sysctls and cgroups;
//! `process` descriptors, variables, groups, the binary itself, and what is executed for an image;
//! `seccomp` filters and what is kept of them; and here working directories, links in the place of
//! mount points, hostile passwd and group files, ids out of range, and layers. Some cases are
//! elsewhere: pipes swapped under a copy in `copy_race`, what a start meets on its way in
//! `life::hostile`, a manifest read as two kinds and credentials for another host in the registry
//! tests of kelp-image.

mod bundles;
mod copy;
mod files;
mod mounts;
mod process;
mod races;
mod seccomp;

use serde_json::json;

use crate::archive::Layer;
use crate::env::Env;
use crate::image::Image;

/// Runs a shell command in an image; the exit code and what it prints.
fn run(env: &Env, flags: &[&str], image: &str, script: &str) -> (i32, String) {
    let arguments = [&["run", "--rm"], flags, &[image, "sh", "-c", script]].concat();
    let done = env.kelp(&arguments).done();
    (done.code, done.stdout)
}

/// busybox with a working directory that is a descriptor of whoever starts it.
#[test]
fn cve_2024_21626_the_working_directory_is_inside_the_root() {
    let Some(env) = Env::new() else { return };
    for number in 3..12 {
        let directory = format!("/proc/self/fd/{number}");
        let image = env.image(&format!("workdir-fd-{number}"), &|| {
            Image::busybox().set("WorkingDir", json!(directory))
        });
        // Either it fails, or it starts somewhere from which .. does not leave the root.
        let (code, text) = run(
            &env,
            &[],
            &image,
            "cd ../../../../..; test -e bin/kelp-probe && pwd",
        );
        assert!(
            code == 125 || code == 126 || code == 127 || text == "/\n",
            "{code} {text}"
        );
    }
    assert_eq!(
        env.shell(&["-w", "/proc/self"], "test -e status && echo fine"),
        "fine\n"
    );
}

/// An image whose /proc, /sys, /dev or /etc is a symbolic link (CVE-2023-27561, CVE-2023-28642,
/// runc 2026-41579).
#[test]
fn mount_points_that_are_links_are_refused_or_contained() {
    let Some(env) = Env::new() else { return };
    for name in ["proc", "sys", "dev", "etc"] {
        let image = env.image(&format!("link-{name}"), &|| {
            let layer = Layer::default().whiteout(name).directory("real", 0o755);
            Image::busybox()
                .layer(layer)
                .layer(Layer::default().symlink(name, "/real"))
        });
        // What is masked or read-only stays so, by whatever name it is reached.
        let script = format!(
            "test -e /{name}/sysrq-trigger && echo 1 2>/dev/null >/{name}/sysrq-trigger && echo bad
             test -e /{name}/kcore && test -n \"$(head -c 1 /{name}/kcore)\" && echo bad
             (echo 1 >/{name}/sys/kernel/domainname) 2>/dev/null && echo bad
             true"
        );
        let (code, text) = run(&env, &[], &image, &script);
        assert!(!text.contains("bad"), "{name}: {code} {text}");
    }
    // A link that distributions ship.
    let image = env.image("var-run", &|| {
        Image::busybox().layer(Layer::default().symlink("var/run", "/run"))
    });
    let (code, text) = run(&env, &[], &image, "touch /var/run/x && ls /run/x");
    assert_eq!((code, text.as_str()), (0, "/run/x\n"));
}

/// /etc/passwd is a pipe, a link out of the root, or endless (CVE-2024-9676, containerd 2026-47262).
#[test]
fn cve_2024_9676_the_files_of_users_are_hostile() {
    let Some(env) = Env::new() else { return };
    for (name, layer) in [
        (
            "absolute",
            Layer::default().symlink("etc/passwd", "/proc/self/environ"),
        ),
        (
            "endless",
            Layer::default().symlink("etc/passwd", "/dev/zero"),
        ),
        (
            "endless-group",
            Layer::default().symlink("etc/group", "/dev/zero"),
        ),
        (
            "outside",
            Layer::default().symlink("etc/passwd", "../../../../../etc/passwd"),
        ),
        ("pipe", Layer::default().fifo("etc/passwd")),
        ("pipe-group", Layer::default().fifo("etc/group")),
    ] {
        let image = env.image(&format!("passwd-{name}"), &|| {
            Image::busybox().layer(layer.clone())
        });
        // Numbers need no file, and root is one. The program itself reads none.
        let script = "awk '/^Uid/ {print $2}' /proc/self/status";
        for (user, seen) in [("1:1", "1\n"), ("1", "1\n"), ("0", "0\n"), ("root", "0\n")] {
            let (code, text) = run(&env, &["--user", user], &image, script);
            let is_missing = user == "root" && matches!(name, "absolute" | "outside");
            assert!(
                is_missing || (code, &*text) == (0, seen),
                "{name} {user}: {code} {text}"
            );
        }
        // The host's own user is not the image's.
        let own = std::env::var("USER").unwrap_or_else(|_| "kelp-test".to_owned());
        let (code, text) = run(&env, &["--user", &own], &image, "id -u");
        assert_ne!(code, 0, "{name}: {text}");
    }
    assert_eq!(env.shell(&["--user", "user"], "id -un"), "user\n");
}

/// A number that wraps to 0 (CVE-2024-40635).
#[test]
fn cve_2024_40635_a_user_out_of_range_is_an_error() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    for user in [
        "4294967296",
        "4294967295",
        "-1",
        "0x0",
        "1:4294967296",
        "99999999999999999999",
    ] {
        let done = env
            .kelp(&["run", "--rm", "--user", user, &image, "id", "-u"])
            .done();
        assert_eq!(
            (done.code, done.stdout.as_str()),
            (125, ""),
            "{user}: {done:#?}"
        );
    }
    let wrapped = env.image("user-wraps", &|| {
        Image::busybox().set("User", json!("4294967296"))
    });
    let (code, text) = run(&env, &[], &wrapped, "id -u");
    assert_eq!((code, text.as_str()), (125, ""));
    assert_eq!(env.shell(&["--user", "65535"], "id -u"), "65535\n");
    env.waiting("box", &["--network", "none"]);
    for user in ["4294967296", "4294967295", "-1", "1:4294967295"] {
        let done = env.kelp(&["exec", "-u", user, "box", "id", "-u"]).done();
        assert!(
            done.code != 0 && done.stdout.is_empty(),
            "{user}: {done:#?}"
        );
    }
    let exec = ["exec", "-u", "65535", "box", "id", "-u"];
    assert_eq!(env.kelp(&exec).succeeds(), "65535\n");
    env.kelp(&["rm", "-f", "-t", "0", "box"]).succeeds();
}

/// Names in a layer that leave the root, or go through a link that the same layer made.
#[test]
fn layers_write_nothing_outside() {
    let Some(env) = Env::new() else { return };
    let outside = env.path("h/escaped");
    let target = outside.to_str().unwrap();
    for (name, layer) in [
        (
            "up",
            Layer::default().file("../../../../../../../../escaped", 0o644, b"x"),
        ),
        ("absolute", Layer::default().file(target, 0o644, b"x")),
        (
            "through-a-link",
            Layer::default()
                .symlink("way", env.path("h").to_str().unwrap())
                .file("way/escaped", 0o644, b"x"),
        ),
        (
            "hard-link",
            Layer::default().hardlink("passwd-of-the-host", "../../../../../../etc/passwd"),
        ),
    ] {
        let image = env.push(&format!("escape-{name}"), &|| {
            Image::busybox().layer(layer.clone())
        });
        let done = env.kelp(&["pull", "-q", &image]).done();
        assert!(!outside.exists(), "{name}: {done:#?}");
        if done.code == 0 {
            let script = "grep -q kelp-test /passwd-of-the-host && echo bad; true";
            assert_eq!(run(&env, &[], &image, script), (0, String::new()), "{name}");
        }
    }
}

/// Opens the file of a program that is not the image's, lets it end, and writes the file once it is told that
/// nobody executes it any more.
pub(crate) const KEEPS_THE_FILE: &str = "mkfifo /fifo
    while :; do for process in /proc/[0-9]*; do
        case $(readlink $process/exe 2>/dev/null) in
            *busybox | '') ;;
            *) break 2 ;;
        esac
    done; done
    exec 3<$process/exe
    cat /fifo >/dev/null
    until test -e /go; do :; done
    cp /bin/busybox /proc/self/fd/3 2>/dev/null && echo written >/result.new
    test -e /result.new || echo refused >/result.new
    mv /result.new /result
    exec sleep 1000";

/// Executes kelp, by a link to it, until it can write its log.
pub(crate) const HANGS_INSIDE: &[&str] = &["kelp-runtime", "--log", "/fifo", "state", "x"];

/// A process that is about to join a container is not there to be taken over (CVE-2019-5736).
#[test]
fn cve_2019_5736_the_binary_is_out_of_reach() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    // Whoever enters is opened for writing as soon as it shows.
    let script = "while :; do for process in /proc/[0-9]*; do
                      test $process = /proc/$$ && continue
                      case $(readlink $process/exe 2>/dev/null) in
                          *busybox | '') ;;
                          *) (: >>$process/exe) 2>/dev/null && echo written && exit 1 ;;
                      esac
                  done; done";
    env.kelp(&["run", "-d", "--name", "trap", &image, "sh", "-c", script])
        .succeeds();
    for _ in 0..20 {
        env.kelp(&["exec", "trap", "true"]).succeeds();
    }
    let logs = env.kelp(&["logs", "trap"]).done();
    assert!(!logs.stdout.contains("written"), "{logs:#?}");
    env.kelp(&["exec", "trap", "true"]).succeeds();
    env.kelp(&["rm", "-f", "-t", "0", "trap"]).succeeds();
}
