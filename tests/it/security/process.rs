//! What the process inside has, and what it can reach of the process that starts it.

use std::fs;
use std::path::PathBuf;

use serde_json::json;
use sha2::{Digest, Sha256};

use super::{HANGS_INSIDE, KEEPS_THE_FILE, run};
use crate::archive::Layer;
use crate::env::{Env, copy_kelp, kelp_program};
use crate::image::Image;
use crate::kelp::{Done, Kelp, beside, wait_until};

/// A kelp of the user's own, and what calls it.
fn own_kelp(env: &Env) -> (PathBuf, impl Fn(&[&str]) -> Done) {
    let own = env.path("h/kelp");
    copy_kelp(&own);
    let program = own.clone();
    let kelp = move |arguments: &[&str]| {
        let inner = env.kelp(arguments).into_command();
        let mut command = beside(&inner, &program);
        command.args(inner.get_args());
        Kelp::new(command).done()
    };
    (own, kelp)
}

/// kelp belongs to the user, who is root inside, and is what the image would have executed
/// (CVE-2019-5736).
#[test]
fn cve_2019_5736_a_binary_of_the_users_own_is_not_written() {
    let Some(env) = Env::new() else { return };
    let (own, kelp) = own_kelp(&env);
    let before = Sha256::digest(fs::read(&own).unwrap());
    // As the program, as an interpreter, and as a library's stand-in.
    let itself = env.image("runs-itself", &|| {
        Image::busybox().layer(
            Layer::default()
                .symlink("bin/itself", "/proc/self/exe")
                .file("bin/script", 0o755, b"#!/proc/self/exe\n"),
        )
    });
    for program in ["/proc/self/exe", "/bin/itself", "/bin/script"] {
        kelp(&[
            "run",
            "--rm",
            "--network",
            "none",
            &itself,
            program,
            "--version",
        ]);
    }
    let script = "while :; do for process in /proc/[0-9]*; do
                      test $process = /proc/$$ && continue
                      (: >>$process/exe) 2>/dev/null && cp /bin/busybox $process/exe
                  done 2>/dev/null; done";
    let run = ["run", "-d", "--name", "trap", "--network", "none", &itself];
    assert_eq!(kelp(&[&run[..], &["sh", "-c", script]].concat()).code, 0);
    for program in ["/proc/self/exe", "/bin/script", "/bin/true"] {
        for _ in 0..10 {
            kelp(&["exec", "trap", program]);
        }
    }
    assert_eq!(kelp(&["exec", "trap", "echo", "fine"]).stdout, "fine\n");
    kelp(&["rm", "-f", "-t", "0", "trap"]).exits(0);
    assert!(before == Sha256::digest(fs::read(&own).unwrap()));
}

/// As long as a container runs its monitor executes kelp, which keeps everybody from writing it; but not one
/// that was installed since.
#[test]
fn cve_2019_5736_a_kelp_that_was_installed_later_is_not_written() {
    let Some(env) = Env::new() else { return };
    let (own, kelp) = own_kelp(&env);
    let before = Sha256::digest(fs::read(&own).unwrap());
    let image = env.image("runs-kelp", &|| {
        Image::busybox().layer(Layer::default().symlink("bin/kelp-runtime", "/proc/self/exe"))
    });
    let flags = ["run", "-d", "--name", "trap", "--network", "none"];
    kelp(&[&flags[..], &[&image, "sh", "-c", KEEPS_THE_FILE]].concat()).exits(0);
    let new = env.path("h/new");
    copy_kelp(&new);
    fs::rename(&new, &own).unwrap();
    wait_until("the trap is set", || {
        kelp(&["exec", "trap", "test", "-e", "/fifo"]).code == 0
    });
    kelp(&[&["exec", "trap"][..], HANGS_INSIDE].concat());
    // A keeper executes itself anew as well, and has what was asked of it then.
    kelp(&["exec", "-d", "trap", "touch", "/go"]).exits(0);
    // Without a process of the new one inside.
    let result = || env.kelp(&["cp", "trap:/result", "-"]).done();
    wait_until("it was tried", || result().code == 0);
    assert!(result().stdout.contains("refused"));
    kelp(&["rm", "-f", "-t", "0", "trap"]).exits(0);
    assert!(before == Sha256::digest(fs::read(&own).unwrap()));
}

