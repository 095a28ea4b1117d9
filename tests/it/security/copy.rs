//! `cp`, whose one side is hostile.

use std::fs;

use super::run;
use crate::archive::Layer;
use crate::env::Env;
use crate::image::Image;

/// Links in the container, followed on the host (CVE-2018-15664, CVE-2019-18466).
#[test]
fn cve_2018_15664_a_link_leads_to_the_containers_files() {
    let Some(env) = Env::new() else { return };
    let secret = env.path("h/secret");
    fs::write(&secret, "of the host").unwrap();
    let secret = secret.to_str().unwrap();
    let image = env.image("cp-links", &|| {
        Image::busybox().layer(
            Layer::default()
                .symlink("file", secret)
                .symlink("up", "../../../../../../../../../../etc/hostname")
                .symlink("dir", env.path("h").to_str().unwrap())
                .symlink("fine", "/etc/group")
                .file("glob*", 0o644, b"star")
                .file("globs", 0o644, b"other"),
        )
    });
    let sleep = ["/bin/sleep", "100000"];
    let run = ["run", "-d", "--name", "runs", "--network", "none", &image];
    env.kelp(&[&run[..], &sleep].concat()).succeeds();
    let create = ["create", "--name", "rests", "--network", "none", &image];
    env.kelp(&[&create[..], &sleep].concat()).succeeds();
    let out = env.path("h/out");
    for name in ["runs", "rests"] {
        fs::create_dir(&out).unwrap();
        let target = out.to_str().unwrap();
        for path in ["/file", "/dir/secret"] {
            // A link is copied as one, if it is copied.
            let from = format!("{name}:{path}");
            let _ = env.kelp(&["cp", &from, target]).done();
            for entry in fs::read_dir(&out).unwrap() {
                let path = entry.unwrap().path();
                assert!(path.is_symlink(), "{from}: {}", path.display());
                fs::remove_file(path).unwrap();
            }
        }
        let _ = env.kelp(&["cp", &format!("{name}:/up"), target]).done();
        // A star is a star (CVE-2019-10152).
        env.kelp(&["cp", &format!("{name}:/glob*"), target])
            .succeeds();
        env.kelp(&["cp", &format!("{name}:/fine"), target])
            .succeeds();
        let mut names: Vec<_> = fs::read_dir(&out)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "up")
            .collect();
        names.sort();
        assert_eq!(names, ["fine", "glob*"]);
        assert!(
            fs::read_to_string(out.join("fine"))
                .unwrap()
                .contains("extra")
        );
        for entry in fs::read_dir(&out).unwrap() {
            let text = fs::read_to_string(entry.unwrap().path()).unwrap_or_default();
            assert!(!text.contains("of the host"));
        }
        // Into it, through a link that leads out.
        let into = format!("{name}:/dir/");
        let _ = env.kelp(&["cp", "/etc/hostname", &into]).done();
        assert!(!env.path("h/hostname").exists());
        fs::remove_dir_all(&out).unwrap();
    }
    assert_eq!(fs::read_to_string(secret).unwrap(), "of the host");
    env.kelp(&["rm", "-f", "-t", "0", "runs", "rests"])
        .succeeds();
}

/// A program inside changes links while files are copied (moby 2026-41568 and 42306).
#[test]
fn cve_2018_15664_a_swapper_inside_gets_nothing_of_the_host() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    let secret = env.path("h/secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("file"), "of the host").unwrap();
    let script = format!(
        "mkdir /d; echo inside >/d/file; ln -s {} /l; echo ready
         while :; do mv /d /t; mv /l /d; mv /t /l; mv /d /t; mv /l /d; mv /t /l; done 2>/dev/null",
        secret.display()
    );
    let flags = ["run", "-d", "--name", "swaps", &image, "sh", "-c", &script];
    env.kelp(&flags).succeeds();
    let new = env.path("h/new");
    fs::write(&new, "copied in").unwrap();
    for round in 0..60 {
        let out = env.path(&format!("h/out-{round}"));
        let _ = env
            .kelp(&["cp", "swaps:/d/file", out.to_str().unwrap()])
            .done();
        assert_ne!(fs::read_to_string(&out).unwrap_or_default(), "of the host");
        let _ = env
            .kelp(&["cp", new.to_str().unwrap(), "swaps:/d/file"])
            .done();
        let held = fs::read_to_string(secret.join("file")).unwrap();
        assert_eq!(held, "of the host", "{round}");
    }
    env.kelp(&["rm", "-f", "-t", "0", "swaps"]).succeeds();
}

