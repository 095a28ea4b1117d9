//! `--mount type=artifact`: where files are shown, that nobody in a container changes one, and what is held.

use std::fs;

use super::{Artifact, blobs, two};
use crate::env::Env;
use crate::image::digest;
use crate::skip::lacks;

#[test]
fn files_are_mounted_where_they_are_asked_for() {
    let Some(env) = Env::new() else { return };
    let single = Artifact::new()
        .file("only", "alone\n")
        .pulled(&env, "artifacts/mount-single");
    let several = two()
        .untitled("third\n")
        .pulled(&env, "artifacts/mount-several");
    let only = format!("dst=/data,digest={}", digest(b"alone\n"));
    let third = format!("/d/{}", digest(b"third\n").replace(':', "-"));
    let by_digest = format!("dst=/tmp,digest={}", digest(b"first\n"));
    let first = format!("/tmp/{}", digest(b"first\n").replace(':', "-"));
    for (source, place, files) in [
        (&single, "dst=/new", vec![("/new", "alone\n")]),
        (
            &single,
            "target=/new/deep/file",
            vec![("/new/deep/file", "alone\n")],
        ),
        // A directory of the image gets it by its title, a file is covered.
        (&single, "dst=/tmp", vec![("/tmp/only", "alone\n")]),
        (
            &single,
            "dst=/tmp/,name=other",
            vec![("/tmp/other", "alone\n")],
        ),
        (
            &single,
            "dst=/etc/passwd,title=only",
            vec![("/etc/passwd", "alone\n")],
        ),
        (&single, &only, vec![("/data", "alone\n")]),
        (&single, "dst=/new,name=ignored", vec![("/new", "alone\n")]),
        (
            &several,
            "dst=/d",
            vec![
                ("/d/one", "first\n"),
                ("/d/two", "second\n"),
                (&third, "third\n"),
            ],
        ),
        (
            &several,
            "dst=/d,name=n",
            vec![("/d/n-0", "first\n"), ("/d/n-2", "third\n")],
        ),
        (&several, "dst=/d,title=two", vec![("/d", "second\n")]),
        (
            &several,
            "dst=/tmp,title=two",
            vec![("/tmp/two", "second\n")],
        ),
        (&several, &by_digest, vec![(&first, "first\n")]),
    ] {
        let mount = format!("type=artifact,src={source},{place}");
        for (file, content) in files {
            // Also for who is not root, and whose id nobody has.
            for user in [&["--user=1234:1234"][..], &[]] {
                // kelp adds a line for such a user to that file.
                if file == "/etc/passwd" && !user.is_empty() {
                    continue;
                }
                let flags = [&["--mount", &mount], user].concat();
                assert_eq!(
                    env.shell(&flags, &format!("cat {file}")),
                    content,
                    "{mount}"
                );
            }
        }
    }
    let image = env.busybox();
    let refused = |place: &str| {
        let mount = format!("type=artifact,src={several},{place}");
        env.kelp(&["run", "--rm", "--mount", &mount, &image, "true"])
            .fails(125)
    };
    let long = format!("dst=/d,name={}", "x".repeat(254));
    for (place, said) in [
        (
            "dst=/etc/passwd",
            "has more than one blob, and /etc/passwd is a file",
        ),
        ("dst=/d,title=x", "no blob with the title \"x\""),
        (
            "dst=/d,title=one,digest=x",
            "a digest and a title exclude each other",
        ),
        (
            "dst=/d,name=../y",
            "invalid name \"../y\": it has a slash; give the name of a file",
        ),
        // The numbers count as well.
        (&long, "it is too long; give the name of a file"),
        ("dst=/", "give them a directory or a name of their own"),
        ("dst=/d,rw", "invalid option \"rw\""),
    ] {
        let line = refused(place);
        assert!(line.contains(said), "{place}: {line}");
    }
    let none = "type=artifact,src=localhost/none,dst=/d";
    let line = env
        .kelp(&["run", "--rm", "--mount", none, &image, "true"])
        .fails(125);
    let pull = "pull it first (kelp artifact pull localhost/none)";
    assert_eq!(
        line,
        format!("Error: localhost/none: artifact does not exist: {pull}")
    );
    let mount = format!("type=artifact,src={several},dst=/d");
    let twice = [
        "run",
        "--rm",
        "--mount",
        &mount,
        "--tmpfs=/d",
        &image,
        "true",
    ];
    let line = env.kelp(&twice).fails(125);
    assert!(line.contains("/d: duplicate mount destination"), "{line}");
    // What somebody calls a file covers nothing that was asked for, however either place is written.
    let volume = format!("{}:/x/one", env.word("h"));
    for place in ["/x", "/x/", "/x/../x", "/./x"] {
        for mount in [&volume, "v:/x//one", "v:/y/../x/one"] {
            let artifact = format!("type=artifact,src={several},dst={place}");
            let words = ["run", "--rm", "-v", mount, "--mount", &artifact, &image];
            let line = env.kelp(&words).fails(125);
            assert!(
                line.contains("/one: duplicate mount destination"),
                "{mount} {place}: {line}"
            );
        }
    }
}