/// No descriptor comes along (CVE-2024-21626).
#[test]
fn cve_2024_21626_no_descriptor_is_left_open() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    // ls has one of its own open.
    let script = "ls /proc/self/fd; for fd in /proc/self/fd/*; do readlink $fd; done | grep -v \
                  'pipe:\\|/dev/null\\|/proc'";
    let (_, text) = run(&env, &[], &image, script);
    assert_eq!(text, "0\n1\n2\n3\n");
    let flags = ["run", "-d", "--name", "box", &image, "sleep", "100000"];
    env.kelp(&flags).succeeds();
    for user in ["root", "user"] {
        let exec = ["exec", "-u", user, "box", "sh", "-c", script];
        assert_eq!(env.kelp(&exec).done().stdout, "0\n1\n2\n3\n");
    }
    for directory in ["/proc/self/fd/3", "/proc/self/fd/7", "/proc/1/fd/9"] {
        let exec = ["exec", "-w", directory, "box", "ls", "../../../../../../"];
        let done = env.kelp(&exec).done();
        assert!(
            done.code != 0 || done.stdout.contains("home\n"),
            "{done:#?}"
        );
        assert!(!done.stdout.contains("boot\n"), "{done:#?}");
    }
    env.kelp(&["rm", "-f", "-t", "0", "box"]).succeeds();
}

/// Inheritable capabilities would be had by whoever executes a file with such (CVE-2022-27649,
/// CVE-2022-29162), and groups of the host's would open its files (CVE-2022-2989).
#[test]
fn cve_2022_27649_nothing_is_inheritable_and_groups_are_exact() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let script = "grep CapInh /proc/self/status; id -G";
    let none = "CapInh:\t0000000000000000\n";
    let cases = [
        (&["--user", "root"][..], "0\n"),
        (&["--user", "user"], "1000 2000\n"),
        (&["--user", "1000:5"], "5\n"),
        (&["--user", "4000"], "0\n"),
        (&["--user", "user", "--group-add", "7"], "1000 7 2000\n"),
        (&["--privileged"], "0\n"),
        (&["--cap-add", "sys_admin"], "0\n"),
    ];
    for (flags, groups) in cases {
        let (code, text) = run(&env, flags, &image, script);
        let (inheritable, found) = text.split_at(none.len());
        let sorted = |text: &str| {
            let mut words: Vec<_> = text.split_whitespace().map(str::to_owned).collect();
            words.sort();
            words
        };
        assert_eq!((code, inheritable), (0, none), "{flags:?}");
        assert_eq!(sorted(found), sorted(groups), "{flags:?}");
    }
    let flags = ["run", "-d", "--name", "box", &image, "sleep", "100000"];
    env.kelp(&flags).succeeds();
    for (user, groups) in [("root", "0\n"), ("user", "1000 2000\n")] {
        let exec = ["exec", "-u", user, "box", "sh", "-c", script];
        assert_eq!(env.kelp(&exec).succeeds(), format!("{none}{groups}"));
    }
    env.kelp(&["rm", "-f", "-t", "0", "box"]).succeeds();
}

/// Variables of one container, or of the host, in another (CVE-2020-14370, podman 2026-57231).
#[test]
fn cve_2020_14370_no_variable_gets_from_one_container_to_the_next() {
    let Some(env) = Env::new() else { return };
    let image = env.image("env-hostile", &|| {
        Image::busybox().set(
            "Env",
            json!([
                "PATH=/bin",
                "KELP_TEST_CANARY",
                "*",
                "=x",
                "",
                "KELP_*",
                "GOOD=1"
            ]),
        )
    });
    let flags = [
        "run",
        "-d",
        "--name",
        "first",
        "-e",
        "SECRET=42",
        "-e",
        "KELP_TEST_CANARY",
    ];
    env.kelp(&[&flags[..], &[&image, "sleep", "100000"]].concat())
        .succeeds();
    let exec = |more: &[&str]| {
        let command = [&["exec"], more, &["first", "env"]].concat();
        env.kelp(&command).succeeds()
    };
    // Asked for by name, it is had; that is what -e NAME is for.
    assert!(exec(&[]).contains("KELP_TEST_CANARY=of the host\n"));
    assert!(exec(&["-e", "ONCE=1"]).contains("ONCE=1\n"));
    assert!(!exec(&[]).contains("ONCE"));
    let (code, text) = run(&env, &[], &image, "env");
    assert_eq!(code, 0);
    assert!(text.contains("GOOD=1\n"), "{text}");
    for word in ["SECRET", "ONCE", "CANARY", "of the host"] {
        assert!(!text.contains(word), "{text}");
    }
    env.kelp(&["rm", "-f", "-t", "0", "first"]).succeeds();
}

