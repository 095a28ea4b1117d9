//! A runtime that is not there or that fails: one line, and nothing left behind.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use super::World;
use crate::archive::Layer;
use crate::env::Env;
use crate::image::Image;
use crate::skip::{has_program, skip};

/// A runtime that is a shell script.
fn script(env: &Env, name: &str, text: &str) -> PathBuf {
    let path = env.path(&format!("h/{name}"));
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn an_unknown_runtime_is_one_line_that_says_where_it_was_looked_for() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let line = env
        .kelp(&["run", "--runtime=nosuch", &image, "true"])
        .fails(125);
    assert_eq!(
        line,
        "Error: runtime \"nosuch\" is not installed: it was looked for in /usr/bin, /usr/sbin, \
         /usr/local/bin, /usr/local/sbin, /sbin, /bin, /run/current-system/sw/bin and $PATH; install \
         it, name its path, or put it into [engine.runtimes] of kelp.conf"
    );
    let line = env
        .kelp(&["--runtime=/no/such", "create", &image])
        .fails(125);
    assert_eq!(
        line,
        "Error: runtime \"/no/such\": there is no program at /no/such"
    );
    let line = env
        .kelp(&[
            "run",
            "--runtime=kelp",
            "--runtime-flag=debug",
            &image,
            "true",
        ])
        .fails(125);
    assert!(line.starts_with("Error: --runtime-flag debug: "), "{line}");
    assert_eq!(env.kelp(&["ps", "-aq"]).succeeds(), "");
}

#[test]
fn what_a_runtime_complains_of_is_told_and_nothing_is_left() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    // The word after --log is the log.
    let log = "while [ \"$1\" != --log ]; do shift; done; log=$2";
    for (name, text, said) in [
        (
            "json",
            format!(
                "{log}; echo '{{\"level\":\"error\",\"msg\":\"no luck\"}}' > $log; echo other >&2; exit 1"
            ),
            "json: no luck",
        ),
        (
            "text",
            format!("{log}; echo 'time=\"t\" level=error msg=\"no \\\"luck\\\"\"' > $log; exit 3"),
            "text: no \"luck\"",
        ),
        (
            "stderr",
            "echo no luck >&2; exit 1".to_owned(),
            "stderr: no luck",
        ),
        (
            "silent",
            "exit 3".to_owned(),
            "silent: create failed with exit code 3",
        ),
        (
            "killed",
            "kill -9 $$".to_owned(),
            "killed: create was killed by signal 9",
        ),
        (
            "liar",
            "exit 0".to_owned(),
            "read the process id that liar has written: no such file or directory",
        ),
    ] {
        let path = script(&env, name, &text);
        for flags in [&["--rm"][..], &["--rm", "-t"], &["--name=kept"]] {
            let own = ["run", "--network=none", "--runtime", path.to_str().unwrap()];
            let words = [&own[..], flags, &[&image, "true"]].concat();
            let done = env.kelp(&words).done();
            assert_eq!(done.code, 125, "{done:#?}");
            let line = done.stderr.lines().last().unwrap_or_default();
            assert_eq!(line, format!("Error: {said}"), "{done:#?}");
        }
        let state = "{{.State.Status}} {{.State.ExitCode}} {{.State.Error}}";
        let told = env.kelp(&["inspect", "-f", state, "kept"]).succeeds();
        assert!(told.ends_with(&format!(" 125 {said}\n")), "{told}");
        env.kelp(&["rm", "kept"]).succeeds();
    }
}

#[test]
fn a_container_that_can_t_be_started_after_its_making_is_unmade() {
    let Some(env) = Env::new() else { return };
    if !has_program("crun") {
        return skip("the program crun");
    }
    let image = env.busybox();
    let text = "for word; do [ \"$word\" = start ] && { echo not today >&2; exit 1; }; done\n\
                exec crun \"$@\"";
    let path = script(&env, "half", text);
    let runtime = ["run", "--runtime", path.to_str().unwrap(), "--network=none"];
    let line = env
        .kelp(&[&runtime[..], &["--name=c", &image, "sleep", "1000"]].concat())
        .fails(125);
    assert_eq!(line, "Error: half: not today");
    env.kelp(&["rm", "c"]).succeeds();
}

#[test]
fn a_link_in_the_image_leads_no_mount_into_proc() {
    for world in World::each() {
        let image = world.env.image("data-is-proc", &|| {
            Image::busybox().layer(Layer::default().symlink("data", "/proc"))
        });
        let fake = world.env.path("h/fake");
        fs::create_dir(&fake).unwrap();
        let mount = format!("{}:/data", fake.display());
        let words = [
            "run",
            "--network=none",
            "-v",
            &mount,
            "--runtime",
            &world.runtime,
        ];
        let words = [&words[..], &["--rm", &image, "true"]].concat();
        assert_eq!(
            world.env.kelp(&words).fails(125),
            "Error: mount /data: a link in the image leads into /proc or /sys: refusing to mount there"
        );
    }
}

#[test]
fn what_another_runtime_can_t_do_names_it() {
    for world in World::each() {
        for (flags, what) in [
            (&["--init"][..], "--init"),
            (&["--group-add=keep-groups"], "--group-add keep-groups"),
            (&["--cgroups=disabled"], "--cgroups=disabled"),
            (&["--systemd=always"], "--systemd"),
            (&["--personality=LINUX32"], "--personality"),
            (
                &["--sysctl=kernel.domainname=x"],
                "--sysctl kernel.domainname",
            ),
        ] {
            let can = match world.name {
                "crun" => !matches!(what, "--init" | "--systemd"),
                "kelp-runtime" => matches!(what, "--personality" | "--sysctl kernel.domainname"),
                _ => false,
            };
            let flags = [&["--rm", "--network=none"], flags].concat();
            let done = world.run(&flags, &["true"]).done();
            if can {
                assert_eq!((done.code, done.stderr.as_str()), (0, ""), "{done:#?}");
                continue;
            }
            let said = format!(
                "Error: {what} can't be had with the runtime {}: ",
                world.name
            );
            assert_eq!(done.code, 125, "{done:#?}");
            assert!(done.stderr.starts_with(&said), "{done:#?}");
        }
        assert_eq!(world.kelp(&["ps", "-aq"]), "");
    }
}