/// Archives that lead out of the place where they are extracted (go-archive 2026-17106, 2025-11395,
/// oras 2026-50163).
#[test]
fn an_archive_stays_below_its_target() {
    let Some(env) = Env::new() else { return };
    let image = env.busybox();
    env.kelp(&["create", "--name", "box", &image, "true"])
        .succeeds();
    let outside = env.path("h/outside");
    fs::write(&outside, "untouched").unwrap();
    let outside = outside.to_str().unwrap();
    let deep = "../../../../../../../../../../..";
    let archives = [
        Layer::default().file(&format!("{deep}{outside}"), 0o644, b"x"),
        Layer::default().file(outside, 0o644, b"x"),
        Layer::default()
            .symlink("way", outside)
            .file("way", 0o644, b"x"),
        Layer::default()
            .symlink("way", env.path("h").to_str().unwrap())
            .file("way/outside", 0o644, b"x"),
        Layer::default()
            .hardlink("link", &outside[1..])
            .file("link", 0o644, b"x"),
        Layer::default()
            .symlink("one", outside)
            .hardlink("two", "one")
            .file("two", 0o644, b"x"),
    ];
    for (number, archive) in archives.into_iter().enumerate() {
        // By an image's layer, and by cp into a container at rest and to the host.
        let name = format!("archive-{number}");
        let copied = archive.clone();
        let reference = env.push(&name, &|| Image::busybox().layer(archive.clone()));
        let _ = env.kelp(&["pull", "-q", &reference]).done();
        let _ = env
            .kelp(&["cp", "-", "box:/tmp"])
            .input(&copied.finish())
            .done();
        let text = fs::read_to_string(outside).unwrap();
        assert_eq!(text, "untouched", "{number}");
    }
    let fine = Layer::default()
        .symlink("link", "file")
        .file("file", 0o644, b"fine\n")
        .finish();
    env.kelp(&["cp", "-", "box:/tmp"])
        .input(&fine)
        .done()
        .exits(0);
    env.kelp(&["rm", "box"]).succeeds();
    let (code, text) = run(&env, &[], &image, "echo fine");
    assert_eq!((code, text.as_str()), (0, "fine\n"));
}

/// What is mounted over a name stays so: an unlink from outside would take it away, and a commit would have the copy.
#[test]
fn what_is_mounted_in_a_container_is_not_replaced() {
    let Some(env) = Env::new() else { return };
    let create = ["secret", "create", "key", "-"];
    env.kelp(&create).input(b"of a secret").succeeds();
    fs::write(env.path("h/file"), "of a file").unwrap();
    fs::write(env.path("h/new"), "new").unwrap();
    let from = env.word("h/new");
    let volume = format!("{}:/x/file", env.word("h/file"));
    env.waiting("runs", &["--network=none", "--secret=key", "-v", &volume]);
    for (path, content) in [
        ("/run/secrets/key", "of a secret"),
        ("/x/file", "of a file"),
    ] {
        let line = env.kelp(&["cp", &from, &format!("runs:{path}")]).fails(125);
        assert!(line.contains("device or resource busy"), "{line}");
        let read = ["exec", "runs", "cat", path, "/proc/mounts"];
        let read = env.kelp(&read).succeeds();
        assert!(read.starts_with(content), "{read}");
        assert!(read.contains(&format!(" {path} ")), "{read}");
    }
    // Beside it there is room.
    env.kelp(&["cp", &from, "runs:/x/other"]).succeeds();
    env.kelp(&["rm", "-f", "-t0", "runs"]).succeeds();
}