/// What is a directory is seen where it is mounted: links from one layer to another, what other mounts bring, and
/// what kelp itself makes.
#[test]
fn a_file_goes_into_what_is_a_directory_by_then() {
    let Some(env) = Env::new() else { return };
    let name = Artifact::new()
        .file("only", "alone\n")
        .pulled(&env, "artifacts/mount-by-then");
    let busybox = env.busybox();
    let layer = |image: &str, script: &str, new: &str| {
        let words = ["run", "--name=layer", image, "sh", "-c", script];
        env.kelp(&words).succeeds();
        env.kelp(&["commit", "-q", "layer", new]).succeeds();
        env.kelp(&["rm", "layer"]).succeeds();
    };
    layer(&busybox, "mkdir /real", "one");
    layer(
        "one",
        "ln -s /real /data; echo >/file; ln -s /file /link",
        "two",
    );
    let bare = env.word("h/bare");
    fs::create_dir(&bare).unwrap();
    let root = format!("{bare}:/bare");
    env.shell(
        &["-v", &root],
        "cp -a /bin /bare; mkdir /bare/proc /bare/dev /bare/sys",
    );
    env.shell(&["-v", "v:/v"], "mkdir /v/conf; echo >/v/file");
    let of_volume = ["-v", "v:/v"];
    let crun: &[&str] = if lacks("crun") {
        &[]
    } else {
        &["--runtime=crun"]
    };
    for (image, flags, target, file) in [
        ("two", &[][..], "/data", "/real/only"),
        ("two", crun, "/data", "/real/only"),
        ("two", &[], "/link", "/file"),
        (&bare, &["--rootfs"], "/etc", "/etc/only"),
        (&busybox, &of_volume, "/v/conf", "/v/conf/only"),
        (&busybox, &of_volume, "/v/file", "/v/file"),
        (&busybox, &of_volume, "/v/new", "/v/new"),
    ] {
        let mount = format!("type=artifact,src={name},dst={target}");
        let words = [
            &["run", "--rm", "--mount", &mount],
            flags,
            &[image, "cat", file],
        ]
        .concat();
        assert_eq!(env.kelp(&words).succeeds(), "alone\n", "{image} {target}");
    }
}

/// Whoever the container's root is, and whoever makes the container.
#[test]
fn files_are_mounted_in_containers_of_every_kind() {
    let Some(env) = Env::new() else { return };
    let name = two().pulled(&env, "artifacts/mount-kinds");
    let mount = format!("type=artifact,src={name},dst=/d");
    let mut kinds = vec![
        "--userns=keep-id",
        "--userns=auto",
        "--read-only",
        "--userns=nomap",
    ];
    kinds.extend((!lacks("crun")).then_some("--runtime=crun"));
    for kind in kinds {
        let said = env.shell(&["--mount", &mount, kind], "cat /d/*; ls -A /d");
        assert_eq!(said, "first\nsecond\none\ntwo\n", "{kind}");
    }
    let image = env.busybox();
    let words = [
        "--storage-driver=vfs",
        "run",
        "--rm",
        "--mount",
        &mount,
        &image,
        "true",
    ];
    let line = env.kelp(&words).fails(125);
    assert!(
        line.contains("it needs an overlay, and none can be mounted here"),
        "{line}"
    );
    // A container that is made is one that can be started later, and shows what it mounts.
    let words = [
        "create",
        "--name=made",
        "--mount",
        &mount,
        &image,
        "cat",
        "/d/two",
    ];
    env.kelp(&words).succeeds();
    let format = "{{range .Mounts}}{{.Type}} {{.Source}} {{.Destination}} {{.RW}}\n{{end}}";
    let mounts = env.kelp(&["inspect", "-f", format, "made"]).succeeds();
    assert!(
        mounts.contains(&format!("artifact {name} /d/one false\n")),
        "{mounts}"
    );
    assert_eq!(env.kelp(&["start", "-a", "made"]).succeeds(), "second\n");
    // With --rootfs, whose directory is looked at.
    let root = env.word("h/root");
    fs::create_dir(&root).unwrap();
    let script = "cp -a /bin \"$0\"; mkdir \"$0\"/data \"$0\"/proc \"$0\"/dev \"$0\"/sys";
    let volume = format!("{root}:{root}");
    let copy = [
        "run", "--rm", "-v", &volume, &image, "sh", "-c", script, &root,
    ];
    env.kelp(&copy).succeeds();
    let mount = format!("type=artifact,src={name},dst=/data,title=one");
    let words = [
        "run",
        "--rm",
        "--mount",
        &mount,
        "--rootfs",
        &root,
        "cat",
        "/data/one",
    ];
    assert_eq!(env.kelp(&words).succeeds(), "first\n");
    env.kelp(&["rm", "made"]).succeeds();
}