/// Libraries, name services and programs of the container in the hands of whoever looks at it
/// (CVE-2019-14271, podman 2022-1227, moby 2026-41567).
#[test]
fn cve_2019_14271_nothing_of_the_image_is_executed_for_kelp() {
    let Some(env) = Env::new() else { return };
    assert!(
        crate::image::is_static(&fs::read(kelp_program()).unwrap()) == Some(true),
        "a loader would take libraries from wherever kelp is"
    );
    let spy = b"#!/bin/sh\necho executed $0 >>/executed\nexec /bin/busybox ${0##*/} \"$@\"\n";
    let image = env.image("spies", &|| {
        let mut layer = Layer::default()
            .directory("usr/bin", 0o755)
            .directory("lib", 0o755)
            .file("etc/nsswitch.conf", 0o644, b"passwd: spy\ngroup: spy\n")
            .file("lib/libnss_spy.so.2", 0o755, b"no library");
        for name in [
            "ps",
            "gzip",
            "unpigz",
            "zstd",
            "xz",
            "tar",
            "newuidmap",
            "id",
            "getent",
        ] {
            layer = layer.file(&format!("usr/bin/{name}"), 0o755, spy);
        }
        Image::busybox().layer(layer)
    });
    let flags = [
        "run",
        "-d",
        "--name",
        "spies",
        &image,
        "/bin/busybox",
        "sleep",
        "100000",
    ];
    env.kelp(&flags).succeeds();
    let top = env.kelp(&["top", "spies"]).succeeds();
    assert!(top.contains("sleep 100000"), "{top}");
    env.kelp(&["cp", "spies:/etc/group", "-"]).done().exits(0);
    let target = env.path("h/copied");
    env.kelp(&["cp", "spies:/usr/bin", target.to_str().unwrap()])
        .succeeds();
    env.kelp(&["diff", "spies"]).done().exits(0);
    env.kelp(&["exec", "-u", "user", "spies", "/bin/true"])
        .succeeds();
    let exec = ["exec", "spies", "/bin/cat", "/executed"];
    let done = env.kelp(&exec).done();
    assert_eq!((done.code, done.stdout.as_str()), (1, ""), "{done:#?}");
    env.kelp(&["rm", "-f", "-t", "0", "spies"]).succeeds();
}

/// Labels of an image are data (containerd 2026-53488).
#[test]
fn an_images_labels_control_nothing() {
    let Some(env) = Env::new() else { return };
    let canary = env.path("h/canary");
    let command = format!("touch {}", canary.display());
    let image = env.image("labels", &|| {
        Image::busybox().set(
            "Labels",
            json!({
                "RUN": command, "INSTALL": command, "io.podman.annotations.privileged": "TRUE",
                "io.podman.annotations.seccomp": "unconfined", "run.oci.hooks": command,
                "io.container.capabilities": "sys_admin", "org.systemd.property.ExecStart": command,
            }),
        )
    });
    let script = "grep -E '^(CapBnd|Seccomp):' /proc/self/status";
    let plain = env.shell(&[], script);
    assert_eq!(run(&env, &[], &image, script), (0, plain));
    assert!(!canary.exists());
}

/// A child that is left behind keeps the pipes open, and whoever waits for them waits for ever
/// (containerd 2026-53495).
#[test]
fn a_child_that_is_left_behind_holds_no_exec_up() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let run = ["run", "-d", "--name", "box", &image, "sleep", "100000"];
    env.kelp(&run).succeeds();
    let script = "sleep 100000 & echo done; exit 3";
    for flags in [&[][..], &["-i"], &["-t"]] {
        let exec = [&["exec"], flags, &["box", "sh", "-c", script]].concat();
        let done = env.kelp(&exec).done();
        assert_eq!(
            (done.code, done.stdout.trim_end()),
            (3, "done"),
            "{flags:?}"
        );
    }
    wait_until("they go on", || {
        let pids = env.kelp(&["exec", "box", "pidof", "sleep"]).succeeds();
        pids.split_whitespace().count() >= 3
    });
    env.kelp(&["rm", "-f", "-t", "0", "box"]).succeeds();
}