/// With all that a container can be given.
#[test]
fn nobody_in_a_container_changes_a_blob() {
    let Some(env) = Env::new() else { return };
    let name = two().pulled(&env, "artifacts/mount-written");
    env.busybox();
    let before = blobs(&env);
    let mount = format!("type=artifact,src={name},dst=/d");
    let script = "for file in /d/one /d/two; do
            echo evil 2>/dev/null >$file && echo written
            mount -o remount,rw $file 2>/dev/null; mount -o remount,bind,rw $file 2>/dev/null
            echo evil 2>/dev/null >$file && echo written
            chmod 777 $file 2>/dev/null && echo changed
            mkdir -p /o; mount --bind $file /o 2>/dev/null
            echo evil 2>/dev/null >>$file && echo written
        done; umount /d/one 2>/dev/null; echo evil 2>/dev/null >>/d/one; cat /d/two";
    for flags in [
        &["--privileged"][..],
        &["--cap-add=ALL", "--security-opt=seccomp=unconfined"],
        &[],
    ] {
        let flags = [&["--mount", &mount], flags].concat();
        assert_eq!(env.shell(&flags, script), "second\n", "{flags:?}");
        assert_eq!(blobs(&env), before);
        assert_eq!(
            env.kelp(&["system", "check"]).done().exits(0),
            "",
            "{flags:?}"
        );
    }
}

#[test]
fn an_artifact_is_held_by_the_containers_that_mount_it() {
    let Some(env) = Env::new() else { return };
    let name = two().pulled(&env, "artifacts/mount-held");
    let mount = format!("type=artifact,src={name},dst=/d");
    let id = env.waiting("holds", &["--mount", &mount]);
    let line = env.kelp(&["artifact", "rm", &name]).fails(125);
    assert_eq!(
        line,
        format!(
            "Error: artifact {name} is in use by container {}",
            &id[..12]
        )
    );
    env.kelp(&["system", "prune", "-a", "-f"]).done().exits(0);
    let cat = |file: &str| env.kelp(&["exec", "holds", "cat", file]).succeeds();
    assert_eq!(cat("/d/one"), "first\n");
    // Another one gets the name; this container has what it was made with, also when it is started again.
    let file = env.word("h/one");
    fs::write(&file, "changed\n").unwrap();
    env.kelp(&["artifact", "add", "--replace", &name, &file])
        .succeeds();
    env.kelp(&["system", "prune", "-a", "-f"]).done().exits(0);
    assert_eq!(cat("/d/one"), "first\n");
    env.kelp(&["restart", "-t", "0", "holds"]).succeeds();
    assert_eq!(cat("/d/two"), "second\n");
    let copied = env.word("h/copied");
    env.kelp(&["cp", "holds:/d/two", &copied]).succeeds();
    assert_eq!(fs::read_to_string(&copied).unwrap(), "second\n");
    // The new one is held by nobody.
    env.kelp(&["artifact", "rm", &name]).succeeds();
    env.kelp(&["rm", "-f", "-t", "0", "holds"]).succeeds();
    assert_eq!(env.shell(&[], "echo still"), "still\n");
}
